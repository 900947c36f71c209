#!/usr/bin/env bash
# A whole Nightsafe installation under one folder on this machine: node, client, keyholder and restorer, and one sshd
# on a free loopback port. Needs no root and touches nothing outside the folder (as root sshd wants /run/sshd too).
#
#   deploy/loopback.sh DIR          make it, or start what was stopped; keeps everything that is there
#   deploy/loopback.sh DIR watch    the same, and both daemons
#   deploy/loopback.sh DIR stop     end what it started, and nothing else
#
# Afterwards:  . DIR/env && nightsafe submit files /usr/share/doc && nightsafe send && nightsafe-server poll
#
# The programs are taken from NIGHTSAFE_BIN, or from target/release or target/debug beside this script.
set -euo pipefail
umask 022

say() { printf '%s\n' "$*"; }
fail() {
    printf 'loopback.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit "$1"
}

case ${1-} in
-h | --help) usage 0 ;;
'' | -*) usage 2 >&2 ;;
esac
action=${2-start}
case $action in start | watch | stop) ;; *) usage 2 >&2 ;; esac
[ $# -le 2 ] || usage 2 >&2

if [ "$action" = stop ]; then
    [ -d "$1" ] || fail "$1 is not there"
else
    mkdir -p -- "$1"
fi
dir=$(cd -- "$1" && pwd -P)
# The name goes into sshd_config, authorized_keys and TOML; each of them quotes in its own way.
case $dir in *[!A-Za-z0-9/._+@,=-]*) fail "the folder's name must be of letters, digits and / . _ + @ , = - alone: $dir" ;; esac

exec 9>"$dir/.lock"
flock -w 60 9 || fail "another loopback.sh works on $dir"

# ---- processes -------------------------------------------------------------------------------------------------

# The time a process was started, in clock ticks since boot: with the number it names one process for ever.
started() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086  # the fields are to be split
    set -- $stat
    [ "$1" != Z ] || return 1
    printf '%s\n' "${20}"
}

# Whether the process recorded in DIR/NAME.pid still runs and is that very one.
running() {
    local pid start
    [ -s "$dir/$1.pid" ] || return 1
    read -r pid start <"$dir/$1.pid" || return 1
    [ -n "$start" ] && [ "$(started "$pid")" = "$start" ]
}

# launch NAME COMMAND…: starts it in a session of its own and records it.
launch() {
    local name=$1 pid
    shift
    setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 9>&- &
    pid=$!
    # The record must be of the program itself, so that it is compared with after its start.
    printf '%s %s\n' "$pid" "$(started "$pid" || echo 0)" >"$dir/$name.pid"
}

# A process and all that came from it, children first.
family() {
    local child
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null || pgrep -P "$1" || true); do family "$child"; done
    printf '%s\n' "$1"
}

# End the process recorded under NAME with its children; nothing happens when the number belongs to another by now.
end() {
    local pid members member i
    if running "$1"; then
        read -r pid _ <"$dir/$1.pid"
        members=$(for member in $(family "$pid"); do printf '%s:%s\n' "$member" "$(started "$member" || echo 0)"; done)
        signal_all TERM "$members"
        for ((i = 0; i < 100; i++)); do
            alive "$members" || break
            sleep 0.1
        done
        signal_all KILL "$members"
        say "ended $1 ($pid)"
    fi
    rm -f "$dir/$1.pid"
}

alive() {
    local member
    for member in $1; do [ "$(started "${member%%:*}")" = "${member##*:}" ] && return 0; done
    return 1
}

signal_all() {
    local member
    for member in $2; do
        # It may be gone between the two, which is as well.
        [ "$(started "${member%%:*}")" != "${member##*:}" ] || kill -s "$1" "${member%%:*}" 2>/dev/null || true
    done
}

if [ "$action" = stop ]; then
    end client-watch
    end node-watch
    end sshd
    exit 0
fi

# ---- programs --------------------------------------------------------------------------------------------------

source_folder=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
bin=${NIGHTSAFE_BIN-}
for candidate in "$source_folder/target/release" "$source_folder/target/debug"; do
    [ -n "$bin" ] || [ ! -x "$candidate/nightsafe-gate" ] || bin=$candidate
done
[ -n "$bin" ] || fail "the programs are not built; run 'cargo build --release' first, or say where they are in NIGHTSAFE_BIN"
bin=$(cd -- "$bin" && pwd -P)
case $bin in *[!A-Za-z0-9/._+@,=-]*) fail "the programs' folder has a name that sshd_config cannot hold: $bin" ;; esac
for program in nightsafe nightsafe-server nightsafe-gate; do
    [ -x "$bin/$program" ] || fail "$bin/$program is not there"
done

