#!/usr/bin/env bash
# From nothing to three backups that are restored and compared: a git repository, a folder, a PostgreSQL database,
# on a node that is reached through a real sshd. `make demo` builds the programs and installs the packages first.
#
#   KEEP=1 deploy/demo.sh      keeps the folder, to look around in it afterwards
#
# What is compared is compared by git, find, diff, psql and pg_dump, not by Nightsafe.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
# A short path, because control sockets of ssh have to be short.
demo=$(mktemp -d /tmp/nightsafe-demo.XXXXXX)
chmod 0711 "$demo" # PostgreSQL's account has to get to its own folder below
safe=$demo/safe

heading() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }
bytes() { awk -v n="$1" 'BEGIN { if (n < 1048576) printf "%.0f KiB", n / 1024; else printf "%.1f MiB", n / 1048576 }'; }
size() { du -sb --apparent-size "$@" 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }

# initdb refuses root, so as root the cluster is PostgreSQL's own account's.
postgres_bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)
[ -n "$postgres_bin" ] || fail "PostgreSQL's server is not installed; run deploy/packages.sh demo"
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

finish() {
    local status=$?
    [ ! -d "$demo/pg/data" ] || as_postgres "$postgres_bin/pg_ctl" -D "$demo/pg/data" -m immediate stop >/dev/null 2>&1 || true
    [ ! -d "$safe" ] || "$here/loopback.sh" "$safe" stop >/dev/null || true
    if [ -n "${KEEP-}" ] || [ "$status" != 0 ]; then
        printf '\nThe folder is kept: %s\n' "$demo"
        printf 'To go on with it:  %s/loopback.sh %s && . %s/env && nightsafe snapshots\n' "$here" "$safe" "$safe"
    else
        chmod -R u+rwX "$demo" && rm -rf "$demo"
    fi
    return "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- sources ---------------------------------------------------------------------------------------------------

# The project's own history where there is enough of it, otherwise one that is made up.
make_repository() {
    local top
    top=$(git -C "$here" rev-parse --show-toplevel 2>/dev/null || true)
    if [ -n "$top" ] && [ "$(git -C "$top" -c safe.directory='*' rev-list --count HEAD 2>/dev/null || echo 0)" -ge 200 ] &&
        git -c safe.directory='*' clone -q --mirror "$top" "$1" 2>/dev/null; then
        return
    fi
    git init -q --bare -b main "$1"
    awk 'BEGIN {
        srand(7)
        for (i = 1; i <= 400; i++) {
            branch = i % 40 == 0 ? "refs/heads/topic-" (i / 40) : "refs/heads/main"
            printf "commit %s\nmark :%d\nauthor A U Thor <author@example.org> %d +0100\ncommitter C O Mitter <committer@example.org> %d +0100\n", branch, i, 1.6e9 + i * 3600, 1.6e9 + i * 3600
            message = "Change " i
            printf "data %d\n%s\n", length(message), message
            if (i > 1) printf "from :%d\n", last
            if (i % 40 != 0) last = i
            if (i % 40 == 10 && i > 40) printf "merge :%d\n", i - 10
            for (f = 0; f < 3; f++) {
                text = ""
                for (l = 0; l < 60; l++) text = text sprintf("%d %d %f\n", i, l, rand())
                printf "M %s inline src/%d/file-%d.txt\ndata %d\n%s\n", f == 2 ? "100755" : "100644", i % 23, f, length(text), text
            }
            if (i % 25 == 0) printf "reset refs/tags/light-%d\nfrom :%d\n\n", i, i
            if (i % 50 == 0) printf "tag v%d\nfrom :%d\ntagger T Agger <tagger@example.org> %d +0000\ndata 9\nA release\n", i / 50, i, 1.6e9 + i * 3600
        }
    }' | git -C "$1" fast-import --quiet
}

# Documents and the like of this machine, and what people forget to copy.
make_folder() {
    local from
    mkdir "$1"
    for from in /usr/share/doc /usr/share/zoneinfo /usr/share/perl /usr/share/perl5 /usr/share/locale /usr/include; do
        [ "$(find "$1" -type f | wc -l)" -lt 2500 ] || break
        # Files that this user may not read are none of the demo's.
        [ ! -d "$from" ] || cp -a "$from" "$1/" 2>/dev/null || true
    done
    mkdir -p "$1/odd/empty" "$1/odd/closed" "$1/odd/with space"
    printf 'once\n' >"$1/odd/hard-1"
    ln "$1/odd/hard-1" "$1/odd/hard-2"
    ln -s hard-1 "$1/odd/link"
    ln -s /nowhere/at/all "$1/odd/dangling"
    printf 'x' >"$1/odd/with space/$(printf 'line\nbreak')"
    printf 'y' >"$1/odd/$(printf 'latin1-\344')"
    truncate -s 8M "$1/odd/sparse"
    head -c 6000000 /dev/urandom >"$1/odd/random"
    printf '#!/bin/sh\n' >"$1/odd/program"
    chmod 0755 "$1/odd/program"
    chmod 0700 "$1/odd/closed"
    chmod 0600 "$1/odd/random"
    chmod 2770 "$1/odd/empty"
    touch -d '2001-02-03 04:05:06.789012345 UTC' "$1/odd/hard-1" "$1/odd/empty"
}

