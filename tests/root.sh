#!/usr/bin/env bash
# Makes a clean Debian in a folder, for the tests that install our packages; keeps one that is there. Needs root; without it
# nothing is made, and those tests are left out.
#
#   tests/root.sh DIR
#
# It is of this machine's release, from where this machine's packages come, and has what our packages need beside themselves, so
# that a test needs no network.
set -euo pipefail
umask 022
[ $# = 1 ] || {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ "$(id -u)" = 0 ] || exit 0
# What is in it. Another list makes another one.
packages=git,openssh-server,systemd-standalone-sysusers,systemd-standalone-tmpfiles,man-db,cron,python3,python3-apt,libgcc-s1
[ "$(cat "$1/root.packages" 2>/dev/null || true)" != "$packages" ] || exit 0

# shellcheck source=/dev/null
release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
from=$(apt-get indextargets --format "\$(REPO_URI) \$(RELEASE)" "Created-By: Packages" "Codename: $release" 2>/dev/null | awk -v r="$release" '$2 == r { print $1; exit }')
if [ -z "$from" ]; then from=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Codename: $release" | head -n 1); fi
rm -rf -- "$1" "$1.new"
printf 'Making a clean %s in %s\n' "$release" "$1"
debootstrap --variant=minbase --include="$packages" "$release" "$1.new" "$from" >"$1.log" 2>&1 || {
    tail -n 5 "$1.log" >&2
    exit 1
}
rm -rf -- "$1.new"/var/cache/apt/archives/*.deb "$1.new"/var/lib/apt/lists/*
printf '%s\n' "$packages" >"$1.new/root.packages"
mv -- "$1.new" "$1"