need() { command -v "$1" || { [ -x "/usr/sbin/$1" ] && echo "/usr/sbin/$1"; } || fail "$1 is missing; on Debian: apt-get install $2"; }
sshd=$(need sshd openssh-server)
need ssh-keygen openssh-client >/dev/null
need git git >/dev/null
need age-keygen age >/dev/null

# ---- files -----------------------------------------------------------------------------------------------------

user=$(id -un)
mkdir -p "$dir/node" "$dir/client" "$dir/admin" "$dir/restorer" "$dir/sshd" "$dir/run"
chmod 0700 "$dir/run"

key() { [ -f "$1" ] || ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$1"; }
key "$dir/sshd/host_ed25519" host
key "$dir/node/pull" node1
key "$dir/node/receipts" node1
key "$dir/client/id_ed25519" web1
key "$dir/admin/id_ed25519" alice
key "$dir/restorer/id_ed25519" carol
[ -f "$dir/identity.txt" ] || age-keygen -o "$dir/identity.txt" 2>/dev/null
recipient=$(sed -n 's/^# public key: //p' "$dir/identity.txt")
# A public key's type and text, without the comment.
public() { cut -d' ' -f1,2 "$1.pub"; }

# Sockets must have short paths; where this folder's is too long, the programs choose one of the user's.
runtime=
[ "${#dir}" -gt 56 ] || runtime="runtime = \"$dir/run\""

write_configs() {
    [ -f "$dir/client.toml" ] || cat >"$dir/client.toml" <<END
version = 1
name = "web1"
state = "$dir/client"
recipients = ["$recipient"]
$runtime

[[node]]
name = "node1"
ssh = "$user@127.0.0.1:$port"
host_key = "$(public "$dir/sshd/host_ed25519")"
receipts_key = "$(public "$dir/node/receipts")"
restore = { key = "$dir/restorer/id_ed25519" }

[[allow]]
module = "files"
under = "/"

[[allow]]
module = "git"
under = "/"

[[allow]]
module = "postgres"
under = "*"

[[allow]]
module = "mariadb"
under = "*"

[[allow]]
module = "sqlite"
under = "/"

[[allow]]
module = "dummy"
under = "*"
END
    [ -f "$dir/node.toml" ] || cat >"$dir/node.toml" <<END
version = 1
name = "node1"
data = "$dir/node/data"
gate = "$dir/node/gate"
pull_key = "$dir/node/pull"
receipts_key = "$dir/node/receipts"
admins = ["$(public "$dir/admin/id_ed25519") alice"]
$runtime
END
    [ -f "$dir/allowed_signers" ] || cat >"$dir/allowed_signers" <<END
web1 namespaces="git" $(public "$dir/client/id_ed25519")
node1 namespaces="git" $(public "$dir/node/receipts")
alice namespaces="git" $(public "$dir/admin/id_ed25519")
END
    cat >"$dir/client/authorized_keys" <<END
command="$bin/nightsafe-gate --config $dir/client.toml export node1",restrict $(public "$dir/node/pull") node1
END
    cat >"$dir/env" <<END
# Source this file:  . $dir/env
export PATH="$bin:\$PATH"
export NIGHTSAFE_CONFIG="$dir/client.toml"
export NIGHTSAFE_SERVER_CONFIG="$dir/node.toml"
export NIGHTSAFE_IDENTITY="$dir/identity.txt"
export NIGHTSAFE_SIGNERS="$dir/allowed_signers"
export NIGHTSAFE_SSHD_CONFIG="$dir/sshd_config"
END
    # As root sshd looks at the account and refuses one whose password is locked, unless PAM decides.
    local pam=no
    if [ "$(id -u)" = 0 ] && getent shadow "$user" | cut -d: -f2 | grep -q '^!'; then pam=yes; fi
    cat >"$dir/sshd_config" <<END
# Written anew by loopback.sh at each start.
ListenAddress 127.0.0.1
Port $port
HostKey $dir/sshd/host_ed25519
PidFile $dir/sshd/listening
AuthorizedKeysFile $dir/node/data/access/authorized_keys $dir/client/authorized_keys
StrictModes no
UsePAM $pam
AllowUsers $user
PermitRootLogin forced-commands-only
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no
PrintMotd no
AcceptEnv GIT_PROTOCOL
# bash, started by sshd, reads .bashrc unless it believes to be a second shell; on many machines that file takes longer
# than the whole request. On a real node the gate's account has /bin/sh.
SetEnv SHLVL=2${NIGHTSAFE_CRASH:+ NIGHTSAFE_CRASH=$NIGHTSAFE_CRASH}
MaxSessions 64
MaxStartups 256
LogLevel VERBOSE
END
}

# Folders and what else belongs to either side; what is there stays. What init says is for installations on two machines.
init_both() {
    [ -d "$dir/node/data/access" ] || "$bin/nightsafe-server" --config "$dir/node.toml" init >"$dir/init.log" 2>&1 9>&- || fail "$(cat "$dir/init.log")"
    [ -d "$dir/client/pool" ] || "$bin/nightsafe" --config "$dir/client.toml" init --address "$user@127.0.0.1:$port" --host-key "$dir/sshd/host_ed25519.pub" >"$dir/init.log" 2>&1 9>&- || fail "$(cat "$dir/init.log")"
    rm -f "$dir/init.log"
}

# When the port had to change, the addresses that name the old one follow.
move_port() {
    local file
    for file in "$dir/client.toml" "$dir/admin/access.toml"; do
        [ ! -f "$file" ] || sed -i "s/@127\.0\.0\.1:$1\"/@127.0.0.1:$2\"/" "$file"
    done
}

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# Below the range from which the kernel takes ports for outgoing connections.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)) && in_use "$port"; do :; done
    printf '%s\n' "$port"
}

