#!/usr/bin/env bash
# Runs the fuzzer on every target, on any toolchain:
#
#   make fuzz SECONDS=1200 JOBS=2 ONLY="request pack"
#
# SECONDS for each target (60), JOBS at once (2), ONLY these. What it finds new is left in fuzz/found/TARGET, and what makes a
# target fail in fuzz/artifacts/TARGET: mend it, and put that file into fuzz/corpus/TARGET, where it is read in every make test.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
seconds=${SECONDS_EACH:-60} jobs=${JOBS:-2}
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo-fuzz >/dev/null || cargo install --locked --version 0.13.2 cargo-fuzz || {
    echo "fuzz/run.sh: cargo-fuzz is not there and cannot be installed; put it onto PATH, then try again" >&2
    exit 1
}
# Without a sanitizer nothing of a nightly toolchain is needed, the stable one does; our own code has nothing unsafe that one would find.
cargo fuzz build --sanitizer none
targets=${ONLY:-$(cargo fuzz list)}

one() {
    mkdir -p "found/$1" "artifacts/$1"
    # Our own limit on an input is below the default; a target that needs more than 10 s or 2 GiB fails.
    cargo fuzz run --sanitizer none "$1" "found/$1" "corpus/$1" -- -max_total_time="$2" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 >"found/$1.log" 2>&1 || { tail -n 40 "found/$1.log"; return 1; }
    printf '%s: %s\n' "$1" "$(grep -E 'DONE|stat::number_of_executed_units' "found/$1.log" | tr -s '\t ' ' ' | paste -sd' ')"
}
export -f one
# shellcheck disable=SC2086,SC2016  # targets are words, and the inner shell has words of its own
printf '%s\n' $targets | xargs -P "$jobs" -I{} bash -euc 'one "$1" "$2"' _ {} "$seconds"
