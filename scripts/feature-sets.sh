#!/usr/bin/env bash
# Prints the combinations of the kernel's features that `make test` checks, one a line,
# comma separated, smallest first: none, each by itself, and all; a feature stands with
# all that it implies. Read from kernel/Cargo.toml, so a new feature is covered without a
# change here.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
awk '
    /^\[/ { inside = ($0 == "[features]") }
    inside && /^[a-z0-9_-]+ *=/ && $1 != "default" {
        names[++count] = $1
        implied[$1] = $0
    }
    # Adds a feature and what it implies to the set.
    function add(name,    i) {
        if (name in set) return
        set[name] = 1
        for (i = 1; i <= count; i++)
            if (index(implied[name], "\"" names[i] "\"")) add(names[i])
    }
    # Prints the set, unless it was there before.
    function show(    i, line, size) {
        line = ""
        size = 0
        for (i = 1; i <= count; i++)
            if (names[i] in set) {
                line = line (line == "" ? "" : ",") names[i]
                size++
            }
        if (!(line in seen)) {
            seen[line] = 1
            print size "\t" line
        }
        split("", set)
    }
    END {
        show()
        for (i = 1; i <= count; i++) {
            add(names[i])
            show()
        }
        for (i = 1; i <= count; i++) add(names[i])
        show()
    }
' "$top/kernel/Cargo.toml" | sort -s -n -k1,1 | cut -f2
