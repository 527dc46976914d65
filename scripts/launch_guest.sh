#!/usr/bin/env bash
# shellcheck disable=SC2054 # the commas are QEMU's
#
# Starts the SVSM in QEMU.
#
#   --native             platform without isolation, any stock QEMU (default where
#                        this is no SNP host)
#   --aproxy SOCKET      UNIX socket on which aproxy listens (COM3)
#   --guestlink SOCKET   UNIX socket to make, for SVSM calls from the host (COM4);
#                        for a kernel with the feature guestlink
#   --state IMAGE        block device for the SVSM's state; repeatable, order kept
#   --mock-snp DIR       native platform, kernel built with feature mock-snp: sign
#                        reports with the test root in DIR that
#                        "kbs-test make-test-root DIR" made
#   --patience SECONDS   longest wait of the SVSM for aproxy, 1 to 600; shortens the
#                        waits that are built in, never extends one
#   --qemu PATH          QEMU to use (default: qemu-system-x86_64)
#   --igvm FILE          boot image of an SNP guest (default: bin/coconut-qemu.igvm);
#                        on the native platform the image whose digest is reported
#   --kernel FILE        boot image of the native platform (default: bin/svsm-native.elf)
#   --image QCOW2        disk of the guest above the SVSM (SNP hosts)
#   --accel kvm|tcg|auto auto takes KVM where the CPU shows vmx or svm (default)
#   --memory SIZE        as QEMU's -m (default: 256 native, 8G on an SNP host)
#   --log FILE           write the console to FILE as well
#   --timeout SECONDS    stop the guest after that time (default: never)
#   --dry-run            print the QEMU command instead of running it
#   -- EXTRA...          handed to QEMU as it is
#
# Status on the native platform: 0 the boot sequence completed, 1 the SVSM stopped
# and logged why, 2 panic or CPU exception, 124 time-out, 3 anything else; 64 for
# bad arguments.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where to look at the host; set by tests that play another host.
sysfs=${SVSM_SYSFS:-/sys}
cpuinfo=${SVSM_CPUINFO:-/proc/cpuinfo}
kvm=${SVSM_KVM:-/dev/kvm}

usage_error() {
    echo "launch_guest.sh: $* (--help lists the options)" >&2
    exit 64
}

platform=auto qemu=qemu-system-x86_64 accel=auto aproxy='' patience='' mock_snp='' guestlink='' image='' memory='' log='' dry_run=''
seconds=0
igvm=$top/bin/coconut-qemu.igvm
kernel=$top/bin/svsm-native.elf
states=()
extra=()

while [ $# -gt 0 ]; do
    case $1 in
    --aproxy | --patience | --mock-snp | --guestlink | --state | --qemu | --igvm | --kernel | --image | --accel | --memory | --log | --timeout)
        [ $# -ge 2 ] || usage_error "$1 needs a value"
        ;;&
    --aproxy) aproxy=$2 ;;
    --patience) patience=$2 ;;
    --mock-snp) mock_snp=$2 ;;
    --guestlink) guestlink=$2 ;;
    --state) states+=("$2") ;;
    --qemu) qemu=$2 ;;
    --igvm) igvm=$2 ;;
    --kernel) kernel=$2 ;;
    --image) image=$2 ;;
    --accel) accel=$2 ;;
    --memory) memory=$2 ;;
    --log) log=$2 ;;
    --timeout) seconds=$2 ;;
    --native)
        platform=native
        shift
        continue
        ;;
    --dry-run)
        dry_run=1
        shift
        continue
        ;;
    --)
        shift
        extra=("$@")
        break
        ;;
    -h | --help)
        sed -n '4,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit
        ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift 2
done

# A comma separates QEMU's options; doubled it stands for itself.
quoted() { printf '%s' "${1//,/,,}"; }
file_for() { # OPTION FILE
    [ -f "$2" ] || [ -b "$2" ] || usage_error "$1: no such file: $2"
    [ -r "$2" ] || usage_error "$1: cannot read $2"
}

command -v "$qemu" >/dev/null || usage_error "no QEMU at $qemu; scripts/setup.sh installs one"
[[ $seconds =~ ^[0-9]+$ ]] || usage_error "--timeout takes whole seconds, not '$seconds'"
[[ -z $patience || $patience =~ ^[1-9][0-9]{0,2}$ ]] || usage_error "--patience takes seconds, 1 to 600, not '$patience'"
[[ -z $memory || $memory =~ ^[0-9]+[MGmg]?$ ]] || usage_error "--memory takes a number with M or G, not '$memory'"
for state in "${states[@]}"; do
    file_for --state "$state"
done
[ -z "$image" ] || file_for --image "$image"
[ -z "$aproxy" ] || [ -S "$aproxy" ] || [ -n "$dry_run" ] ||
    usage_error "--aproxy: no socket at $aproxy; start it with: bin/aproxy --protocol kbs-test --url URL --unix $aproxy"

case $accel in
kvm | tcg) ;;
auto)
    # A /dev/kvm without either flag can be a software KVM, slower than TCG and
    # without SSE.
    accel=tcg
    if [ -w "$kvm" ] && grep -Eqw 'vmx|svm' "$cpuinfo"; then
        accel=kvm
    fi
    ;;
*) usage_error "--accel is kvm, tcg or auto, not '$accel'" ;;
esac

