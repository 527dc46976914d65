#!/usr/bin/env bash
# Runs every fuzz target for a bounded time; fails where one finds something.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     for each target, default 60, all of them
#
# The numbers go into target/fuzz.json: fuzz.TARGET.execs and fuzz.TARGET.crashes.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
    echo "fuzz.sh: not a number of seconds: $seconds" >&2
    exit 64
}

shift || true
cd "$top/fuzz"
export PATH="$top/target/tools/bin:$PATH"
# The sanitizers' run time is not part of every toolchain; panics, overflows and
# out-of-bounds accesses of safe code are found without it. The coverage flags of the
# fuzzer are unstable options, hence RUSTC_BOOTSTRAP.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$top/target/fuzz"
fuzz() { "$top/scripts/toolchain.sh" cargo fuzz "$@"; }

[ $# -gt 0 ] || mapfile -t all < <(fuzz list)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
numbers=()
found=0
for target in "${@:-${all[@]}}"; do
    printf '  %-8s %s for %s s\n' FUZZ "$target" "$seconds"
    mkdir -p "$CARGO_TARGET_DIR/corpus/$target"
    crashes=0
    fuzz build --sanitizer none "$target" >"$log" 2>&1 || {
        tail -n 60 "$log" >&2
        echo "fuzz.sh: $target does not build, see above" >&2
        exit 1
    }
    if ! fuzz run --sanitizer none "$target" "$CARGO_TARGET_DIR/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz.sh: $target failed, see above; an input that was found is in fuzz/artifacts/$target" >&2
        crashes=1
        found=1
    fi
    execs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '  %-8s %s: %s executions, %s findings\n' FUZZ "$target" "${execs:=0}" $crashes
    numbers+=("  \"fuzz.$target.execs\": $execs" "  \"fuzz.$target.crashes\": $crashes")
done
printf '{\n%s\n}\n' "$(printf '%s,\n' "${numbers[@]}" | sed '$s/,$//')" >"$top/target/fuzz.json"
exit $found