start_sshd() {
    local try i old
    if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
    for ((try = 0; try < 20; try++)); do
        if [ -f "$dir/sshd/port" ]; then port=$(cat "$dir/sshd/port"); else port=$(free_port); fi
        if in_use "$port"; then
            old=$port
            port=$(free_port)
            move_port "$old" "$port"
        fi
        printf '%s\n' "$port" >"$dir/sshd/port"
        write_configs
        rm -f "$dir/sshd/listening"
        launch sshd "$sshd" -D -f "$dir/sshd_config" -E "$dir/sshd.log"
        # The file appears when the port is bound; a process that is gone did not get it.
        for ((i = 0; i < 200; i++)); do
            [ ! -s "$dir/sshd/listening" ] || return 0
            running sshd || break
            sleep 0.05
        done
        end sshd >/dev/null
        in_use "$port" || fail "sshd does not start; see $dir/sshd.log: $(tail -n 3 "$dir/sshd.log")"
    done
    fail "found no free port in $try tries"
}

# A daemon that runs already does the same.
poll_node() { "$bin/nightsafe-server" --config "$dir/node.toml" poll 9>&- || [ $? = 75 ]; }

# The signed list of who may do what goes the way that an administrator's goes: a signed commit, pushed through the gate.
publish_access() {
    local work=$dir/admin
    if [ ! -f "$work/access.toml" ]; then
        mkdir -p "$work/keys"
        cp "$dir/admin/id_ed25519.pub" "$work/keys/alice.pub"
        cp "$dir/client/id_ed25519.pub" "$work/keys/web1.pub"
        cp "$dir/restorer/id_ed25519.pub" "$work/keys/carol.pub"
        cat >"$work/access.toml" <<END
version = 1

[admin.alice]
keys = ["alice.pub"]

[client.web1]
keys = ["web1.pub"]
address = "$user@127.0.0.1:$port"
git_address = "$user@127.0.0.1:$port"
host_key = "$(public "$dir/sshd/host_ed25519")"
allow = ["*"]

[restorer.carol]
keys = ["carol.pub"]
read = ["web1:*"]
END
    fi
    admin_git() {
        GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_SSH_COMMAND="ssh -F none -i $work/id_ed25519 -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
-o ControlPath=none -o UserKnownHostsFile=$work/known_hosts -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes" \
            git -C "$work" -c user.name=alice -c user.email=alice@nightsafe.invalid -c gpg.format=ssh -c "user.signingKey=$work/id_ed25519.pub" "$@"
    }
    printf '[127.0.0.1]:%s %s\n' "$port" "$(public "$dir/sshd/host_ed25519")" >"$work/known_hosts"
    if [ ! -d "$work/.git" ]; then
        admin_git init -q -b access
        admin_git remote add node1 placeholder
    fi
    admin_git remote set-url node1 "ssh://$user@127.0.0.1:$port/admin"
    admin_git add access.toml keys
    if ! admin_git diff --cached --quiet 2>/dev/null || ! admin_git rev-parse -q --verify HEAD >/dev/null; then
        admin_git commit -q -S -m "Let web1 send and carol restore, on port $port"
    fi
    if [ "$(admin_git rev-parse HEAD)" != "$(cat "$work/pushed" 2>/dev/null)" ]; then
        # The first run lets in the administrators that node.toml names; the second carries out what was pushed.
        poll_node
        admin_git push -q node1 HEAD:refs/heads/access 9>&-
        poll_node
        admin_git rev-parse HEAD >"$work/pushed"
    fi
}

# ---- start -----------------------------------------------------------------------------------------------------

if running sshd; then
    port=$(cat "$dir/sshd/port")
    write_configs
else
    start_sshd
fi
init_both
publish_access

if [ "$action" = watch ]; then
    running node-watch || launch node-watch "$bin/nightsafe-server" --config "$dir/node.toml" watch
    running client-watch || launch client-watch "$bin/nightsafe" --config "$dir/client.toml" watch
fi

say "node1 and web1 are in $dir, sshd on 127.0.0.1:$port."
say "Next:  . $dir/env"
