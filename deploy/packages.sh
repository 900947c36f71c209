#!/usr/bin/env bash
# Installs the Debian packages that something needs, and only those whose programs are missing.
#
#   deploy/packages.sh [build] [demo] [test] [check] [bench]
set -euo pipefail

missing=()
# want PACKAGE TEST…: the package is missing when the test fails.
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
program() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }
postgres_server() { compgen -G '/usr/lib/postgresql/*/bin/initdb'; }

for purpose in "$@"; do
    case $purpose in
    build)
        # The C parts of libgit2, zlib and zstd come with their crates and are compiled.
        want build-essential program cc
        want build-essential program make
        want pkg-config program pkg-config
        want git program git
        ;;
    demo)
        want openssh-server program sshd
        want openssh-client program ssh
        want git program git
        want age program age-keygen
        want jq program jq
        want postgresql postgres_server
        want postgresql-client program pg_dump
        want diffutils program diff
        want procps program ps
        ;;
    test)
        want mariadb-server-core program mariadbd
        want mariadb-client program mariadb-dump
        want sqlite3 program sqlite3
        want python3 program python3
        want zstd program zstd
        want age program age
        want b3sum program b3sum
        want passwd program useradd
        want slapd program slapadd
        want ldap-utils program ldapadd
        want acl program getfacl
        want attr program getfattr
        want e2fsprogs program mkfs.ext4
        want e2fsprogs program filefrag
        want fuse3 program fusermount3
        want openssl program openssl
        want dpkg-dev program dpkg-shlibdeps
        want debootstrap program debootstrap
        want systemd program systemd-analyze
        want man-db program man
        want ansible-core program ansible-playbook
        want iproute2 program ip
        want nftables program nft
        want btrfs-progs program mkfs.btrfs
        want python3-aiosmtpd /usr/bin/python3 -c 'import aiosmtpd'
        want nginx-light program nginx
        want fcgiwrap program fcgiwrap
        want cgit test -x /usr/lib/cgit/cgit.cgi
        want chromium program chromium
        want chromium-driver program chromedriver
        # Has promtool, too.
        want prometheus program promtool
        want npm program npm
        ;;
    bench)
        want openssh-server program sshd
        want openssh-client program ssh
        want git program git
        want age program age-keygen
        want python3 program python3
        want zstd program zstd
        want diffutils program diff
        want postgresql postgres_server
        ;;
    check)
        want shellcheck program shellcheck
        want git program git
        ;;
    *)
        printf 'packages.sh: no list for %s\n' "$purpose" >&2
        exit 2
        ;;
    esac
done

# What tests run inside of a browser, pinned by its digest; it is no Debian package.
browser_modules() {
    local folder
    folder=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../tests/browser" && pwd -P)
    case " $* " in *" test "*) ;; *) return 0 ;; esac
    # npm notes what it has installed in a file of its own.
    ! [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ] || return 0
    (cd -- "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
}

[ "${#missing[@]}" -gt 0 ] || {
    browser_modules "$@"
    exit 0
}
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if ! command -v apt-get >/dev/null; then
    printf 'packages.sh: this machine has no apt-get; install what these Debian packages hold: %s\n' "${missing[*]}" >&2
    exit 1
fi
root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        printf 'packages.sh: these packages are missing: %s; run as root: apt-get install %s\n' "${missing[*]}" "${missing[*]}" >&2
        exit 1
    }
    root=(sudo)
fi
printf 'Installing: %s\n' "${missing[*]}"
"${root[@]}" apt-get -qq update
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
browser_modules "$@"
