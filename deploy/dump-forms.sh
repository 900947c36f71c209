#!/usr/bin/env bash
# Measures how well two successive dumps of a PostgreSQL database deduplicate, for each form that pg_dump can write.
# The table in docs/postgres.md comes from here. Sizes are MiB; what is stored is compressed and encrypted.
# Needs the built programs, PostgreSQL's server, and 8 GiB in /tmp.
#
#   deploy/dump-forms.sh [ROWS]       400000 rows make a dump of about 300 MB
#
# Streams are given to the postgres module by a pg_dump of our own that prints what the real one wrote before; the
# directory form goes through the files module. Each form has an installation of its own, so that none helps another.
set -euo pipefail
export LC_ALL=C.UTF-8

rows=${1:-400000}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
work=$(mktemp -d /tmp/nsforms.XXXXXX)
chmod 0711 "$work"
bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 | sort -V | tail -n 1)
as_postgres() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
finish() {
    as_postgres "$bin/pg_ctl" -D "$work/pg/data" -m immediate stop >/dev/null 2>&1 || true
    for safe in "$work"/safe-*; do [ ! -d "$safe" ] || "$here/loopback.sh" "$safe" stop >/dev/null 2>&1 || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$work/pg" "$work/bin"
[ "$(id -u)" != 0 ] || chown postgres "$work/pg"
as_postgres "$bin/initdb" -D "$work/pg/data" -A trust -U postgres -E UTF8 --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$work/pg/data" -w -l "$work/pg/log" -o "-k $work/pg -c listen_addresses='' -c fsync=off" start >/dev/null
export PGHOST=$work/pg PGUSER=postgres
sql() { psql -X -q -v ON_ERROR_STOP=1 -d shop -c "$1"; }
psql -X -q -c 'CREATE DATABASE shop' postgres
# Customers with a long text each, and orders, which are many and short.
sql "CREATE TABLE customers (id int PRIMARY KEY, name text, since timestamptz, about text);
     INSERT INTO customers SELECT i, 'customer ' || i, '2020-01-01'::timestamptz + i * interval '1 minute',
         (SELECT string_agg(md5(i::text || j), ' ') FROM generate_series(1, 15) j) FROM generate_series(1, $rows) i;
     CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10, 2), state text, placed timestamptz);
     INSERT INTO orders SELECT i, 1 + (i * 7919::bigint) % $rows, (i % 99999) / 100.0, 'shipped', '2020-01-01'::timestamptz + i * interval '10 seconds'
         FROM generate_series(1, $rows * 3) i;
     CREATE INDEX ON orders (customer);"

# The states: as it was; the newest 2 % of the rows change and 1 % is added; 2 % change in 20 places; 2 % change all over.
dump_all() {
    pg_dump -d shop -Fc -Z0 -f "$work/$1.custom"
    pg_dump -d shop -Fc -f "$work/$1.custom-gzip"
    pg_dump -d shop -Fp -f "$work/$1.plain"
    pg_dump -d shop -Ft -f "$work/$1.tar"
    pg_dump -d shop -Fd -Z0 -f "$work/$1.directory"
    pg_dump -d shop -Fd -f "$work/$1.directory-gzip"
}
dump_all 1
sql "UPDATE orders SET state = 'returned' WHERE id > $rows * 3 * 0.98;
     UPDATE customers SET about = 'changed ' || about WHERE id > $rows * 0.98;
     INSERT INTO orders SELECT $rows * 3 + i, i, 1, 'new', now() FROM generate_series(1, $rows / 100) i"
sql VACUUM
dump_all 2
sql "UPDATE orders SET state = 'lost' WHERE id % ($rows * 3 / 20) < $rows * 3 / 1000;
     UPDATE customers SET about = 'changed ' || about WHERE id % ($rows / 20) < $rows / 1000"
sql VACUUM
dump_all 3
sql "UPDATE orders SET state = 'returned' WHERE id % 50 = 7; UPDATE customers SET about = 'changed ' || about WHERE id % 50 = 7"
sql VACUUM
dump_all 4

cat >"$work/bin/pg_dump" <<END
#!/bin/sh
if [ "\$1" = --version ]; then exec "$bin/pg_dump" --version; fi
exec cat "$work/now"
END
chmod 0755 "$work/bin/pg_dump"
ln -s "$bin/psql" "$work/bin/psql"

mib() { awk -v n="$1" 'BEGIN { printf "%.1f", n / 1048576 }'; }
printf '%-16s %8s %8s %10s %13s %12s\n' form dump first 'newest 2%' '2%, 20 places' '2% all over'
for form in custom plain tar directory custom-gzip directory-gzip; do
    safe=$work/safe-$form
    "$here/loopback.sh" "$safe" >/dev/null
    printf '\n[module.postgres]\nhost = "%s"\nuser = "postgres"\nbin = "%s"\n' "$work/pg" "$work/bin" >>"$safe/client.toml"
    (
        # shellcheck disable=SC1091  # made a moment ago
        . "$safe/env"
        sizes=()
        before=0
        for state in 1 2 3 4; do
            if [ -d "$work/$state.$form" ]; then
                rm -rf "$work/now"
                mv "$work/$state.$form" "$work/now"
                nightsafe submit files "$work/now" >/dev/null
            else
                mv -T "$work/$state.$form" "$work/now"
                nightsafe submit postgres shop >/dev/null
            fi
            [ "$state" != 1 ] || size=$(du -sb "$work/now" | cut -f1)
            nightsafe send && nightsafe-server poll && nightsafe send
            after=$(du -sb "$safe/node/data/web1/packs" | cut -f1)
            sizes+=("$(mib $((after - before)))")
            before=$after
        done
        printf '%-16s %8s %8s %10s %13s %12s\n' "$form" "$(mib "$size")" "${sizes[@]}"
    )
    rm -rf "$work/now"
    "$here/loopback.sh" "$safe" stop >/dev/null
    rm -rf "$safe"
done
