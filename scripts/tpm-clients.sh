#!/usr/bin/env bash
# Drives the TPM server with real clients, with a restart in the middle: tpm2-tools, clevis,
# OpenSSL's provider, systemd-cryptenroll, swtpm_setup. Prints one line for each promise.
#
#   scripts/tpm-clients.sh [path of the server]
#
# With TPM_CLIENTS_TCTI set, no server is started and nothing is restarted: the clients use
# that TPM (one behind `guestlink tpm`, say).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
server=$(realpath "${1:-$root/bin/vtpm-server}")
port=${TPM_CLIENTS_PORT:-2361}
need() {
    command -v "$1" >/dev/null || { echo "$0: $1 is missing: install $2" >&2; exit 1; }
}
need tpm2_create tpm2-tools
need openssl openssl
need clevis clevis-tpm2
need cryptsetup cryptsetup-bin
need systemd-cryptenroll systemd
need swtpm_setup swtpm-tools
work=$(mktemp -d)
finish() {
    [ ! -e "$work/pid" ] || kill "$(cat "$work/pid")" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
mkdir state
external=${TPM_CLIENTS_TCTI:-}
export TPM2TOOLS_TCTI=${external:-swtpm:host=127.0.0.1,port=$port}
export TPM2OPENSSL_TCTI=$TPM2TOOLS_TCTI

start() {
    [ -z "$external" ] || return 0
    "$server" socket --tpm2 --server "type=tcp,port=$port" --ctrl "type=tcp,port=$((port + 1))" \
        --flags not-need-init,startup-clear --tpmstate "dir=$work/state" --daemon --pid "file=$work/pid"
}
stop() {
    [ -z "$external" ] || return 0
    kill "$(cat pid)"
    for _ in $(seq 100); do
        [ -e pid ] || return 0
        sleep 0.1
    done
    echo "$0: the server does not end" >&2
    return 1
}
restart() {
    if [ -n "$external" ]; then
        tpm2_pcrreset -Q 16
    else
        tpm2_shutdown
        stop
        start
    fi
    tpm2_pcrextend "16:sha256=$(printf 'ab%.0s' {1..32})"
}
room() { tpm2_flushcontext -t && tpm2_flushcontext -l; }
ok() { printf '  OK       %s\n' "$*"; }
is() { [ "$1" = "$2" ] || { echo "$0: '$1' instead of '$2'" >&2; exit 1; }; }
refused() { if "$@" >refused.log 2>&1; then echo "$0: not refused: $*" >&2; exit 1; fi; }

start
tpm2_pcrreset -Q 16
tpm2_pcrextend "16:sha256=$(printf 'ab%.0s' {1..32})"
tpm2_createprimary -Q -C o -c primary.ctx
tpm2_createpolicy -Q --policy-pcr -l sha256:0,7,16 -L policy
printf secret | tpm2_create -Q -C primary.ctx -i - -L policy -u sealed.pub -r sealed.priv
tpm2_evictcontrol -Q -C o -c primary.ctx 0x81000001
room
tpm2_createek -Q -c 0x81010001 -G rsa -u ek.pub
room
tpm2_nvdefine -Q -C o -s 32 -a "ownerread|ownerwrite|authread|authwrite" 0x1500016
printf hello | tpm2_nvwrite -Q -C o -i - 0x1500016
tpm2_nvdefine -Q -C o -s 8 -a "ownerread|ownerwrite|authread|authwrite|nt=counter" 0x1500017
tpm2_nvincrement -C o 0x1500017
tpm2_nvincrement -C o 0x1500017

restart
tpm2_load -Q -C 0x81000001 -u sealed.pub -r sealed.priv -c sealed.ctx
is "$(tpm2_unseal -c sealed.ctx -p pcr:sha256:0,7,16)" secret
ok "a secret sealed to PCRs is unsealed after a restart, by a persistent key"
is "$(tpm2_nvread -C o 0x1500016 -s 5)" hello
is "$(tpm2_nvread -C o 0x1500017 2>/dev/null | od -An -tx1 | tr -d ' \n')" 0000000000000002
ok "NV data and counters are there after a restart"
tpm2_pcrextend "16:sha256=$(printf 'cd%.0s' {1..32})"
refused tpm2_unseal -c sealed.ctx -p pcr:sha256:0,7,16
ok "other PCR values do not unseal"
room

tpm2_createak -Q -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name
room
tpm2_quote -Q -c ak.ctx -l sha256:0,7,16 -q abcd -m quote.msg -s quote.sig -o quote.pcrs
tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -q abcd
refused tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -q abce
ok "a quote verifies, with its nonce only"
room
printf '0123456789abcdef' >credential
tpm2_readpublic -Q -c 0x81010001 -o ek.pub
tpm2_makecredential -Q -u ek.pub -s credential -n "$(od -An -tx1 ak.name | tr -d ' \n')" -o credential.blob
tpm2_startauthsession --policy-session -S session.ctx
tpm2_policysecret -Q -S session.ctx -c e
tpm2_activatecredential -Q -c ak.ctx -C 0x81010001 -i credential.blob -o activated -P session:session.ctx
tpm2_flushcontext session.ctx
cmp credential activated
ok "a credential for the endorsement key is activated"
room

tpm2_dictionarylockout -Q -s -n 3 -t 1000 -l 1000
tpm2_nvdefine -Q -C o -s 8 -a "authread|authwrite" -p right 0x1500018
for _ in 1 2 3; do refused tpm2_nvread -C 0x1500018 -P wrong 0x1500018; done
restart
refused tpm2_nvread -C 0x1500018 -P right 0x1500018
grep -q 0x921 refused.log
tpm2_dictionarylockout -Q -c
printf 12345678 | tpm2_nvwrite -Q -C 0x1500018 -P right -i - 0x1500018
tpm2_dictionarylockout -Q -s -n 32 -t 600 -l 600
ok "the lockout after wrong passwords survives a restart, and the owner ends it"

room
is "$(echo hi | clevis encrypt tpm2 '{"pcr_bank":"sha256","pcr_ids":"0,7"}' | clevis decrypt)" hi
ok "clevis"
room
openssl genpkey -provider tpm2 -provider base -algorithm EC -pkeyopt group:P-256 -out key.pem 2>/dev/null
openssl req -provider tpm2 -provider default -propquery '?provider=tpm2' -x509 -new -key key.pem \
    -subj /CN=vtpm -out certificate.pem
openssl verify -CAfile certificate.pem certificate.pem >/dev/null
ok "OpenSSL signs a certificate with a key in the TPM"
room
truncate -s 32M disk.img
printf password >password
cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk.img password
PASSWORD=password systemd-cryptenroll "--tpm2-device=$TPM2TOOLS_TCTI" --tpm2-pcrs=0+7 disk.img >enroll.log 2>&1 ||
    { cat enroll.log >&2; exit 1; }
ok "systemd-cryptenroll"
tpm2_clear -c p
refused tpm2_nvread -C o 0x1500016
refused tpm2_readpublic -c 0x81000001
ok "clear removes the owner's keys and indices"
stop

if [ -z "$external" ]; then
    mkdir bin ca certified
    cp "$server" bin/swtpm
    cat >ca.conf <<-END
	statedir = $work/ca
	signingkey = $work/ca/signkey.pem
	issuercert = $work/ca/issuercert.pem
	certserial = $work/ca/certserial
	END
    printf '%s\n' '--platform-manufacturer Test' '--platform-version 1' '--platform-model vm' >ca.options
    cat >setup.conf <<-END
	create_certs_tool = $(command -v swtpm_localca)
	create_certs_tool_config = $work/ca.conf
	create_certs_tool_options = $work/ca.options
	active_pcr_banks = sha256
	END
    swtpm_setup --tpm2 --tpmstate "$work/certified" --create-ek-cert --create-platform-cert --lock-nvram \
        --config "$work/setup.conf" --tpm "$work/bin/swtpm socket" >setup.log 2>&1 || { cat setup.log >&2; exit 1; }
    ok "swtpm_setup makes endorsement keys with certificates"
fi
