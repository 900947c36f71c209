#!/bin/bash
# Starts cgit for nginx, as the account that reads mirrors and nothing else (ns-web in docs/install.md).
#
#   deploy/cgit/fcgiwrap.sh SOCKET
#
# It can start cgit alone. A page may take so much memory and no more: cgit reads each file whole that it shows, and a file of
# a client's can have any size. What asks for more ends, and the others go on.
set -eu
socket=$1
memory=$((512 * 1024)) # KiB, for each page

umask 007 # nginx is in the group
rm -f -- "$socket"
ulimit -c 0
ulimit -d "$memory"
exec /usr/sbin/fcgiwrap -f -c 4 -p /usr/lib/cgit/cgit.cgi -s "unix:$socket"
