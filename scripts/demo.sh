#!/usr/bin/env bash
# Shows what the SVSM is for: it attests, gets the key of its volume, and finds its
# state again in the next boot: a counter, a TPM, UEFI variables. Needs what `make`
# builds; `make demo` does both.
#
#   KEEP=1 scripts/demo.sh      leaves the files of the demo where they are
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$top/bin
cocoonfs=$top/target/tools/bin/cocoonfs
# Longest time a boot may take, in seconds.
boot_limit=120
# Longest life of a guest that serves, in seconds.
serve_limit=600

bold='' green='' red='' dim='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' off=$'\e[0m'
fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$off"; }
good() { printf '%s   %s%s\n' "$green" "$*" "$off"; }
die() {
    printf '%sdemo: %s%s\n' "$red" "$*" "$off" >&2
    exit 1
}

for file in "$bin"/{svsm-native.elf,svsm-guestlink.elf,svsm-remanufacture.elf,coconut-qemu.igvm} \
    "$bin"/{aproxy,kbs-test,igvmmeasure,guestlink} "$cocoonfs"; do
    [ -e "$file" ] || die "$file is missing: run make demo, which builds and installs it"
done

# Everything lives in a directory of its own, so that demos can run side by side.
work=$(mktemp -d "${TMPDIR:-/tmp}/svsm-demo.XXXXXX")
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

socket=$work/aproxy.sock
image=$work/state.img

random_secret() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

servers=()
start_servers() { # SECRET : a key broker that releases it, and a proxy in front of it
    local url pid
    for pid in "${servers[@]}"; do
        kill "$pid"
        wait "$pid" 2>/dev/null || true
    done
    : >"$work/kbs-test.log"
    "$bin/kbs-test" --listen 127.0.0.1:0 --measurement "$measurement" --secret "$1" \
        --allow-sample >"$work/kbs-test.log" 2>&1 &
    servers=($!)
    pids+=($!)
    wait_until 20 grep -q 'http://' "$work/kbs-test.log" || die "kbs-test does not start: $(cat "$work/kbs-test.log")"
    url=$(grep -o 'http://[0-9.]*:[0-9]*' "$work/kbs-test.log" | head -n 1)
    rm -f "$socket"
    "$bin/aproxy" --protocol kbs-test --url "$url" --unix "$socket" >"$work/aproxy.log" 2>&1 &
    servers+=($!)
    pids+=($!)
    wait_until 20 test -S "$socket" || die "aproxy does not start: $(cat "$work/aproxy.log")"
    note "kbs-test at $url, with a secret of 32 random bytes"
    note "aproxy on $socket"
}

launch() { # NUMBER TIMEOUT [OPTION...]
    "$top/scripts/launch_guest.sh" --native --aproxy "$socket" --state "$image" \
        --log "$work/boot-$1.log" --timeout "$2" "${@:3}" </dev/null
}
failed_boot() { # NUMBER WHAT
    die "boot $1 $2
kbs-test said:
$(cat "$work/kbs-test.log")
aproxy said:
$(cat "$work/aproxy.log")"
}
logged() { # NUMBER LINE... : each is a whole line of the boot's log
    local log=$work/boot-$1.log line
    for line in "${@:2}"; do
        grep -Fqx "[SVSM] $line" <(tr -d '\r' <"$log") || die "boot $1 did not log: [SVSM] $line"
    done
}
boot() { # NUMBER LINE... : boots, and wants these lines in the log
    local status=0 start=$SECONDS
    launch "$1" "$boot_limit" || status=$?
    [ $status -eq 0 ] || failed_boot "$1" "ended with status $status"
    logged "$@"
    good "boot $1: every expected line is there ($((SECONDS - start)) s)"
}

# --- a guest's view -------------------------------------------------------------

