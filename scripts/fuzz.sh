#!/usr/bin/env bash
# Runs every fuzz target for a bounded time and stops at the first finding.
#
#   scripts/fuzz.sh [SECONDS]     for each target, default 60
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
    echo "fuzz.sh: not a number of seconds: $seconds" >&2
    exit 64
}

cd "$top/fuzz"
export PATH="$top/target/tools/bin:$PATH"
# The sanitizers' run time is not part of every toolchain; panics, overflows and
# out-of-bounds accesses of safe code are found without it. The coverage flags of the
# fuzzer are unstable options, hence RUSTC_BOOTSTRAP.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$top/target/fuzz"
fuzz() { "$top/scripts/toolchain.sh" cargo fuzz "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in $(fuzz list); do
    printf '  %-8s %s for %s s\n' FUZZ "$target" "$seconds"
    mkdir -p "$CARGO_TARGET_DIR/corpus/$target"
    if ! fuzz run --sanitizer none "$target" "$CARGO_TARGET_DIR/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz.sh: $target failed, see above; an input that was found is in fuzz/artifacts/$target" >&2
        exit 1
    fi
    printf '  %-8s %s: %s executions, no finding\n' FUZZ "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
done
