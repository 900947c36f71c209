#!/usr/bin/env bash
# Makes the first corpora anew, from the files of a real installation and from `fuzzed/examples/seeds.rs`:
#
#   fuzz/seeds.sh          after cargo build; adds to fuzz/corpus, and removes nothing
#
# What the fuzzer has found since is smaller and worth more; this is for new targets and new formats.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
corpus=$PWD/corpus
dir=$(mktemp -d)
trap '../deploy/loopback.sh "$dir/node" stop >/dev/null; rm -rf -- "$dir"' EXIT
../deploy/loopback.sh "$dir/node" >/dev/null
# shellcheck disable=SC1091  # written just now
. "$dir/node/env"
store=$dir/node/node/data/web1

mkdir -p "$dir/tree/sub"
echo one >"$dir/tree/one"
echo two >"$dir/tree/sub/two"
ln -s one "$dir/tree/link"
git init -q --bare "$dir/empty.git"
nightsafe submit files "$dir/tree"
nightsafe submit git "$dir/empty.git"
nightsafe submit files "$dir/absent" || true
nightsafe send || true
nightsafe-server poll || true
nightsafe send || true

for target in request receipt commit manifest access; do mkdir -p "$corpus/$target"; done
# history REPOSITORY BRANCH PREFIX TARGET: its commits, and the files in them that begin with PREFIX, as seeds of TARGET.
history() {
    local repository=$1 branch=$2 prefix=$3 target=$4 number=0 commit name
    for commit in $(git -C "$repository" rev-list "refs/heads/$branch"); do
        number=$((number + 1))
        git -C "$repository" cat-file commit "$commit" >"$corpus/commit/real-$target-$number"
        for name in $(git -C "$repository" ls-tree --name-only "$commit" | grep "^$prefix"); do
            git -C "$repository" cat-file blob "$commit:$name" >"$corpus/$target/real-$number"
        done
    done
}
history "$dir/node/client/queues/node1.git" requests RQ request
history "$store/receipts.git" receipts RC receipt
number=0
for manifest in "$store"/snapshots/*/manifest; do
    number=$((number + 1))
    cp -- "$manifest" "$corpus/manifest/real-$number"
done
# The list names keys of that installation; those of the fuzzer stand in its place.
sed 's/alice\.pub/a.pub/; s/web1\.pub/b.pub/; s/carol\.pub/c.pub/' "$dir/node/node/data/access/access.toml" >"$corpus/access/real"
cargo run --quiet --manifest-path ../Cargo.toml --package fuzzed --example seeds -- "$corpus"
