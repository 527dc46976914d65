#!/usr/bin/env bash
# Prints every combination of the kernel's features, one a line, comma separated
# (the first line is the empty one). Read from kernel/Cargo.toml, so a new
# feature is covered by `make test` without a change here.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mapfile -t features < <(awk '
    /^\[/ { inside = ($0 == "[features]") }
    inside && /^[a-z0-9_-]+ *=/ && $1 != "default" { print $1 }
' "$top/kernel/Cargo.toml")

for ((set = 0; set < 1 << ${#features[@]}; set++)); do
    line=
    for i in "${!features[@]}"; do
        if ((set >> i & 1)); then
            line+=${line:+,}${features[i]}
        fi
    done
    echo "$line"
done
