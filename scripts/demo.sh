#!/usr/bin/env bash
# Shows what the SVSM is for: it attests, gets the key of its volume, and finds its
# state again in the next boot. Needs what `make` builds; `make demo` does both.
#
#   KEEP=1 scripts/demo.sh      leaves the files of the demo where they are
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$top/bin
cocoonfs=$top/target/tools/bin/cocoonfs
# Longest time a boot may take, in seconds.
boot_limit=120

bold='' green='' red='' dim='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' off=$'\e[0m'
fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$off"; }
die() {
    printf '%sdemo: %s%s\n' "$red" "$*" "$off" >&2
    exit 1
}

for file in "$bin"/{svsm-native.elf,coconut-qemu.igvm,aproxy,kbs-test,igvmmeasure} "$cocoonfs"; do
    [ -e "$file" ] || die "$file is missing: run make demo, which builds and installs it"
done

# Everything lives in a directory of its own, so that demos can run side by side.
work=$(mktemp -d "${TMPDIR:-/tmp}/svsm-demo.XXXXXX")
touch "$work"/{kbs-test,aproxy}.log
pids=()
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ -n "${KEEP:-}" ]; then
        echo "demo: files kept in $work"
    else
        rm -rf "$work"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wait_until() { # SECONDS COMMAND... : until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

step "1. A volume for the state of the SVSM"
image=$work/state.img
"$cocoonfs" -i "$image" -f write-mkfs-info-header -H sha2 -C aes -t 128 -I ddeeff -s 8M \
    --allocation-block-size 512B --io-block-size 512B \
    --auth-tree-data-block-size 512B --auth-tree-node-size 1K
note "8 MiB with a CocoonFs creation header: what to make, but no key yet; the SVSM formats it"

step "2. A key broker that gives the secret to this SVSM only"
measurement=$("$bin/igvmmeasure" "$bin/coconut-qemu.igvm" measure -b)
secret=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
"$bin/kbs-test" --listen 127.0.0.1:0 --measurement "$measurement" --secret "$secret" \
    --allow-sample >"$work/kbs-test.log" 2>&1 &
pids+=($!)
wait_until 20 grep -q 'http://' "$work/kbs-test.log" || die "kbs-test does not start: $(cat "$work/kbs-test.log")"
url=$(grep -o 'http://[0-9.]*:[0-9]*' "$work/kbs-test.log" | head -n 1)
note "kbs-test at $url, with a fresh random secret of 32 bytes"
note "expects launch measurement ${measurement:0:32}..."

step "3. The proxy between the SVSM's serial port and the network"
socket=$work/aproxy.sock
"$bin/aproxy" --protocol kbs-test --url "$url" --unix "$socket" >"$work/aproxy.log" 2>&1 &
pids+=($!)
wait_until 20 test -S "$socket" || die "aproxy does not start: $(cat "$work/aproxy.log")"
note "aproxy on $socket"

boot() { # NUMBER EXPECTED-LINE...
    local log=$work/boot-$1.log status=0 start=$SECONDS line
    "$top/scripts/launch_guest.sh" --native --aproxy "$socket" --state "$image" \
        --timeout "$boot_limit" --log "$log" </dev/null || status=$?
    [ $status -eq 0 ] || die "boot $1 ended with status $status
kbs-test said:
$(cat "$work/kbs-test.log")
aproxy said:
$(cat "$work/aproxy.log")"
    for line in "${@:2}"; do
        grep -Fqx "[SVSM] $line" <(tr -d '\r' <"$log") || die "boot $1 did not log: [SVSM] $line"
    done
    printf '%s   boot %s: every expected line is there (%s s)%s\n' "$green" "$1" $((SECONDS - start)) "$off"
}

step "4. First boot"
boot 1 \
    "attestation successful" \
    "persistent CocoonFs storage opened successfully" \
    "persistence demo: no boot counter found yet" \
    "persistence demo: successfully wrote updated boot counter"

step "5. Second boot, same image"
boot 2 \
    "attestation successful" \
    "persistent CocoonFs storage opened successfully" \
    "persistence demo: boot counter read back is 1" \
    "persistence demo: successfully wrote updated boot counter"

step "What just happened"
cat <<END
   The SVSM booted twice in QEMU. Each time it made a fresh key pair, had the key
   broker check its evidence through the proxy, and received the secret encrypted to
   that key. The first boot formatted the volume under the secret; the second opened
   it and read back what the first had written. The host carried everything and could
   read nothing. (On this platform the evidence is unsigned and proves nothing; the
   rest of the exchange is the real one.)

${bold}By hand, from $top${off}
   target/tools/bin/cocoonfs -i state.img -f write-mkfs-info-header -H sha2 -C aes \\
       -t 128 -I ddeeff -s 8M --allocation-block-size 512B --io-block-size 512B \\
       --auth-tree-data-block-size 512B --auth-tree-node-size 1K
   bin/kbs-test --listen 127.0.0.1:8080 --allow-sample --secret \$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n') \\
       --measurement \$(bin/igvmmeasure bin/coconut-qemu.igvm measure -b) &
   bin/aproxy --protocol kbs-test --url http://127.0.0.1:8080 --unix svsm-proxy.sock --force &
   scripts/launch_guest.sh --aproxy svsm-proxy.sock --state state.img
   scripts/launch_guest.sh --aproxy svsm-proxy.sock --state state.img
END
printf '\n%sdemo: passed%s\n' "$green" "$off"
