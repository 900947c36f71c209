#!/usr/bin/env bash
# How long a client waits for its receipt while another one floods the node: `make flood`, after make build.
#
#   REQUESTS=10000   requests that the other one pushes        LOGINS=1000   logins of its within a minute; once each ends at once,
#                                                              and once each is to stay
#
# Prints the middle and the longest of ROUNDS (9) requests: alone, during the requests, during the logins. What counts is how much
# longer it is than alone; a busy machine makes all of them longer.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
requests=${REQUESTS:-10000} logins=${LOGINS:-1000} rounds=${ROUNDS:-9}
dir=$(mktemp -d /tmp/nightsafe-flood-XXXX)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    "$here/loopback.sh" "$dir" stop >/dev/null
    rm -rf -- "$dir"
}
trap end EXIT
"$here/loopback.sh" "$dir" >/dev/null
# shellcheck disable=SC1091  # written just now
. "$dir/env"
cd "$dir"

# A second client, in the same account.
mkdir web2
ssh-keygen -q -t ed25519 -N '' -C web2 -f web2/id_ed25519
cp web2/id_ed25519.pub admin/keys/web2.pub
sed -e 's/^name = "web1"/name = "web2"/' -e "s|^state = .*|state = \"$dir/web2\"|" client.toml >web2.toml
sed -e 's/^\[client.web1\]/[client.web2]/; s/web1.pub/web2.pub/' admin/access.toml | sed -n '/^\[client.web2\]/,/^allow/p' >"web2/grant"
cat web2/grant >>admin/access.toml
nightsafe --config web2.toml init >init.log 2>&1
"$here/loopback.sh" "$dir" >/dev/null
nightsafe-server watch >watch.log 2>&1 &
pids+=($!)
nightsafe --config web2.toml watch >web2.log 2>&1 &
pids+=($!)

# Milliseconds from the word to the receipt, one a line.
ask() {
    local n began
    for ((n = 0; n < rounds; n++)); do
        began=$(date +%s%N)
        nightsafe --config web2.toml submit dummy "x$RANDOM$n" --wait --timeout 300s >/dev/null
        echo $((($(date +%s%N) - began) / 1000000))
    done | sort -n
}
say() { printf '%-36s middle %6s ms, longest %6s ms\n' "$1" "$(sed -n "$((rounds / 2 + 1))p" <<<"$2")" "$(tail -n 1 <<<"$2")"; }

ask >/dev/null
say alone "$(ask)"

# Files as submit writes them, which a client that was taken over may do as well.
nightsafe submit dummy f >/dev/null
sample=$(find client/pool/inbox -name 'C*')
id=$(basename "$sample")
for ((n = 1; n < requests; n++)); do
    next=C20260101T000000Z-$(printf '%08x' "$n")
    text=$(<"$sample")
    text=${text/"${id#C}"/"${next#C}"}
    printf '%s\n' "${text/'"f"'/"\"f$n\""}" >"client/pool/inbox/$next"
done
nightsafe send >flood.log 2>&1 &
flood=$!
pids+=($!)
sleep 1
say "while $requests requests come" "$(ask)"
waiting=$(find node/gate/handover/web1 -name '*.pack' 2>/dev/null | wc -l)
printf '%s\n' "at the end of that: $(find node/data/web1/pool -name 'F*' | wc -l) of them answered, $waiting packs not taken in, the sender $(kill -0 $flood 2>/dev/null && echo 'still at it' || echo 'done')"

port=$(cat sshd/port)
known=$dir/known
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 sshd/host_ed25519.pub)" >"$known"
knock() {
    ssh -F none -T -p "$port" -i "$dir/client/id_ed25519" -o BatchMode=yes -o IdentitiesOnly=yes -o ControlPath=none \
        -o UserKnownHostsFile="$known" -o LogLevel=ERROR "$(id -un)@127.0.0.1" "$1" <&7 >/dev/null 2>&1
}
# Nothing ever comes of this, and no end either.
mkfifo never
exec 7<>never
rush() {
    (for ((n = 0; n < logins; n++)); do
        knock "$1" &
        sleep "$(awk "BEGIN { print 60 / $logins }")"
    done) &
    pids+=($!)
    sleep 1
}
rush ping
say "during $logins logins in a minute" "$(ask)"
wait "${pids[-1]}"
rush "git-upload-pack 'queue'"
say "during $logins that are to stay" "$(ask)"
printf '%s\n' "at the end of that: $(pgrep -cf "git .*upload-pack .*$dir/node/gate/queues/web1.git" || true) sessions of it open"
