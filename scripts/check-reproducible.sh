#!/usr/bin/env bash
# Builds the boot images of the last commit twice, in two directories with paths of
# different length and nothing built yet, and compares them byte by byte. Needs
# bin/igvmbuilder (`make tools`) and a few minutes.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$top/bin/igvmbuilder" ] || {
    echo "check-reproducible: bin/igvmbuilder is missing: run make tools" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tree in "$work/a" "$work/another/place/b"; do
    git clone -q "$top" "$tree"
    mkdir -p "$tree/bin"
    cp "$top/bin/igvmbuilder" "$tree/bin/"
    # The image tool is there already, so that only what is compared is built.
    CARGO_TARGET_DIR="$tree-out" make -C "$tree" -o tools images
done
for image in coconut-qemu.igvm svsm-native.elf; do
    cmp "$work/a/bin/$image" "$work/another/place/b/bin/$image"
    sha256sum "$work/a/bin/$image" | sed "s|$work/a/||"
done
echo "check-reproducible: both builds gave the same images"
