#!/usr/bin/env bash
# Runs the test suites of other projects against our TPM server:
# tpm2-pytss 3.0.0 and tss-esapi 7.7.0. Prints one line of counts for each, and fails where
# a test fails or fewer pass than with libtpms (tpm2-pytss: than 560 of its 570, since some
# depend on the version of tpm2-tss).
#
#   scripts/tpm-suites.sh [pytss|esapi|all] [path of the server]
#
# Work directory: $TPM_SUITES_DIR, or target/tpm-suites. Needs what
# "scripts/setup.sh suites" installs.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
suite=${1:-all}
server=${2:-$root/bin/vtpm-server}
work=${TPM_SUITES_DIR:-$root/target/tpm-suites}
pytss=tpm2_pytss-3.0.0
esapi=tss-esapi-7.7.0

need() {
    command -v "$1" >/dev/null || { echo "$0: $1 is missing: install $2" >&2; exit 1; }
}
need python3 python3
need pkg-config pkg-config
pkg-config --exists tss2-esys || { echo "$0: the TSS headers are missing: install libtss2-dev" >&2; exit 1; }
# Libraries that the tests use, as they were when all of them passed.
pytss_packages=(cffi==2.1.1 cryptography==50.0.2 packaging==26.4 pytest==9.2.0 pytest-timeout==2.4.0
    pytest-xdist==3.8.0 pyyaml==6.0.4)

enough() { # SUITE PASSED LEAST
    [ "${2:-0}" -ge "$3" ] || { echo "$0: $1: only ${2:-0} passed, $3 were expected" >&2; return 1; }
}
[ -x "$server" ] || { echo "$0: no server at $server: build it with 'make tools'" >&2; exit 1; }

mkdir -p "$work/bin"
cp -f "$server" "$work/bin/swtpm"
export PATH="$work/bin:$PATH"

run_pytss() {
    if [ ! -d "$work/$pytss" ]; then
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" -q download --no-deps --no-binary tpm2-pytss -d "$work" tpm2-pytss==3.0.0
        "$work/venv/bin/pip" -q install tpm2-pytss==3.0.0 "${pytss_packages[@]}"
        tar -xzf "$work/$pytss.tar.gz" -C "$work"
    fi
    local status=0
    (cd "$work/$pytss/test" && "$work/venv/bin/python" -m pytest -q -n 2 --timeout 120 \
        -p no:cacheprovider -rfE . ) >"$work/pytss.log" 2>&1 || status=$?
    grep -E '^(FAILED|ERROR)' "$work/pytss.log" || true
    echo "tpm.pytss: $(tail -n 1 "$work/pytss.log")"
    enough tpm2-pytss "$(tail -n 1 "$work/pytss.log" | grep -o '[0-9]* passed' | cut -d ' ' -f 1)" 560 || status=1
    return "$status"
}

run_esapi() {
        if [ ! -d "$work/$esapi" ]; then
        # The registry package has the tests; cargo fetches it, a copy of it is built.
        local fetch=$work/fetch
        mkdir -p "$fetch/src"
        : >"$fetch/src/lib.rs"
        cat >"$fetch/Cargo.toml" <<-END
		[package]
		name = "fetch"
		version = "0.0.0"
		edition = "2021"
		[workspace]
		[dependencies]
		tss-esapi = "=7.7.0"
		END
        "$root/scripts/toolchain.sh" cargo vendor -q --manifest-path "$fetch/Cargo.toml" "$work/vendor" >/dev/null
        cp -r "$work/vendor/tss-esapi" "$work/$esapi"
        rm -rf "$work/vendor"
        printf '\n[workspace]\n' >>"$work/$esapi/Cargo.toml"
    fi
    local state port=${TPM_SUITES_PORT:-2351} pid status=0
    (cd "$work/$esapi" && "$root/scripts/toolchain.sh" cargo test -q --test integration_tests --no-run) >"$work/esapi-build.log" 2>&1 \
        || { tail -n 20 "$work/esapi-build.log"; return 1; }
    state=$(mktemp -d)
    "$work/bin/swtpm" socket --tpm2 --server "type=tcp,port=$port" --ctrl "type=tcp,port=$((port + 1))" \
        --flags not-need-init,startup-clear --tpmstate "dir=$state" &
    pid=$!
    export TEST_TCTI=swtpm:host=127.0.0.1,port=$port TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=$port
    (cd "$work/$esapi" && timeout 900 "$root/scripts/toolchain.sh" cargo test --test integration_tests -- --test-threads=1) \
        >"$work/esapi.log" 2>&1 || status=$?
    kill "$pid" 2>/dev/null || true
    rm -rf "$state"
    grep -E '^test .*FAILED' "$work/esapi.log" || true
    echo "tpm.esapi: $(grep -E '^test result' "$work/esapi.log" || echo "no result, see $work/esapi.log")"
    enough tss-esapi "$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$work/esapi.log")" 401 || status=1
    return "$status"
}

status=0
case $suite in
    pytss) run_pytss || status=$? ;;
    esapi) run_esapi || status=$? ;;
    all)
        run_pytss || status=$?
        run_esapi || status=$?
        ;;
    *) echo "usage: $0 [pytss|esapi|all] [server]" >&2; exit 2 ;;
esac
exit "$status"
