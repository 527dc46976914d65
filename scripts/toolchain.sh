#!/usr/bin/env bash
# Picks the Rust toolchain for this project and runs a command with it.
#
#   scripts/toolchain.sh COMMAND [ARG...]   run COMMAND with that toolchain first in PATH
#   scripts/toolchain.sh                    print the chosen sysroot; status 1 when there is none
#
# The kernel is built with -Zbuild-std, so the toolchain must carry the library
# source; this is the one place that knows where to look for such a toolchain.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")

# Every rustc worth asking, best first: the caller's, the first in PATH, the
# distribution's, then whatever rustup has installed.
candidates() {
    [ -z "${RUSTC:-}" ] || echo "$RUSTC"
    command -v rustc || true
    echo /usr/bin/rustc
    if command -v rustup >/dev/null; then
        rustup toolchain list 2>/dev/null | while read -r name _; do
            rustup which --toolchain "$name" rustc 2>/dev/null || true
        done
    fi
}

usable() { # SYSROOT: complete, with library source, and new enough
    local version
    [ -f "$1/lib/rustlib/src/rust/library/core/src/lib.rs" ] || return 1
    [ -x "$1/bin/cargo" ] && [ -x "$1/bin/rustc" ] || return 1
    version=$("$1/bin/rustc" --version | cut -d' ' -f2)
    printf '%s\n%s\n' "$wanted" "${version%%-*}" | sort -CV
}

find_sysroot() {
    local rustc sysroot
    while read -r rustc; do
        sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
        if usable "$sysroot"; then
            echo "$sysroot"
            return
        fi
    done < <(candidates)
    return 1
}

# A nested call finds what the outer one chose.
if [ -z "${SVSM_SYSROOT:-}" ] || ! [ -x "$SVSM_SYSROOT/bin/rustc" ]; then
    if ! SVSM_SYSROOT=$(find_sysroot); then
        echo "no Rust $wanted or newer with its library source found: run scripts/setup.sh" >&2
        exit 1
    fi
fi

if [ $# -eq 0 ]; then
    echo "$SVSM_SYSROOT"
    exit
fi

export SVSM_SYSROOT
export RUSTC="$SVSM_SYSROOT/bin/rustc" RUSTDOC="$SVSM_SYSROOT/bin/rustdoc" CARGO="$SVSM_SYSROOT/bin/cargo"
export PATH="$SVSM_SYSROOT/bin:$PATH"
unset RUSTUP_TOOLCHAIN
exec "$@"