link=$work/link.sock
guest=''
tpm_server=''
serve() { # NUMBER KERNEL LINE... : boots, and goes on when the SVSM serves its guest
    rm -f "$link"
    launch "$1" "$serve_limit" --kernel "$bin/$2" --guestlink "$link" &
    guest=$!
    pids+=("$guest")
    wait_until "$boot_limit" serving_or_gone "$1" || failed_boot "$1" "does not serve after $boot_limit s"
    kill -0 "$guest" 2>/dev/null || failed_boot "$1" "ended before it served"
    logged "$1" "${@:3}"
    start_tpm_server
    run tpm2_startup -c
}
serving_or_gone() {
    grep -q 'guest link: serving calls on COM4' "$work/boot-$1.log" 2>/dev/null || ! kill -0 "$guest" 2>/dev/null
}
start_tpm_server() { # on two ports that are free; tools take the second for granted
    local port log=$work/guestlink.log
    for _ in $(seq 20); do
        port=$((20000 + RANDOM % 20000))
        "$bin/guestlink" --link "$link" tpm --tcp "127.0.0.1:$port" --ctrl "127.0.0.1:$((port + 1))" >"$log" 2>&1 &
        tpm_server=$!
        wait_until 20 serving_tpm_or_gone "$log" || die "guestlink tpm does not start: $(cat "$log")"
        if kill -0 "$tpm_server" 2>/dev/null; then
            pids+=("$tpm_server")
            export TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=$port
            return
        fi
        grep -q 'in use' "$log" || die "guestlink tpm: $(cat "$log")"
    done
    die "guestlink tpm finds no two free ports"
}
serving_tpm_or_gone() { grep -q 'serving the vTPM' "$1" || ! kill -0 "$tpm_server" 2>/dev/null; }
shut_down() { # NUMBER
    local status=0
    kill "$tpm_server"
    wait "$tpm_server" 2>/dev/null || true
    "$bin/guestlink" --link "$link" shutdown
    wait "$guest" || status=$?
    [ $status -eq 0 ] || failed_boot "$1" "ended with status $status"
}

run() { # COMMAND... : shown, and run where the demo's files are
    printf '   $ %s\n' "$*"
    (cd "$work/guest" && "$@") || die "that failed"
}
efivar() {
    printf '   $ guestlink efivar %s\n' "$*"
    (cd "$work/guest" && "$bin/guestlink" --link "$link" efivar "$@") || die "that failed"
}
# What a guest's firmware measures in each boot; here one value stands in for it.
measure_boot() { run tpm2_pcrextend "0:sha256=$(printf 'firmware' | sha256sum | cut -d' ' -f1)"; }
refused() { # the sealed object by this TPM
    local said
    printf '   $ %s\n' "tpm2_load -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx"
    if said=$(cd "$work/guest" && tpm2_load -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx 2>&1); then
        die "another TPM loaded the sealed object"
    fi
    printf '%s\n' "$said"
    grep -q '0x1DF.*integrity check failed' <<<"$said" || die "it was refused for another reason"
}

# --- what is shown --------------------------------------------------------------

step "1. A volume for the state of the SVSM"
"$cocoonfs" -i "$image" -f write-mkfs-info-header -H sha2 -C aes -t 128 -I ddeeff -s 8M \
    --allocation-block-size 512B --io-block-size 512B \
    --auth-tree-data-block-size 512B --auth-tree-node-size 1K
note "8 MiB with a CocoonFs creation header: what to make, but no key yet; the SVSM formats it"

step "2. A key broker, and the proxy between the SVSM's serial port and the network"
measurement=$("$bin/igvmmeasure" "$bin/coconut-qemu.igvm" measure -b)
secret=$(random_secret)
start_servers "$secret"
note "it gives the secret to launch measurement ${measurement:0:32}... only"

step "3. First boot"
boot 1 \
    "attestation successful" \
    "persistent CocoonFs storage opened successfully" \
    "persistence demo: no boot counter found yet" \
    "persistence demo: successfully wrote updated boot counter"

step "4. Second boot, same image"
boot 2 \
    "attestation successful" \
    "persistent CocoonFs storage opened successfully" \
    "persistence demo: boot counter read back is 1" \
    "persistence demo: successfully wrote updated boot counter"

step "5. Third boot, with a guest: it seals a secret to the TPM, writes UEFI variables"
mkdir "$work/guest"
echo "secret" >"$work/guest/secret"
serve 3 svsm-guestlink.elf \
    "vTPM: manufactured new state, the volume had none"
