#!/usr/bin/env bash
# Builds the boot images once more, with nothing built yet and from a copy of the tree
# in a directory of another name, and compares them with the given ones byte by byte.
#
#   scripts/check-reproducible.sh debug|release IMAGE.igvm IMAGE.elf
set -euo pipefail

[ $# -eq 3 ] || {
    echo "usage: check-reproducible.sh debug|release IMAGE.igvm IMAGE.elf" >&2
    exit 64
}
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=$1 igvm=$(realpath "$2") elf=$(realpath "$3")
release=
[ "$profile" = debug ] || release=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/some/other/place
mkdir -p "$tree/bin"
# What git knows or would add; files that are deleted but not committed are left out.
cd "$top"
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar -c --null -T - | tar -x -C "$tree"
# The tool that composes images is there already, so that only what they consist of
# is built.
cp "$top/bin/igvmbuilder" "$tree/bin/"
CARGO_TARGET_DIR="$work/out" make -C "$tree" -o tools -o setup images RELEASE="$release"

cmp "$tree/bin/coconut-qemu.igvm" "$igvm"
cmp "$tree/bin/svsm-native.elf" "$elf"
