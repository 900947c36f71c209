#!/bin/sh
# unit-failed UNIT: tell of a unit that failed, in the journal and by mail. Started by nightsafe-failed@.service.
set -eu
unit=$1
to=${NIGHTSAFE_FAILED_TO:-root}
sendmail=${NIGHTSAFE_SENDMAIL:-/usr/sbin/sendmail}
host=$(uname -n)
# The prefix is the level of an error, for the journal.
echo "<3>$unit failed. Look at it: systemctl status $unit; journalctl -u $unit"
# Without a mail program the journal has to do.
[ -x "$sendmail" ] || exit 0
{
    printf 'To: %s\nSubject: Nightsafe: %s failed on %s\nAuto-Submitted: auto-generated\n\n' "$to" "$unit" "$host"
    printf '%s failed on %s. Its last words:\n\n' "$unit" "$host"
    journalctl --no-pager --quiet --output cat --lines 20 --unit "$unit" 2>/dev/null || echo '(the journal has none)'
    printf '\nLook at it: systemctl status %s; journalctl -u %s\n' "$unit" "$unit"
} | "$sendmail" -i -- "$to"
