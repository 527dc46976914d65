#!/usr/bin/env bash
# Installs what the build, the demo and the tests need and is not there yet.
#
#   scripts/setup.sh [fuzz] [bench] [suites]     adds what `make fuzz`, `make bench` and
#                                                `make tpm-suites` need
#
# Says what it installs and why; says nothing when all is there. Tools that are
# not packages of the distribution go into target/tools, not into the system.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$top/target/tools
cocoonfs_version=0.1.3
measure_version=0.0.13
virt_firmware_version=26.10
fuzz_version=0.13.2

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

want_fuzz=
want_bench=
want_suites=
for arg in "$@"; do
    case $arg in
    fuzz) want_fuzz=1 ;;
    bench) want_bench=1 ;;
    suites) want_suites=1 ;;
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit
        ;;
    *) die "unknown argument: $arg (known: fuzz, bench, suites)" ;;
    esac
done

# One setup at a time in a tree; a second one waits and then finds all done.
mkdir -p "$tools"
if have flock; then
    exec 9>"$tools/.lock"
    flock 9
fi

# --- packages of the distribution -------------------------------------------

packages=()
need() { # PACKAGE REASON
    say "$1 is missing: $2"
    packages+=("$1")
}

python_is_complete() { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; }
python_headers() { python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; }
rust_is_complete() {
    local sysroot tool
    sysroot=$("$top/scripts/toolchain.sh" 2>/dev/null) || return 1
    for tool in cargo-clippy rustfmt; do
        [ -x "$sysroot/bin/$tool" ] || return 1
    done
}

# Later releases have it apart.
cryptenroll_package() {
    if apt-cache show systemd-cryptsetup >/dev/null 2>&1; then
        echo systemd-cryptsetup
    else
        echo systemd
    fi
}

