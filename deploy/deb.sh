#!/usr/bin/env bash
# Makes the three Debian packages from programs that are built: nightsafe, nightsafe-server, and nightsafe-gate, which both need.
#
#   deploy/deb.sh release|debug DIR     into DIR; the programs are those in target/release or target/debug
#
# "make deb" builds them first. cargo-deb puts the packages together; what goes into each lies in target/deb/ before that, as it
# will lie on the machine.
set -euo pipefail
umask 022
[ $# = 2 ] || {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
profile=$1
mkdir -p -- "$2"
out=$(cd -- "$2" && pwd -P)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
for program in nightsafe nightsafe-server nightsafe-gate manual; do
    [ -x "target/$profile/$program" ] || {
        printf 'deb.sh: target/%s/%s is not built; make deb builds it\n' "$profile" "$program" >&2
        exit 1
    }
done

stage=target/deb
rm -rf "$stage"
mkdir -p "$stage"
"target/$profile/manual" pages "$stage/manual"

# put PACKAGE PLACE FILE…: files that a package brings, readable by all.
put() {
    local package=$1 place=$2
    shift 2
    install -m 0644 -D --target-directory "$stage/files/$package/$place" -- "$@"
}
# put_as PACKAGE PATH FILE: the same under another name. What this page's readers install by hand lies in /usr/local.
put_as() {
    mkdir -p "$stage/files/$1/$(dirname -- "$2")"
    sed 's,/usr/local/bin/,/usr/bin/,g' "$3" >"$stage/files/$1/$2"
}

man_of() {
    case $1 in
    nightsafe) find "$stage/manual/man" -name 'nightsafe.1' -o -name 'nightsafe-*.1' ! -name 'nightsafe-server*' ! -name 'nightsafe-gate*' ;;
    *) find "$stage/manual/man" -name "$1.1" -o -name "$1-*.1" ;;
    esac
}

# The version's changes, in the form that Debian reads: the points of the first section, with the lines that go on.
changelog() {
    printf '%s (%s-1) unstable; urgency=medium\n\n' "$1" "$version"
    awk '/^## / && section++ { exit } /^- / { point = 1; print "  * " substr($0, 3); next } /^  / && point { print "  " $0; next } { point = 0 }' CHANGELOG.md
    printf '\n -- The Nightsafe authors <nightsafe@localhost>  %s\n' "$(LC_ALL=C date -u -R -d "@$epoch")"
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

# cargo-deb takes it over as it stands.
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Nightsafe\n\nFiles: *\n'
    printf 'Copyright: 2026 The Nightsafe authors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n'
    sed '1,/^Copyright/d; s/^$/./; s/^/ /' LICENSE-MIT | sed '1{/^ \.$/d}'
    printf '\nLicense: Apache-2.0\n On Debian the whole text is in /usr/share/common-licenses/Apache-2.0.\n'
} >"$stage/copyright"

for package in nightsafe nightsafe-server nightsafe-gate; do
    put "$package" usr/lib/sysusers.d "deploy/deb/sysusers.d/$package.conf"
    put "$package" usr/lib/tmpfiles.d "deploy/deb/tmpfiles.d/$package.conf"
    mapfile -t pages < <(man_of "$package")
    put "$package" usr/share/man/man1 "${pages[@]}"
    gzip -9n "$stage/files/$package/usr/share/man/man1/"*.1
    put "$package" usr/share/bash-completion/completions "$stage/manual/bash/$package"
    put "$package" usr/share/zsh/vendor-completions "$stage/manual/zsh/_$package"
    put "$package" usr/share/fish/vendor_completions.d "$stage/manual/fish/$package.fish"
    mkdir -p "$stage/files/$package/usr/share/doc/$package"
    changelog "$package" | gzip -9n >"$stage/files/$package/usr/share/doc/$package/changelog.Debian.gz"
done

units=deploy/systemd
put nightsafe-gate usr/lib/systemd/system "$units/nightsafe.slice" "$units/nightsafe-failed@.service"
install -m 0755 -D "$units/unit-failed.sh" "$stage/programs/nightsafe-gate/unit-failed"
put nightsafe-gate usr/share/doc/nightsafe-gate README.md docs/*.md docs/*.sh
put nightsafe-gate usr/share/doc/nightsafe-gate/reference docs/reference/*.md

put nightsafe usr/lib/systemd/system "$units"/nightsafe-watch.service "$units"/nightsafe-send.{service,timer}
put_as nightsafe etc/ssh/sshd_config.d/nightsafe.conf deploy/sshd/account.conf
put nightsafe usr/share/doc/nightsafe/examples deploy/cron/nightsafe
install -m 0755 -D hooks/post-update "$stage/programs/nightsafe/post-update"

put nightsafe-server usr/lib/systemd/system "$units"/nightsafe-server-watch.service "$units"/nightsafe-poll.{service,timer} \
    "$units"/nightsafe-gate-maintain.{service,timer} "$units"/nightsafe-web.service "$units"/nightsafe-fetch.slice
put nightsafe-server usr/share/nightsafe-server "$units"/sessions.conf
put_as nightsafe-server etc/ssh/sshd_config.d/nightsafe-server.conf deploy/sshd/node.conf
put nightsafe-server usr/share/doc/nightsafe-server/examples deploy/cron/nightsafe-server
put nightsafe-server usr/share/doc/nightsafe-server/examples/cgit deploy/cgit/*
put nightsafe-server usr/share/doc/nightsafe-server/examples/web deploy/web/*

# scripts PACKAGE ACCOUNTS SESSIONS ENABLED UNITS
scripts() {
    local script
    mkdir -p "$stage/scripts/$1"
    for script in postinst prerm postrm; do
        sed "s/@PACKAGE@/$1/g; s/@ACCOUNTS@/$2/; s/@SESSIONS@/$3/; s/@ENABLED@/$4/; s/@UNITS@/$5/" "deploy/deb/$script" >"$stage/scripts/$1/$script"
    done
}
watch=nightsafe-server-watch.service
scripts nightsafe-gate "" "" "" ""
scripts nightsafe nightsafe "" nightsafe-watch.service "nightsafe-watch.service nightsafe-send.timer"
scripts nightsafe-server "ns-gate ns-poll ns-read" ns-gate "$watch nightsafe-gate-maintain.timer" \
    "$watch nightsafe-gate-maintain.timer nightsafe-poll.timer nightsafe-web.service"

more=(--compress-system)
# A package that is made to be thrown away is not worth the best compression.
[ "$profile" = release ] || more+=(--profile dev --strip --fast -Z gz)
for package in nightsafe nightsafe-server nightsafe-gate; do
    SOURCE_DATE_EPOCH=$epoch "${CARGO:-cargo}" deb --quiet --no-build "${more[@]}" --package "$package" --output "$out/"
done
