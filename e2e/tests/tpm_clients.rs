//! What real clients made with the TPM in one boot of the SVSM is good in the next: disks
//! and secrets unlock, keys sign, quotes verify, and what was locked or cleared stays so.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::setting::LOADED;
use e2e::{Serving, Setting, TpmServer};

/// What a client does in one boot.
type Part = fn(&Serving, &TpmServer) -> Result<()>;

/// Each part has a boot of its own, with the state that the one before left.
fn boots(parts: &[Part]) -> Result<()> {
    let setting = Setting::with_tpm()?;
    for part in parts {
        let serving = setting.boot()?;
        ensure!(serving.log().contains(LOADED), "{}", serving.log());
        let tpm = serving.tpm()?;
        tpm.line("tpm2_startup -c")?;
        part(&serving, &tpm)?;
        drop(tpm);
        serving.shut_down()?.assert_complete();
    }
    Ok(())
}

/// Something that must not succeed, with what the TPM, or the tool, says to it.
#[track_caller]
fn assert_refused(tpm: &TpmServer, line: &str, why: &str) {
    let error = tpm.line(line).expect_err(line).to_string();
    assert!(error.contains(why), "{why:?} is not why: {error}");
}

/// An endorsement key of this algorithm at 0x81010001 with `ek.pub`, and below it a persistent
/// attestation key at 0x81010002 with `ak.pub` and `ak.name`.
fn make_attestation_key(tpm: &TpmServer, algorithm: &str) -> Result<()> {
    tpm.shell(&format!(
        "tpm2_createek -Q -c 0x81010001 -G {algorithm} -u ek.pub
         tpm2_flushcontext -t
         tpm2_createak -Q -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name
         tpm2_flushcontext -t
         tpm2_flushcontext -l
         tpm2_evictcontrol -Q -C o -c ak.ctx 0x81010002",
    ))?;
    Ok(())
}

#[test]
fn a_disk_that_systemd_cryptenroll_enrolled_unlocks_in_the_next_boot() -> Result<()> {
    boots(&[
        |_, tpm| {
            tpm.shell(
                "truncate -s 32M disk.img
                 printf password >password
                 cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 \
                     --pbkdf-force-iterations 1000 disk.img password
                 PASSWORD=password systemd-cryptenroll --tpm2-device=$TPM2TOOLS_TCTI \
                     --tpm2-pcrs=0+7 disk.img",
            )?;
            Ok(())
        },
        // Attaching the disk takes the kernel's device mapper, which not every machine
        // that runs this has; `disk_unlock.rs` does that in a guest. Here the volume
        // key is unlocked by what systemd left in the header.
        |serving, tpm| {
            let token = tpm.shell("cryptsetup token export --token-id 0 disk.img")?;
            let token: serde_json::Value = serde_json::from_str(&token)?;
            assert_eq!(token["type"], "systemd-tpm2");
            assert_eq!(token["tpm2-pcrs"], serde_json::json!([0, 7]));
            let blob = token["tpm2-blob"].as_str().context("a sealed blob")?;
            fs::write(serving.path("blob"), blob)?;
            let unlock = "tpm2_unseal -c sealed.ctx -p pcr:sha256:0,7 | base64 -w0 |
                 cryptsetup open --test-passphrase --key-file - disk.img";
            // TPM2B_PRIVATE and TPM2B_PUBLIC, one after the other.
            tpm.shell(&format!(
                "base64 -d blob >both
                 private=$((2 + 0x$(head -c 2 both | od -An -tx1 | tr -d ' \\n')))
                 head -c $private both >sealed.priv
                 tail -c +$((private + 1)) both >sealed.pub
                 tpm2_createprimary -Q -C o -G ecc256:aes128cfb -c primary.ctx
                 tpm2_load -Q -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx
                 tpm2_flushcontext -t
                 {unlock}
                 if printf wrong | cryptsetup open --test-passphrase --key-file - disk.img
                 then exit 1; fi"
            ))?;
            tpm.line(&format!("tpm2_pcrextend 7:sha256={}", "ab".repeat(32)))?;
            tpm.line("tpm2_flushcontext -t")?;
            assert!(tpm.shell(unlock).is_err());
            Ok(())
        },
    ])
}