make_database() {
    mkdir "$demo/pg"
    [ "$(id -u)" != 0 ] || chown postgres "$demo/pg"
    as_postgres "$postgres_bin/initdb" -D "$demo/pg/data" -A trust -U postgres -E UTF8 --no-sync >/dev/null
    as_postgres "$postgres_bin/pg_ctl" -D "$demo/pg/data" -w -l "$demo/pg/log" -o "-k $demo/pg -c listen_addresses='' -c fsync=off" start >/dev/null
    createdb shop
    psql -X -q -v ON_ERROR_STOP=1 -d shop <<'END'
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE, since timestamptz);
CREATE TABLE purchase (id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES customer, at timestamptz, cents bigint CHECK (cents >= 0), note text, picture bytea);
CREATE INDEX ON purchase (customer, at);
CREATE VIEW revenue AS SELECT customer, sum(cents) AS cents FROM purchase GROUP BY customer;
CREATE FUNCTION total(c int) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT coalesce(sum(cents), 0) FROM purchase WHERE customer = c';
INSERT INTO customer (name, email, since) SELECT 'Customer ' || i, 'c' || i || '@example.org', timestamptz '2020-01-01 UTC' + i * interval '1 hour' FROM generate_series(1, 20000) i;
INSERT INTO purchase (customer, at, cents, note, picture) SELECT 1 + i % 20000, timestamptz '2021-01-01 UTC' + i * interval '1 minute', i % 9999, md5(i::text), decode(md5((i * 7)::text), 'hex') FROM generate_series(1, 200000) i;
END
}

heading 'A node, a client and an sshd on this machine'
"$here/loopback.sh" "$safe"
# shellcheck source=/dev/null
. "$safe/env"

heading 'What is to be backed up'
export PGHOST=$demo/pg PGUSER=postgres
make_repository "$demo/project.git"
make_folder "$demo/folder"
make_database
commits=$(git -C "$demo/project.git" rev-list --all --count)
refs=$(git -C "$demo/project.git" for-each-ref | wc -l)
files=$(find "$demo/folder" -type f -printf x | wc -c)
[ "$files" -ge 2000 ] || fail "this machine has only $files files to copy; 2,000 are wanted"
printf 'git       %s: %s commits, %s refs, %s\n' "$demo/project.git" "$commits" "$refs" "$(bytes "$(size "$demo/project.git")")"
printf 'files     %s: %s files, %s\n' "$demo/folder" "$files" "$(bytes "$(size "$demo/folder")")"
printf 'postgres  shop: 220000 rows, %s\n' "$(bytes "$(psql -XAtqc "SELECT pg_database_size('shop')" shop)")"
cat >>"$safe/client.toml" <<END

[module.postgres]
host = "$demo/pg"
user = "postgres"
END

# ---- backup ----------------------------------------------------------------------------------------------------

heading 'Backing up: submit, send, poll'
# back_up MODULE PATH
back_up() {
    local before start sent
    before=$(size "$safe/node/data/web1")
    start=$(now)
    nightsafe submit "$1" "$2" >/dev/null
    nightsafe send
    sent=$(since "$start")
    nightsafe-server poll
    nightsafe send
    printf '%-9s %s, of which submit and send %s; the node keeps %s more\n' "$1" "$(since "$start")" "$sent" "$(bytes $(($(size "$safe/node/data/web1") - before)))"
}
back_up git "$demo/project.git"
back_up files "$demo/folder"
back_up postgres shop
printf '\nThe same again, with one file, one commit and one row more:\n'
printf 'new\n' >"$demo/folder/odd/new"
blob=$(git -C "$demo/project.git" hash-object -w "$here/demo.sh")
tree=$(printf '100755 blob %s\tdemo.sh\n' "$blob" | git -C "$demo/project.git" mktree)
commit=$(git -C "$demo/project.git" -c user.name=demo -c user.email=demo@example.org commit-tree -p HEAD -m 'One more' "$tree")
git -C "$demo/project.git" update-ref refs/heads/demo "$commit"
psql -XqAt -d shop -c "INSERT INTO customer (name) VALUES ('One more')"
back_up git "$demo/project.git"
back_up files "$demo/folder"
back_up postgres shop

