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
queue=$dir/node/client/queues/node1.git
number=0
for commit in $(git -C "$queue" rev-list refs/heads/requests); do
    number=$((number + 1))
    git -C "$queue" cat-file commit "$commit" >"$corpus/commit/real-$number"
    for name in $(git -C "$queue" ls-tree --name-only "$commit" | grep '^RQ'); do
        git -C "$queue" cat-file blob "$commit:$name" >"$corpus/request/real-$number"
    done
done
number=0
for commit in $(git -C "$store/receipts.git" rev-list refs/heads/receipts); do
    number=$((number + 1))
    git -C "$store/receipts.git" cat-file commit "$commit" >"$corpus/commit/real-receipt-$number"
    for name in $(git -C "$store/receipts.git" ls-tree --name-only "$commit" | grep '^RC'); do
        git -C "$store/receipts.git" cat-file blob "$commit:$name" >"$corpus/receipt/real-$number"
    done
done
number=0
for manifest in "$store"/snapshots/*/manifest; do
    number=$((number + 1))
    cp -- "$manifest" "$corpus/manifest/real-$number"
done
# The list names keys of that installation; those of the fuzzer stand in its place.
sed 's/alice\.pub/a.pub/; s/web1\.pub/b.pub/; s/carol\.pub/c.pub/' "$dir/node/node/data/access/access.toml" >"$corpus/access/real"
cargo run --quiet --manifest-path ../Cargo.toml --package fuzzed --example seeds -- "$corpus"