measure_boot
run tpm2_createprimary -Q -c primary.ctx
run tpm2_flushcontext -t
run tpm2_pcrread -Q -o pcr.bin sha256:0,1,2,3
run tpm2_createpolicy -Q --policy-pcr -l sha256:0,1,2,3 -f pcr.bin -L pcr.policy
run tpm2_create -Q -C primary.ctx -L pcr.policy -i secret -u seal.pub -r seal.priv
run tpm2_flushcontext -t
note "keys for Secure Boot, as the owner of a machine makes them"
(
    cd "$work/guest"
    for name in PK KEK db; do
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=demo $name" -keyout $name.key -out $name.crt 2>/dev/null
        cert-to-efi-sig-list $name.crt $name.esl
    done
    sign-efi-sig-list -k PK.key -c PK.crt PK PK.esl PK.auth
    sign-efi-sig-list -k PK.key -c PK.crt KEK KEK.esl KEK.auth
    sign-efi-sig-list -k KEK.key -c KEK.crt db db.esl db.auth
) >/dev/null
efivar authset db db.auth --guid d719b2cb-3d3a-4596-a3bc-dad00e67656f
efivar authset KEK KEK.auth
efivar authset PK PK.auth
note "and a boot option"
efivar set Boot0000 --hex 010000000000640065006d006f0000007fff0400
efivar set BootOrder --hex 0000
shut_down 3

step "6. Fourth boot: the TPM unseals the secret, the variables are there"
serve 4 svsm-guestlink.elf \
    "vTPM: loaded existing state from the volume" \
    "UEFI variables: 5 loaded from the volume, Secure Boot is on"
measure_boot
run tpm2_createprimary -Q -c primary.ctx
run tpm2_flushcontext -t
run tpm2_load -Q -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx
run tpm2_unseal -c seal.ctx -p pcr:sha256:0,1,2,3 -o unsealed
cmp "$work/guest/secret" "$work/guest/unsealed" || die "that is not what was sealed"
good "unsealed: $(cat "$work/guest/unsealed")"
run tpm2_flushcontext -t
efivar list
[ "$("$bin/guestlink" --link "$link" efivar get SecureBoot)" = 01 ] || die "Secure Boot is off"
[ "$("$bin/guestlink" --link "$link" efivar get BootOrder)" = 0000 ] || die "the boot option is lost"
good "Secure Boot is on, the boot option is there"
shut_down 4

step "7. Another key at the key broker: the state can not be opened"
cp "$image" "$work/kept.img"
start_servers "$(random_secret)"
serve 5 svsm-guestlink.elf \
    "WARNING: vTPM: manufactured volatile state, there is no volume to keep it on"
run tpm2_createprimary -Q -c primary.ctx
run tpm2_flushcontext -t
refused
shut_down 5
cmp "$image" "$work/kept.img" || die "a boot without the key wrote to the volume"
good "another TPM, which can not load what was sealed; the volume is untouched"

step "8. The owner has the TPM manufactured again: what was sealed is lost"
start_servers "$secret"
serve 6 svsm-remanufacture.elf \
    "WARNING: vTPM: manufactured new state in place of what was on the volume, this build does so at every boot"
run tpm2_createprimary -Q -c primary.ctx
run tpm2_flushcontext -t
refused
shut_down 6
good "a new TPM on the same volume"

step "What just happened"
cat <<END
   The SVSM booted six times in QEMU. Each time it made a fresh key pair, had the key
   broker check its evidence through the proxy, and received the secret encrypted to
   that key. The first boot formatted the volume under the secret; the others opened
   it and read back what was there before: the boot counter, a TPM that unseals, UEFI
   variables with Secure Boot on. The host carried everything and could read nothing.
   (On this platform the evidence is unsigned and proves nothing, and guestlink stands
   in for a guest; the rest is the real thing.)

${bold}By hand, from $top${off}
   target/tools/bin/cocoonfs -i state.img -f write-mkfs-info-header -H sha2 -C aes \\
       -t 128 -I ddeeff -s 8M --allocation-block-size 512B --io-block-size 512B \\
       --auth-tree-data-block-size 512B --auth-tree-node-size 1K
   bin/kbs-test --listen 127.0.0.1:8080 --allow-sample --secret \$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n') \\
       --measurement \$(bin/igvmmeasure bin/coconut-qemu.igvm measure -b) &
   bin/aproxy --protocol kbs-test --url http://127.0.0.1:8080 --unix svsm-proxy.sock --force &
   scripts/launch_guest.sh --aproxy svsm-proxy.sock --state state.img
   scripts/launch_guest.sh --aproxy svsm-proxy.sock --state state.img --kernel bin/svsm-guestlink.elf \\
       --guestlink link.sock &
   bin/guestlink --link link.sock efivar list
END
printf '\n%sdemo: passed%s\n' "$green" "$off"
