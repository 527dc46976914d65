#!/usr/bin/env bash
# Counts the lines of unsafe code (blocks, functions, impls, attributes, assembly)
# per module, and fails when a module outside the list below has any.
#
#   scripts/unsafe-report.sh [DIR]     DIR: the tree to look at (default: this one)
set -euo pipefail

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

# The hardware layers; everything above them forbids unsafe code.
allowed='^(kernel/src/(arch|mm|platform)|kernel/src/drivers/virtio/hal|stage2/src)$'

mapfile -t files < <(find . -name '*.rs' -path '*/src/*' -not -path './target*' -printf '%P\n' | sort)
[ ${#files[@]} -gt 0 ] || {
    echo "unsafe-report: no Rust source below $PWD" >&2
    exit 1
}

awk -v allowed="$allowed" '
    # The module that a file belongs to: a directory below kernel/src, a crate
    # elsewhere; hal.rs stands for itself.
    function module_of(file, part, n) {
        if (file == "kernel/src/drivers/virtio/hal.rs") return "kernel/src/drivers/virtio/hal"
        n = split(file, part, "/")
        if (part[1] != "kernel") return part[1] "/src"
        sub(/\.rs$/, "", part[3])
        return "kernel/src/" part[3]
    }
    FNR == 1 { module = module_of(FILENAME); inside = 0; depth = 0; comment = 0 }
    {
        total[module]++
        code = $0
        # What stands in strings, characters and comments is no code.
        gsub(/"(\\.|[^"\\])*"/, "\"\"", code)
        gsub(/\047(\\.|[^\\\047])\047/, "c", code)
        if (comment) { if (!sub(/^.*\*\//, "", code)) next; comment = 0 }
        gsub(/\/\*.*\*\//, "", code)
        sub(/\/\/.*/, "", code)
        if (sub(/\/\*.*/, "", code)) comment = 1

        if (!inside && code ~ /(^|[^A-Za-z0-9_])(unsafe|global_asm!|naked_asm!)([^A-Za-z0-9_]|$)/) {
            inside = 1; depth = 0; opened = 0
            sub(/^.*(unsafe|asm!)/, "", code)
        }
        if (inside) {
            count[module]++
            for (i = 1; i <= length(code); i++) {
                c = substr(code, i, 1)
                if (c ~ /[{(\[]/) { depth++; if (c == "{" || depth == 1) opened = (c == "{") || opened }
                else if (c ~ /[})\]]/) depth--
                if (depth < 0 || (depth == 0 && ((c == "}" && opened) || c == ";" || c == "]"))) { inside = 0; break }
            }
        }
    }
    END {
        for (module in total) names[++n] = module
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && names[j - 1] > names[j]; j--) { t = names[j]; names[j] = names[j - 1]; names[j - 1] = t }
        printf "%-34s %8s %8s\n", "module", "unsafe", "lines"
        for (i = 1; i <= n; i++) {
            module = names[i]
            bad = count[module] && module !~ allowed
            printf "%-34s %8d %8d%s\n", module, count[module], total[module], bad ? "   <- not allowed here" : ""
            sum += count[module]; lines += total[module]; wrong += bad
        }
        printf "%-34s %8d %8d\n", "total", sum, lines
        if (wrong) {
            print "unsafe-report: unsafe code outside the hardware layers (Documentation/ARCHITECTURE.md)" > "/dev/stderr"
            exit 1
        }
    }
' "${files[@]}"