wants_debian() {
    have qemu-system-x86_64 || need qemu-system-x86 "runs the boot images"
    have ld.lld || need lld "links the kernel and stage2"
    have cc || need gcc "links the host tools"
    [ -e /usr/include/stdlib.h ] || need libc6-dev "headers and start files for the host tools"
    have make || need make "runs the build"
    have shellcheck || need shellcheck "checks the scripts in make test"
    have openssl || need openssl "second opinion on signatures in make test"
    have tpm2_createprimary || need tpm2-tools "client of the vTPM in the end-to-end tests"
    compgen -G '/usr/lib/*/libtss2-tcti-swtpm.so.0' >/dev/null || need libtss2-tcti-swtpm0 "connects tpm2-tools to the vTPM"
    have clevis-encrypt-tpm2 || need clevis-tpm2 "client of the vTPM in the end-to-end tests"
    have cryptsetup || need cryptsetup-bin "makes the disk that the vTPM unlocks in the end-to-end tests"
    have systemd-cryptenroll || need "$(cryptenroll_package)" "client of the vTPM in the end-to-end tests"
    have swtpm || need swtpm "the TPM that the vTPM is compared with in make test and make bench"
    have swtpm_setup || need swtpm-tools "makes TPMs with certificates in the tests of the vTPM"
    compgen -G '/usr/lib/*/libtss2-tcti-device.so.0' >/dev/null || need libtss2-tcti-device0 "connects systemd to the TPM of a Linux guest"
    compgen -G '/usr/lib/*/ossl-modules/tpm2.so' >/dev/null || need tpm2-openssl "client of the vTPM in the end-to-end tests"
    [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || need ovmf "firmware of the machine that measures its boot into the vTPM"
    have sign-efi-sig-list || need efitools "makes and signs keys for Secure Boot in the demo and the tests"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates "lets cargo and pip check who they talk to"
    if ! python_is_complete; then
        need python3 "runs the independent check of the launch measurement"
        need python3-venv "keeps that check's libraries out of the system"
    fi
    if [ -n "$want_fuzz" ] && ! have c++; then
        need g++ "builds the fuzzer's run time"
    fi
    if [ -n "$want_bench" ] && ! have valgrind; then
        need valgrind "counts instructions"
    fi
    if [ -n "$want_suites" ]; then
        [ -e /usr/include/tss2/tss2_esys.h ] || need libtss2-dev "what the test suites of tpm2-pytss and tss-esapi are built with"
        have pkg-config || need pkg-config "finds it"
        python_headers || need python3-dev "builds tpm2-pytss"
    fi
}

wants_fedora() {
    have qemu-system-x86_64 || need qemu-system-x86-core "runs the boot images"
    have ld.lld || need lld "links the kernel and stage2"
    have cc || need gcc "links the host tools"
    have make || need make "runs the build"
    have shellcheck || need ShellCheck "checks the scripts in make test"
    have openssl || need openssl "second opinion on signatures in make test"
    have tpm2_createprimary || need tpm2-tools "client of the vTPM in the end-to-end tests"
    have clevis-encrypt-tpm2 || need clevis "client of the vTPM in the end-to-end tests"
    have cryptsetup || need cryptsetup "makes the disk that the vTPM unlocks in the end-to-end tests"
    have systemd-cryptenroll || need systemd-udev "client of the vTPM in the end-to-end tests"
    have swtpm || need swtpm "the TPM that the vTPM is compared with in make test and make bench"
    have swtpm_setup || need swtpm-tools "makes TPMs with certificates in the tests of the vTPM"
    compgen -G '/usr/lib*/ossl-modules/tpm2.so' >/dev/null || need tpm2-openssl "client of the vTPM in the end-to-end tests"
    [ -e /usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2 ] || need edk2-ovmf "firmware of the machine that measures its boot into the vTPM"
    have sign-efi-sig-list || need efitools "makes and signs keys for Secure Boot in the demo and the tests"
    have python3 || need python3 "runs the independent check of the launch measurement"
    if [ -n "$want_fuzz" ] && ! have c++; then
        need gcc-c++ "builds the fuzzer's run time"
    fi
    if [ -n "$want_bench" ] && ! have valgrind; then
        need valgrind "counts instructions"
    fi
    if [ -n "$want_suites" ]; then
        [ -e /usr/include/tss2/tss2_esys.h ] || need tpm2-tss-devel "what the test suites of tpm2-pytss and tss-esapi are built with"
        have pkg-config || need pkgconf-pkg-config "finds it"
        python_headers || need python3-devel "builds tpm2-pytss"
    fi
    if ! rust_is_complete && ! have rustup; then
        need rust "compiler for everything"
        need cargo "builds everything"
        need rust-src "the library source, from which core and alloc are built for bare metal"
        need clippy "checks the code in make test"
        need rustfmt "checks the format in make test"
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 127
    fi
}

# What is installed from elsewhere in a version that does not go together with the
# distribution's packages, and that the distribution has too: as PACKAGE=VERSION.
# Installing these takes the distribution's version instead of removing the package.
conflicting() { # PACKAGE...
    local package version
    apt-get install -s --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' |
        while read -r package; do
            version=$(apt-cache madison "$package" | cut -d'|' -f2 | tr -d ' ' | sort -V | tail -n 1)
            [ -z "$version" ] || echo "$package=$version"
        done
}

apt_install() { # PACKAGE...
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove
        --allow-downgrades "$@") replaced
    if [ "$(id -u)" -ne 0 ] && ! as_root true; then
        die "not root and no sudo: run this as root, then call again:
  apt-get update && apt-get install -y --no-install-recommends $*"
    fi
    if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
        say "apt-get update (there are no package lists yet)"
        as_root apt-get update -q </dev/null || die "apt-get update failed, see above"
    fi
    say "apt-get install $*"
    as_root "${install[@]}" -q </dev/null && return
    say "that failed; trying again with fresh package lists"
    as_root apt-get update -q </dev/null || die "apt-get update failed, see above"
    mapfile -t replaced < <(conflicting "$@")
    [ ${#replaced[@]} -eq 0 ] || say "taking the distribution's version, which goes together with the rest: ${replaced[*]}"
    as_root "${install[@]}" "${replaced[@]}" -q </dev/null ||
        die "apt-get could not install: $*. Its message is above; installing them by hand and calling again is fine."
}

if have apt-get; then
    wants_debian
    if [ ${#packages[@]} -gt 0 ]; then
        apt_install "${packages[@]}"
    fi
elif have dnf; then
    wants_fedora
    if [ ${#packages[@]} -gt 0 ]; then
        die "please install them and call again:
  sudo dnf install ${packages[*]}"
    fi
else
    wants_debian
    if [ ${#packages[@]} -gt 0 ]; then
        die "this is neither Debian nor Fedora: please install what is missing (Debian's names are above) and call again"
    fi
fi

# --- Rust ---------------------------------------------------------------------

if ! rust_is_complete && have rustup; then
    say "rust-src, clippy, rustfmt: the library source from which core and alloc are built for bare metal, and the checkers"
    timeout 180 rustup component add rust-src clippy rustfmt </dev/null ||
        say "rustup could not download them"
fi
if ! rust_is_complete && have apt-get; then
    say "rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web: Debian's current Rust, with the library source"
    apt_install rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web
fi
rust_is_complete ||
    die "still no Rust new enough with library source, clippy and rustfmt; with rustup: rustup update stable && rustup component add rust-src clippy rustfmt"

# --- tools of our own ---------------------------------------------------------

cargo_tool() { # BINARY CRATE VERSION REASON
    if [ -x "$tools/bin/$1" ] && [ -e "$tools/.$2-$3" ]; then
        return
    fi
    say "$2 $3 into target/tools: $4"
    PATH="$tools/bin:$PATH" CARGO_TARGET_DIR="$tools/build" "$top/scripts/toolchain.sh" \
        cargo install --locked --root "$tools" --version "$3" "$2" </dev/null ||
        die "cargo could not install $2 $3, see above"
    rm -rf "$tools/build"
    touch "$tools/.$2-$3"
}

cargo_tool cocoonfs cocoonfs-cli "$cocoonfs_version" "makes CocoonFs images"
if [ -n "$want_fuzz" ]; then
    cargo_tool cargo-fuzz cargo-fuzz "$fuzz_version" "runs the fuzz targets"
fi

# A small Linux, out of the distribution's packages, for the machine that measures its
# boot into the vTPM. It is not installed: what is running here stays as it is.
guest_modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk dm-mod dm-crypt ecb xts)
guest_packages() {
    apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p'
    echo busybox-static
}
guest_linux() {
    local packages package module from=$tools/guest.new
    rm -rf "$from" "$tools/guest"
    mkdir -p "$from/packages" "$tools/guest"
    mapfile -t packages < <(guest_packages)
    (cd "$from/packages" && apt-get download -q "${packages[@]}" </dev/null) || return
    for package in "$from"/packages/*.deb; do
        dpkg-deb -x "$package" "$from" || return
    done
    cp "$from"/boot/vmlinuz-* "$tools/guest/vmlinuz" &&
        find "$from" -path '*bin/busybox' -exec cp {} "$tools/guest/busybox" \; &&
        [ -e "$tools/guest/busybox" ] || return
    # Those that are built in have no file; some releases compress them.
    for module in "${guest_modules[@]}"; do
        find "$from" -name "$module.ko" -exec cp {} "$tools/guest/" \;
        find "$from" -name "$module.ko.xz" -exec cp {} "$tools/guest/" \; -exec xz -df "$tools/guest/$module.ko.xz" \;
    done
    rm -rf "$from" && touch "$tools/guest/.with-modules"
}
if have apt-get && ! [ -e "$tools/guest/.with-modules" ]; then
    say "linux-image-cloud-amd64 and busybox-static into target/tools/guest: the machine that measures its boot into the vTPM"
    guest_linux || { say "that failed; trying again with fresh package lists" && as_root apt-get update -q </dev/null && guest_linux; } ||
        die "the packages could not be fetched, see above"
fi

python_tool() { # PACKAGE VERSION REASON
    if [ -e "$tools/.$1-$2" ]; then
        return
    fi
    say "$1 $2 into target/tools/venv: $3"
    [ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv" ||
        die "python could not make target/tools/venv, see above"
    "$tools/venv/bin/python" -m pip install -q "$1==$2" </dev/null ||
        die "python could not install $1 $2, see above"
    touch "$tools/.$1-$2"
}

python_tool sev-snp-measure "$measure_version" "the independent implementation of the launch digest"
python_tool virt-firmware "$virt_firmware_version" "reads the UEFI variables that are exported, in make test"