if [ $platform = auto ]; then
    platform=native
    case $(cat "$sysfs/module/kvm_amd/parameters/sev_snp" 2>/dev/null) in
    Y | 1)
        if "$qemu" -object help 2>/dev/null | grep -qw igvm-cfg; then
            platform=snp
        else
            echo "launch_guest.sh: this is an SNP host, but $qemu knows no igvm-cfg object; taking the native platform" >&2
        fi
        ;;
    esac
fi

console=stdio,id=console,signal=on${log:+,logfile=$(quoted "$log"),logappend=off}
proxy=null,id=proxy
[ -z "$aproxy" ] || proxy=socket,id=proxy,path=$(quoted "$aproxy"),server=off

cmd=("$qemu" -nodefaults -display none -no-reboot
    -chardev "$console" -chardev "$proxy")

if [ $platform = native ]; then
    file_for --kernel "$kernel"
    [ -z "$image" ] || echo "launch_guest.sh: the native platform runs no guest above the SVSM; --image is not used" >&2
    cmd+=(-M "microvm,isa-serial=on,acpi=off,pit=on,pic=on,rtc=on,accel=$accel"
        -cpu max -m "${memory:-256}" -kernel "$kernel"
        -serial chardev:console -device isa-serial,index=2,chardev=proxy
        -device isa-debug-exit,iobase=0xf4,iosize=0x04)
    [ -z "$guestlink" ] ||
        cmd+=(-chardev "socket,id=guestlink,path=$(quoted "$guestlink"),server=on,wait=off"
            -device isa-serial,index=3,chardev=guestlink)
    # The flushes the guest asks for reach the file, so committed state survives
    # a crash of the host too.
    cache=writeback
    # Without hardware there is nobody to measure the launch; the SVSM is told
    # the digest its image would have, and reports that.
    if [ -f "$igvm" ] && [ -x "$top/bin/igvmmeasure" ]; then
        measurement=$("$top/bin/igvmmeasure" "$igvm" measure -b) || usage_error "--igvm: bin/igvmmeasure refuses $igvm, see above"
        cmd+=(-fw_cfg "name=opt/org.coconut-svsm/measurement,string=$measurement")
    else
        echo "launch_guest.sh: no $igvm or no bin/igvmmeasure; the SVSM will report no measurement" >&2
    fi
    if [ -n "$mock_snp" ]; then
        file_for --mock-snp "$mock_snp/vcek.key"
        file_for --mock-snp "$mock_snp/certs.bin"
        cmd+=(-fw_cfg "name=opt/org.coconut-svsm/mock-vcek,file=$(quoted "$mock_snp/vcek.key")"
            -fw_cfg "name=opt/org.coconut-svsm/mock-certs,file=$(quoted "$mock_snp/certs.bin")")
    fi
else
    file_for --igvm "$igvm"
    [ -z "$mock_snp" ] || usage_error "--mock-snp is for the native platform; an SNP host has real reports"
    [ -z "$guestlink" ] || usage_error "--guestlink is for the native platform; an image for SNP hosts has no such line"
    memory=${memory:-8G}
    cmd+=(-M "q35,confidential-guest-support=sev0,memory-backend=ram0,igvm-cfg=igvm0,x-svsm-virtio-mmio=on,accel=kvm"
        -cpu EPYC-v4 -m "$memory"
        -object "memory-backend-memfd,id=ram0,size=$memory,share=true,prealloc=false,reserve=false"
        -object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1
        -object "igvm-cfg,id=igvm0,file=$(quoted "$igvm")"
        -serial chardev:console -serial null -serial chardev:proxy)
    cache=none
    if [ -n "$image" ]; then
        cmd+=(-drive "file=$(quoted "$image"),format=qcow2,if=none,id=guest_disk"
            -device virtio-scsi-pci,id=scsi0,disable-legacy=on,iommu_platform=on
            -device scsi-hd,drive=guest_disk,bootindex=0)
    fi
fi

# Named buses: left alone, QEMU fills the slots from the highest address down.
cmd+=(-global virtio-mmio.force-legacy=false)
for n in "${!states[@]}"; do
    cmd+=(-drive "file=$(quoted "${states[n]}"),format=raw,if=none,id=svsm_storage$n,cache=$cache"
        -device "virtio-blk-device,drive=svsm_storage$n,bus=virtio-mmio-bus.$n")
done
[ -z "$patience" ] || cmd+=(-fw_cfg "name=opt/org.coconut-svsm/attestation-patience,string=$patience")
cmd+=("${extra[@]}")

if [ -n "$dry_run" ]; then
    printf '%q ' "${cmd[@]}"
    echo
    exit
fi

# QEMU runs beside this script, so that stopping the script stops it too. A time
# of 0 means none. Without a terminal nothing is read.
exec 3<&0
[ -t 0 ] || exec 3</dev/null
timeout --foreground --kill-after=5 "$seconds" "${cmd[@]}" <&3 &
guest=$!
trap 'kill "$guest" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

status=0
wait "$guest" || status=$?
if [ "$status" -eq 124 ]; then
    echo "launch_guest.sh: stopped the guest after $seconds s" >&2
    exit 124
fi
[ $platform = native ] || exit "$status"
case $status in
33) exit 0 ;;
35) exit 1 ;;
37) exit 2 ;;
*)
    echo "launch_guest.sh: QEMU ended with status $status" >&2
    exit 3
    ;;
esac
