#!/usr/bin/env bash
# How much memory 20 GB take: a sparse file and a database dump of zeros go through both ends and back.
#
#   deploy/big.sh [GIGABYTES]
#
# Ends with 1 when any of our programs held more than 256 MiB. Needs python3 for measuring, and PostgreSQL's server.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
gigabytes=${1-20}
limit=262144 # KiB
big=$(mktemp -d /tmp/nightsafe-big.XXXXXX)
chmod 0711 "$big"
safe=$big/safe
postgres_bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 | sort -V | tail -n 1)
as_postgres() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }

watcher=
finish() {
    local status=$?
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
    [ ! -d "$big/pg/data" ] || as_postgres "$postgres_bin/pg_ctl" -D "$big/pg/data" -m immediate stop >/dev/null 2>&1 || true
    [ ! -d "$safe" ] || "$here/loopback.sh" "$safe" stop >/dev/null || true
    rm -rf "$big"
    return "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

"$here/loopback.sh" "$safe" >/dev/null
# shellcheck source=/dev/null
. "$safe/env"

# The gate runs below sshd, where nobody waits for it that we could ask: its highest mark is read while it lives.
gate_peak() {
    local pid peak=0 now
    while sleep 0.1; do
        for pid in $(pgrep -f "nightsafe-gate --config $safe" || true); do
            now=$(awk '/^Name:/ { n = $2 } /^VmHWM:/ { if (n ~ /^nightsafe/) print $2 }' "/proc/$pid/status" 2>/dev/null || true)
            [ "${now:-0}" -le "$peak" ] || { peak=$now && printf '%s\n' "$peak" >"$big/gate"; }
        done
    done
}
echo 0 >"$big/gate"
gate_peak &
watcher=$!

worst=0
# measured NAME COMMAND…: runs it and tells time and the largest memory of it and its children.
measured() {
    local name=$1 line
    shift
    line=$(python3 - "$@" <<'END'
import resource, subprocess, sys, time
start = time.time()
code = subprocess.run(sys.argv[1:]).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, "%.1f" % (time.time() - start))
END
    )
    line=${line##*$'\n'}
    # shellcheck disable=SC2086  # three words
    set -- $line
    printf '%-34s %8s KiB  %7s s\n' "$name" "$2" "$3"
    [ "$1" = 0 ] || { printf '%s ended with %s\n' "$name" "$1" >&2 && exit 1; }
    [ "$2" -le "$worst" ] || worst=$2
}
round() {
    nightsafe submit "$2" "$3" >/dev/null
    measured "$1: nightsafe send" nightsafe send
    measured "$1: nightsafe-server poll" nightsafe-server poll
    measured "$1: nightsafe send (receipt)" nightsafe send
}

printf '%s GB each\n' "$gigabytes"
mkdir "$big/folder"
truncate -s "${gigabytes}G" "$big/folder/sparse"
round 'sparse file' files "$big/folder"
measured 'sparse file: nightsafe restore' nightsafe restore "files:$big/folder" --target "$big/back"
[ "$(stat -c %s "$big/back/sparse")" = "$(stat -c %s "$big/folder/sparse")" ]

# Rows of a million zeros, which the dump writes as two million digits: the cluster holds them compressed.
mkdir "$big/pg"
[ "$(id -u)" != 0 ] || chown postgres "$big/pg"
as_postgres "$postgres_bin/initdb" -D "$big/pg/data" -A trust -U postgres -E UTF8 --no-sync >/dev/null
as_postgres "$postgres_bin/pg_ctl" -D "$big/pg/data" -w -l "$big/pg/log" -o "-k $big/pg -c listen_addresses='' -c fsync=off" start >/dev/null
export PGHOST=$big/pg PGUSER=postgres
createdb zeros
psql -XqAt -v ON_ERROR_STOP=1 -d zeros -c "CREATE TABLE z AS SELECT decode(repeat('00', 1000000), 'hex') AS zeros FROM generate_series(1, $((gigabytes * 500)))"
printf '\n[module.postgres]\nhost = "%s"\nuser = "postgres"\n' "$big/pg" >>"$safe/client.toml"
round 'stream' postgres zeros
createdb zeros_restored
measured 'stream: nightsafe restore' nightsafe restore postgres:zeros --into-db zeros_restored
[ "$(psql -XAtqd zeros_restored -c 'SELECT count(*) FROM z')" = $((gigabytes * 500)) ]

gate=$(cat "$big/gate")
printf '%-34s %8s KiB\n' 'nightsafe-gate' "$gate"
[ "$gate" -le "$worst" ] || worst=$gate
printf 'The largest was %s MiB; the limit is %s MiB.\n' $((worst / 1024)) $((limit / 1024))
[ "$worst" -le "$limit" ]