heading 'Who asked for what: the queue, signed by web1'
git -C "$safe/client/queues/node1.git" -c gpg.ssh.allowedSignersFile="$safe/allowed_signers" \
    log --format='%h %cd  %an  [signature: %G? %GS]  %s' --date=format:'%F %T' refs/heads/requests
heading 'What became of it: the receipts, signed by node1'
git -C "$safe/node/data/web1/receipts.git" -c gpg.ssh.allowedSignersFile="$safe/allowed_signers" \
    log --format='%h %cd  %an  [signature: %G? %GS]  %s' --date=format:'%F %T' refs/heads/receipts
heading 'What is stored'
nightsafe snapshots

# ---- restore ---------------------------------------------------------------------------------------------------

heading 'Restoring elsewhere'
mkdir "$demo/back"
start=$(now)
nightsafe restore "git:$demo/project.git" --target "$demo/back/project.git"
printf 'git       %s\n' "$(since "$start")"
start=$(now)
nightsafe restore "files:$demo/folder" --target "$demo/back/folder"
printf 'files     %s\n' "$(since "$start")"
start=$(now)
createdb shop_restored
nightsafe restore postgres:shop --into-db shop_restored
printf 'postgres  %s\n' "$(since "$start")"

heading 'Comparing'
git_facts() {
    git -C "$1" symbolic-ref HEAD
    git -C "$1" for-each-ref --format='%(objectname) %(objecttype) %(refname)'
    git -C "$1" rev-list --all --objects --no-object-names | sort
}
# A folder's own size says how its file system stores it, nothing else.
listing() {
    (cd "$1" && find . \( -type d -printf '%p %y %m %U:%G %T@\0' -o -printf '%p %y %m %U:%G %T@ %s %n %l\0' \) | sort -z)
}
links() { (cd "$1" && find . -type f -links +1 -printf '%i %p\0' | sort -z | awk -v RS='\0' '{ i = $1; $1 = ""; g[i] = g[i] $0 } END { for (i in g) print g[i] }' | sort); }
rows() { psql -XAtqd "$1" -c "SELECT 'customer', count(*) FROM customer UNION ALL SELECT 'purchase', count(*) FROM purchase ORDER BY 1"; }
# Newer releases put a random word into every dump.
dump() { pg_dump "$1" | grep -v -e '^\\restrict ' -e '^\\unrestrict '; }

git_facts "$demo/project.git" >"$demo/git.a"
git_facts "$demo/back/project.git" >"$demo/git.b"
diff "$demo/git.a" "$demo/git.b" || fail 'the restored repository differs'
git -C "$demo/back/project.git" fsck --full --strict --no-dangling >"$demo/fsck" 2>&1 || fail "git fsck: $(cat "$demo/fsck")"
listing "$demo/folder" >"$demo/files.a"
listing "$demo/back/folder" >"$demo/files.b"
cmp -s "$demo/files.a" "$demo/files.b" || fail "metadata differs: $(diff <(tr '\0' '\n' <"$demo/files.a") <(tr '\0' '\n' <"$demo/files.b") | head -n 20)"
links "$demo/folder" >"$demo/links.a"
links "$demo/back/folder" >"$demo/links.b"
diff "$demo/links.a" "$demo/links.b" || fail 'hard links differ'
diff -r --no-dereference "$demo/folder" "$demo/back/folder" || fail 'contents differ'
rows shop >"$demo/rows.a"
rows shop_restored >"$demo/rows.b"
diff "$demo/rows.a" "$demo/rows.b" || fail 'row counts differ'
dump shop >"$demo/dump.a"
dump shop_restored >"$demo/dump.b"
diff -q "$demo/dump.a" "$demo/dump.b" || fail 'the dumps differ'

printf 'git: %s refs, HEAD and %s objects are the same, and git fsck finds nothing wrong.\n' "$(git -C "$demo/back/project.git" for-each-ref | wc -l)" "$(git -C "$demo/back/project.git" rev-list --all --objects | wc -l)"
printf 'files: %s entries are the same in bytes, type, mode, owner, time, size and links.\n' "$(tr -cd '\0' <"$demo/files.b" | wc -c)"
printf 'postgres: %s rows and a dump of %s are the same.\n' "$(awk -F'|' '{ n += $2 } END { print n }' "$demo/rows.b")" "$(bytes "$(wc -c <"$demo/dump.b")")"
