#!/usr/bin/env bash
# restore-by-hand.sh STORE SNAPSHOT IDENTITY TARGET: restores files with age, zstd, tar, jq, xargs and coreutils alone.
#
# STORE     a client's folder in a node's store, as in /srv/nightsafe/web1; nothing is written there
# SNAPSHOT  a name from STORE/snapshots; `latest` for what was accepted last; `latest:files:/var/www` for the last of a dataset
# IDENTITY  an age identity or ssh key that opens the archive
# TARGET    becomes what the dataset's path was (one file, or a dump, comes into it); must be new or empty, with as much room beside it
#
# NIGHTSAFE_SIGNERS names your own list of allowed signers, never one from the node. Without it, or without b3sum, what comes
# back is UNVERIFIED. A dump is given to pg_restore, or to psql behind a \restrict of your own. Take this script from a release,
# never from a store. Exit: 0 all is there and proven; 3 something is missing or was not proven; 1 failed; 2 wrong usage.
# How: packs are unpacked into chunks. jq makes tar headers of the catalog; cat puts headers and chunks together; tar does the rest.
# shellcheck disable=SC2016
set -euo pipefail
export LC_ALL=C && umask 077
say() { printf '%s\n' "$*" >&2; }; bad() { say "$*"; problems=1; }; die() { say "restore-by-hand: $*"; exit 1; }
[ $# = 4 ] || { say "usage: ${0##*/} STORE SNAPSHOT IDENTITY TARGET"; exit 2; }
for tool in age age-keygen zstd tar jq xargs basenc; do command -v $tool >/dev/null || die "$tool is not installed"; done
store=$(realpath -e -- "$1") id=$2 identity=$(realpath -e -- "$3") target=$(realpath -m -- "$4") problems=0
field() { jq -Rr --arg k "$2 = " 'select(startswith($k))[($k | length):] | fromjson? // .' "$1"; } # the value of a key in a small TOML file
# Which snapshot.
[[ $2 != latest* ]] || id=$(for note in "$store"/snapshots/*/accepted.toml; do
    [[ $2 != latest && $2 != "latest:$(field "$note" dataset)" ]] || printf '%s %s\n' "$(field "$note" order)" "$(field "$note" id)"
done | sort -n | tail -n1 | cut -d ' ' -f 2)
[[ $id =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]+$ && -d $store/snapshots/$id ]] || die "there is no snapshot $2 in $store"
snapshot=$store/snapshots/$id request=$store/snapshots/$id/request.toml
[ -f "$snapshot/manifest" ] || die "$id is no archive; clone its repository from $store/mirrors with git"
[ ! -e "$target" ] || [ -z "$(ls -A -- "$target")" ] || die "$target is there and is not empty"
mkdir -p -- "$target" && work=$(mktemp -d -- "${target%/*}/.restore-by-hand-XXXXXX")
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/all" "$work/z" && head -n1 "$snapshot/manifest" >"$work/public" && public() { jq -r "$1" "$work/public"; }
# The proof: signature -> commit -> tree -> request -> manifest. git's ids are the SHA-1 of a type, a size and the bytes.
object() { { printf '%s %s\0' "$1" "$(stat -c %s -- "$2")"; cat -- "$2"; } | sha1sum | head -c 40; }
blake() { ! command -v b3sum >/dev/null || [ "blake3:$(b3sum --no-names <"$1")" = "$2" ]; }
prove() {
    jq -Rsj 'sub("gpgsig .*\n( .*\n)*"; "")' "$snapshot/commit" >"$work/signed"
    jq -Rsj 'capture("gpgsig (?<s>.*\n( .*\n)*)").s | gsub("\n "; "\n")' "$snapshot/commit" >"$work/signature"
    ssh-keygen -Y verify -n git -f "$NIGHTSAFE_SIGNERS" -I "$(field "$request" client)" -s "$work/signature" <"$work/signed" >&2 ||
        die "the signature is wrong, or its key is not in $NIGHTSAFE_SIGNERS"
    [ "$(object tree "$snapshot/tree")" = "$(head -n1 "$work/signed" | cut -c 6-)" ] || die "the tree is not the one that was signed"
    line=$(printf '100644 RQ%s.toml\0' "$id" | basenc --base16 -w0)$(object blob "$request" | tr a-f A-F)
    [[ $(basenc --base16 -w0 "$snapshot/tree") == *"$line"* ]] || die "the request is not the one that was signed"
    for key in id client node dataset; do [ "$(field "$request" $key)" = "$(public ".$key")" ] || die "request and manifest differ in their $key"; done
    [ "$(field "$request" id)" = "$id" ] || die "the request is that of another snapshot"
}
if [ -n "${NIGHTSAFE_SIGNERS:-}" ]; then prove; else bad "UNVERIFIED: no list of allowed signers was given; anybody may have made this"; fi
command -v b3sum >/dev/null || bad "UNVERIFIED: b3sum is not installed, so no digest was checked"
blake "$snapshot/manifest" "$(field "$request" manifest)" || die "the manifest is not the one that the request names"
say "$(public '"\(.client):\(.dataset)"') as of $(field "$request" submitted), snapshot $id"
# The keys: the identity opens the epoch's (in the manifest, or in a key file that was added), and that opens all else.
for keys in "$work/public" "$store/keys/$(public .epoch.recipient)"/*.json; do
    if [ -f "$keys" ] && jq -r .epoch.key_file "$keys" | base64 -d | age -d -i "$identity" >"$work/epoch" 2>"$work/why" &&
        [ "$(age-keygen -y "$work/epoch")" = "$(public .epoch.recipient)" ]; then opened=yes; break; fi
done
[ -n "${opened:-}" ] || die "the identity does not open it ($(head -n1 "$work/why")); it was made for $(public '.epoch.recipients | join(", ")')"
tail -n +2 "$snapshot/manifest" | age -d -i "$work/epoch" >"$work/sealed"
[ "$(jq -c '[.version, .id, .dataset]' "$work/sealed")" = "$(public '[1, .id, .dataset] | tojson')" ] || die "a newer format, or parts of two manifests"
# The packs, as chunks in all/run/frame/n. What tar lists tells how long each is.
lost=
for digest in $(public '.packs[].digest'); do
    if ! blake "$store/packs/${digest#blake3:}" "$digest" || ! age -d -i "$work/epoch" "$store/packs/${digest#blake3:}" | zstd -dcq |
        tar -xvvif - -C "$work/all" --no-same-owner >"$work/listing" 2>"$work/why"; then bad "DAMAGED or missing: pack $digest"; lost+=" $digest"
    else cat "$work/listing" >>"$work/lengths"; fi
done
# What a later backup brought again of lost packs has the old names; the files' own digests say whether it is right.
for other in ${lost:+"$store"/snapshots/*/manifest}; do
    for digest in $(head -n1 "$other" | jq -r --arg l "$lost" '.repairs // empty | select(any(.of[]; inside($l))) | .packs[]'); do
        age -d -i "$work/epoch" "$store/packs/${digest#blake3:}" | zstd -dcq | tar -xvvif - -C "$work/all" --no-same-owner >"$work/listing" 2>"$work/why" &&
            cat "$work/listing" >>"$work/lengths" && say "a repair was read: pack $digest"
    done
done || true
jq -Rn '[inputs | select(startswith("d") | not) | capture("^-rw------- [^ ]+ +(?<value>[0-9]+) .* (?<key>[0-9a-f]{16}/[0-9]+/[0-9]+)$") // error("no chunk: \(.)") | .value |= tonumber]
    | from_entries' "$work/lengths" >"$work/sizes" || die "packs hold something else than chunks, or none is left"
# The catalog, from the root's segment to the lines. Lists that are too long for a line are put into it.
chunks() { jq -r 'if test("^[0-9a-f]{16}/[0-9]+/[0-9]+$") then . else error("no chunk: \(.)") end' | (cd "$work/all" && xargs -d '\n' -r cat --); }
jq .root.ref "$work/sealed" | chunks >"$work/level" || die "the catalog cannot be read"
for ((level = $(jq .root.level "$work/sealed"); level > 0; level--)); do
    jq .ref "$work/level" | chunks >"$work/below" || bad "MISSING: a part of the catalog"
    mv "$work/below" "$work/level"
done
members='def members: reduce split(",")[] as $i ({run: "", out: []};
    ($i | capture("^((?<run>[0-9a-f]{16})/)?(?<f>[0-9]+)/(?<a>[0-9]+)((-(?<b>[0-9]+))|(\\*(?<n>[0-9]+)))?$")) as $m | .run = ($m.run // .run) | "\(.run)/\($m.f)/" as $p
    | .out += [if $m.n then range($m.n | tonumber) | $p + $m.a else range($m.a | tonumber; ($m.b // $m.a | tonumber) + 1) | "\($p)\(.)" end]) | .out;'
while IFS= read -r line; do
    for key in more holes_more xattrs_more; do
        if [[ $line != *"\"$key\":"* ]] || ! jq --arg k $key "$members"'.[$k] | members[]' <<<"$line" >"$work/list" 2>/dev/null; then continue; fi
        chunks <"$work/list" >"$work/text" || bad "MISSING: a part of a long list"
        line=$(jq -c --arg k $key --rawfile t "$work/text" 'del(.[$k]) + ({more: {chunks: $t}, holes_more: {holes: $t}}[$k] // ($t | fromjson? // {}))' <<<"$line")
    done
    printf '%s\n' "$line"
done <"$work/level" >"$work/catalog"
# The plan: of each entry a pax and a ustar header in hex, its chunks, and zeros up to 512 bytes. Links come last, so that nothing is
# written through one. What has a path of over 3,000 bytes is written from a folder on the way (steps).
jq -cn --slurpfile s "$work/sizes" --arg file "$(public '.dataset | split("/") | last')" "$members"'
    [range(256) | "0123456789ABCDEF" as $d | $d[(. / 16 | floor):][:1] + $d[. % 16:][:1]] as $x
    | reduce ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" | explode | to_entries[]) as $t ([]; .[$t.value] = $t.key) | . as $six
    | def unb64: [[explode[] | $six[.] // empty] as $d | range(0; $d | length; 4) | $d[.:. + 4] | length as $l | .[0] * 262144 + .[1] * 4096 + (.[2] // 0) * 64 + (.[3] // 0)
        | $x[. / 65536 | floor], if $l > 2 then $x[(. / 256 | floor) % 256] else empty end, if $l > 3 then $x[. % 256] else empty end] | add // "";
    def hex: if utf8bytelength == length then [explode[] | $x[.]] | add // "" else @base64 | unb64 end;
    def zeros($n): if $n > 0 then "00" * $n else "" end; def oct($w): if $w == 0 then "" else (. / 8 | floor | oct($w - 1)) + "\(. % 8)" end;
    def raw($k; $v): (($k + $v | length) / 2 + 3) as $n | ($n + ("\($n)" | length)) | (if ("\(.)" | length) > ("\($n)" | length) then . + 1 else . end) | ("\(.) " | hex) + $k + "3D" + $v + "0A";
    def rec($k; $v): raw($k | hex; $v); def text($k; $v): if $v then rec($k; "\($v)" | hex) else "" end;
    def head($type; $mode; $size; $dev): ($size | oct(11)) as $o | (2375 + ($mode + $o + $type + $dev | explode | add) | oct(6)) as $sum
        | "78" + zeros(99) + "303030" + ($mode | hex) + "00" + "3030303030303000" * 2 + ($o | hex) + "00" + "30" * 11 + "00" + ($sum | hex) + "0020" + ($type | hex)
        + zeros(100) + "7573746172003030" + zeros(64) + ($dev[:7] | hex) + "00" + ($dev[7:] | hex) + "00" + zeros(167);
    def time: if startswith("-") and (endswith(".000000000") | not) then split(".") | "-\((.[0][1:] | tonumber) - 1).\(1000000000 - (.[1] | tonumber) | "00000000\(.)"[-9:])" else . end;
    def data($size): reduce (split(",")[] | split("+") | map(tonumber)) as [$o, $l] ({at: 0, out: []}; (if $o > .at then .out += [.at, $o - .at] else . end) | .at = $o + $l) | .out + [.at, $size - .at];
    foreach inputs as $e ({n: -1, groups: {}}; .groups as $g | .out = ($e
        | if .path == "" and .type != "dir" then .path = $file else . end
        | if .path // "" | . != "" and (rtrimstr("/") | split("/") | any(. == "" or . == "." or . == "..")) then error("a path that leads elsewhere: \(.path)") else . end
        | (if .path // "" | utf8bytelength > 3000 then .path as $p | reduce ($p | rtrimstr("/") | split("/"))[] as $c ([""]; if .[-1] + $c | utf8bytelength > 2000 then . + [$c]
            else .[-1] |= if . == "" then $c else "\(.)/\($c)" end end) | .[-1] += (if $p | endswith("/") then "/" else "" end) else [.path] end) as $steps
        | (if .path_b64 then .path_b64 | unb64 elif .path == "" then "2E2F" else $steps[-1] | hex end) as $name
        | (if .hard_link then $g["\(.hard_link)"] else null end) as $first | ($first != null and $first[0] == $steps[:-1]) as $again
        | (if $again then [] else .chunks // "" | members end) as $chunks | (if $again then 0 else .data // .size // 0 end) as $data
        | ({file: "0", link: "2", char: "3", block: "4", dir: "5", fifo: "6"}[.type] // error("a newer format: \(.type)")) as $type
        | (rec("path"; $name) + text("mtime"; .mtime | time) + text("uid"; .uid) + text("gid"; .gid) + text("uname"; .user) + text("gname"; .group)
            + (if $again then rec("linkpath"; $first[1]) elif .target_b64 then rec("linkpath"; .target_b64 | unb64) else text("linkpath"; .target) end) + text("size"; if $data < 8589934592 then null else $data end)
            + (if .holes and ($again | not) then .size as $z | (.holes | data($z)) as $m | text("GNU.sparse.size"; $z) + text("GNU.sparse.numblocks"; $m | length / 2) + text("GNU.sparse.map"; $m | join(",")) else "" end)
            + ([(.xattrs // {} | to_entries[] | rec("SCHILY.xattr.\(.key)"; .value | unb64)), (.xattrs_b64 // {} | to_entries[] | raw(("SCHILY.xattr." | hex) + (.key | unb64); .value | unb64))] | add // "")
            + text("SCHILY.acl.access"; .acl) + text("SCHILY.acl.default"; .default_acl)) as $pax
        | ($pax | length / 2) as $long | (($long + 511) / 512 | floor) as $k
        | if ([$chunks[] | $s[0][.] // -1e300] | add // 0) != $data then {lost: ($e.path // $e.path_b64)} else {steps: $steps[:-1], name: $name, last: ($type == "2"), group: .hard_link, k: $k,
            digest: (if $type == "0" and ($again or .holes | not) and ($steps | length) == 1 then .digest else null end), files: ([$chunks[] | "all/" + .] + if $data % 512 > 0 then ["z/\(512 - $data % 512)"] else [] end),
            hex: (head("x"; "0644"; $long; "0" * 14) + $pax + zeros($k * 512 - $long) + head(if $again then "1" else $type end; .mode; $data; (.major // 0 | oct(7)) + (.minor // 0 | oct(7))))} end)
        | if .out.group and .groups["\(.out.group)"] == null then .groups["\(.out.group)"] = [.out.steps, .out.name] else . end; .out)' "$work/catalog" >"$work/plan"
jq -r 'select(.lost) | "LOST: \(.lost | @json)"' "$work/plan" | tee "$work/lost" >&2
[ ! -s "$work/lost" ] || problems=1
# The archive, and tar, which gives folders their times and modes at the end; once more where there were several runs.
truncate -s 1024 "$work/z/end"
for ((n = 1; n < 512; n++)); do head -c $n "$work/z/end" >"$work/z/$n"; done
unpack() ( # unpack STEPS FILTER
    cd -- "$target"
    while IFS= read -r -d '' step; do [ ! -L "./$step" ] || die "a link is in the way"; cd -P -- "./$step"; done < <(jq -j '.[] | split("/")[] | . + "\u0000"' <<<"$1")
    for last in false true; do jq -c --argjson z "$1" --argjson last $last "select(.steps == \$z and .last == \$last and ($2))" "$work/plan"; done >"$work/part"
    rm -rf "$work/h" && mkdir "$work/h"
    for k in $(jq .k "$work/part" | sort -un); do jq -r --argjson k "$k" 'select(.k == $k).hex' "$work/part" | basenc -d --base16 | split -a 8 -d -b $(((k + 2) * 512)) - "$work/h/$k-"; done
    { jq -rn 'foreach inputs as $e ({}; .["\($e.k)"] += 1; "h/\($e.k)-\(.["\($e.k)"] - 1 | "0000000\(.)"[-8:])", $e.files[])' "$work/part"; echo z/end; } |
        (cd "$work" && xargs -d '\n' cat --) | tar -xpf - --delay-directory-restore --xattrs '--xattrs-include=*' --acls --warning=no-timestamp
)
jq -c 'select(.steps).steps' "$work/plan" | sort -u | jq -cs 'sort_by(length)[]' >"$work/zones"
while IFS= read -r zone; do unpack "$zone" true || bad "tar did not restore all"; done <"$work/zones"
[ "$(wc -l <"$work/zones")" -lt 2 ] || while IFS= read -r zone; do unpack "$zone" '.name | endswith("2F")' || bad "tar did not restore all"; done < <(tac "$work/zones")
# Each file as it is now, against its digest in the catalog.
if command -v b3sum >/dev/null; then
    jq -r .secret "$work/sealed" | tr a-f A-F | basenc -d --base16 >"$work/secret"
    jq -c 'select(.digest)' "$work/plan" >"$work/files"
    jq -r '"2E2F" + .name + "00"' "$work/files" | basenc -d --base16 | (cd -- "$target" && xargs -0 -r sh -c 'b3sum --keyed --length 16 --no-names -- "$@" <"$0"' "$work/secret") >"$work/found" || problems=1
    jq -r .digest "$work/files" | cmp -s - "$work/found" || bad "DAMAGED: not all files have the digests of the catalog"
fi
jq -r '.unreadable[] | "NOT IN THE BACKUP: \(.path // .path_b64 | @json): \(.why | @json)"' "$work/sealed" >&2
[ "$(wc -l <"$work/plan")" = "$(public .counts.entries)" ] || bad "the backup had $(public .counts.entries) entries, and the catalog has $(wc -l <"$work/plan")"
say "restored $(($(wc -l <"$work/plan") - $(wc -l <"$work/lost"))) entries to $target"
[ $problems = 0 ] || { say "something is missing or was not proven: see above"; exit 3; }