#[test]
fn what_clevis_encrypted_is_decrypted_in_the_next_boot() -> Result<()> {
    boots(&[
        |_, tpm| {
            tpm.shell(
                "printf 'the secret' | clevis encrypt tpm2 \
                     '{\"pcr_bank\":\"sha256\",\"pcr_ids\":\"0,7\"}' >secret.jwe",
            )?;
            Ok(())
        },
        |_, tpm| {
            assert_eq!(tpm.shell("clevis decrypt <secret.jwe")?, "the secret");
            tpm.line(&format!("tpm2_pcrextend 7:sha256={}", "ab".repeat(32)))?;
            tpm.line("tpm2_flushcontext -t")?;
            assert!(tpm.shell("clevis decrypt <secret.jwe").is_err());
            Ok(())
        },
    ])
}

#[test]
fn keys_of_the_openssl_provider_sign_in_the_next_boot() -> Result<()> {
    boots(&[
        |_, tpm| {
            // One that OpenSSL makes and keeps in a file, and one that the TPM keeps.
            tpm.shell(
                "openssl genpkey -provider tpm2 -provider base -algorithm EC \
                     -pkeyopt group:P-256 -out file.pem
                 openssl pkey -provider tpm2 -provider base -in file.pem -pubout -out file.pub
                 tpm2_flushcontext -t
                 tpm2_createprimary -Q -C o -G ecc -c primary.ctx
                 tpm2_create -Q -C primary.ctx -G ecc256 -u key.pub -r key.priv \
                     -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
                 tpm2_flushcontext -t
                 tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx
                 tpm2_flushcontext -t
                 tpm2_evictcontrol -Q -C o -c key.ctx 0x81000010
                 tpm2_readpublic -Q -c 0x81000010 -f pem -o handle.pub",
            )?;
            Ok(())
        },
        |_, tpm| {
            tpm.shell(
                "printf 'signed in another boot' >message
                 for key in file.pem:file.pub handle:0x81000010:handle.pub; do
                     openssl pkeyutl -provider tpm2 -provider default \
                         -propquery '?provider=tpm2' -sign -inkey ${key%:*} \
                         -rawin -digest sha256 -in message -out signature
                     tpm2_flushcontext -t
                     openssl dgst -sha256 -verify ${key##*:} -signature signature message
                     if openssl dgst -sha256 -verify ${key##*:} -signature signature file.pub
                     then exit 1; fi
                 done",
            )?;
            Ok(())
        },
    ])
}

#[test]
fn a_quote_by_a_key_of_an_earlier_boot_verifies_with_its_nonce_and_pcrs_only() -> Result<()> {
    boots(&[
        |_, tpm| make_attestation_key(tpm, "ecc"),
        |_, tpm| {
            tpm.shell(
                "tpm2_quote -Q -c 0x81010002 -l sha256:0,7,16 -q abcd \
                     -m quote.msg -s quote.sig -o quote.pcrs
                 tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -q abcd",
            )?;
            let check = "tpm2_checkquote -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -q";
            assert_refused(tpm, &format!("{check} abce"), "nonce");
            // The signature and the values belong to different moments.
            tpm.shell(&format!(
                "tpm2_pcrextend 16:sha256={}
                 tpm2_quote -Q -c 0x81010002 -l sha256:0,7,16 -q abcd \
                     -m quote.msg -s quote.sig -o later.pcrs",
                "ab".repeat(32)
            ))?;
            assert_refused(tpm, &format!("{check} abcd"), "PCR");
            Ok(())
        },
    ])
}

#[test]
fn a_credential_for_the_key_in_the_manifest_is_activated_by_this_tpm() -> Result<()> {
    boots(&[
        |serving, tpm| {
            make_attestation_key(tpm, "rsa")?;
            // The key that a client derives from the template is the one that the SVSM
            // vouches for.
            assert_eq!(fs::read(serving.path("ek.pub"))?, endorsement_key(serving)?);
            Ok(())
        },
        |serving, tpm| {
            fs::write(serving.path("manifest.pub"), endorsement_key(serving)?)?;
            // The verifier has no TPM.
            tpm.shell(
                "printf '0123456789abcdef' >credential
                 tpm2_print -t TPM2B_PUBLIC -f pem manifest.pub >manifest.pem
                 tpm2_makecredential -Q -T none -u manifest.pem -G rsa -s credential \
                     -n $(od -An -tx1 ak.name | tr -d ' \\n') -o credential.blob
                 tpm2_startauthsession --policy-session -S session.ctx
                 tpm2_policysecret -Q -S session.ctx -c e
                 tpm2_activatecredential -Q -c 0x81010002 -C 0x81010001 -i credential.blob \
                     -o activated -P session:session.ctx
                 tpm2_flushcontext session.ctx
                 cmp credential activated",
            )?;
            // Not for another key than the one that it was made for.
            tpm.shell(
                "tpm2_createak -Q -C 0x81010001 -c other.ctx -G ecc -g sha256 -s ecdsa \
                     -u other.pub -n other.name
                 tpm2_flushcontext -t
                 tpm2_flushcontext -l
                 tpm2_startauthsession --policy-session -S session.ctx
                 tpm2_policysecret -Q -S session.ctx -c e",
            )?;
            assert_refused(
                tpm,
                "tpm2_activatecredential -Q -c other.ctx -C 0x81010001 -i credential.blob \
                 -o none -P session:session.ctx",
                "integrity check failed",
            );
            Ok(())
        },
    ])
}

/// The endorsement key in the services manifest, as TPM2B_PUBLIC.
fn endorsement_key(serving: &Serving) -> Result<Vec<u8>> {
    const VTPM: &str = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
    let manifest = serving.guestlink(&["manifest", "--json"])?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    let services = manifest["services"].as_array().context("services")?;
    let vtpm = services.iter().find(|service| service["guid"] == VTPM);
    let public = vtpm.context("the vTPM")?["data"].as_str().context("data")?;
    let public = hex::decode(public)?;
    let length = u16::try_from(public.len())?.to_be_bytes();
    Ok([&length[..], &public].concat())
}

const LOCKED_OUT: &str = "0x921";

#[test]
fn a_lockout_survives_a_reboot_and_the_owner_ends_it() -> Result<()> {
    boots(&[
        |_, tpm| {
            tpm.shell(
                "tpm2_dictionarylockout -Q -s -n 3 -t 100000 -l 100000
                 tpm2_nvdefine -Q -C o -s 8 -a 'authread|authwrite' -p right 0x1500018
                 printf 12345678 | tpm2_nvwrite -Q -C 0x1500018 -P right -i - 0x1500018",
            )?;
            for _ in 0..3 {
                assert_refused(tpm, "tpm2_nvread -C 0x1500018 -P wrong 0x1500018", "0x98E");
            }
            assert_refused(
                tpm,
                "tpm2_nvread -C 0x1500018 -P right 0x1500018",
                LOCKED_OUT,
            );
            Ok(())
        },
        |_, tpm| {
            assert_refused(
                tpm,
                "tpm2_nvread -C 0x1500018 -P right 0x1500018",
                LOCKED_OUT,
            );
            tpm.line("tpm2_dictionarylockout -Q -c")?;
            let read = "tpm2_nvread -C 0x1500018 -P right 0x1500018";
            assert_eq!(tpm.line(read)?, "12345678");
            Ok(())
        },
    ])
}

#[test]
fn what_was_cleared_is_gone_for_good_and_the_endorsement_key_is_not() -> Result<()> {
    boots(&[
        |serving, tpm| {
            fs::write(serving.path("ek.pub"), endorsement_key(serving)?)?;
            tpm.shell(
                "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
                 printf secret | tpm2_create -Q -C primary.ctx -i - -u sealed.pub -r sealed.priv
                 tpm2_flushcontext -t
                 tpm2_evictcontrol -Q -C o -c primary.ctx 0x81000001
                 tpm2_load -Q -C 0x81000001 -u sealed.pub -r sealed.priv -c sealed.ctx
                 tpm2_flushcontext -t
                 tpm2_nvdefine -Q -C o -s 8 -a 'ownerread|ownerwrite' 0x1500016
                 printf 12345678 | tpm2_nvwrite -Q -C o -i - 0x1500016
                 tpm2_clear -c l",
            )?;
            Ok(())
        },
        |serving, tpm| {
            // TPM_RC_HANDLE for the first handle.
            assert_refused(tpm, "tpm2_readpublic -c 0x81000001", "0x18B");
            assert_refused(tpm, "tpm2_nvreadpublic 0x1500016", "0x18B");
            // The same template gives another key, which cannot open what was sealed.
            tpm.line("tpm2_createprimary -Q -C o -G ecc -c primary.ctx")?;
            assert_refused(
                tpm,
                "tpm2_load -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx",
                "integrity check failed",
            );
            assert_eq!(fs::read(serving.path("ek.pub"))?, endorsement_key(serving)?);
            Ok(())
        },
    ])
}
