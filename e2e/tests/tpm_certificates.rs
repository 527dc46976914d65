//! A TPM that `swtpm_setup` made, with certificates for its endorsement keys, is brought into
//! an image, and the SVSM serves it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::setting::LOADED;
use e2e::{KEY, Setting, image, tree};

/// Has `swtpm_setup` make a TPM in `state` with certificates by an authority in `dir`/ca.
fn make_certified(dir: &Path, state: &Path) -> Result<()> {
    let (work, ca) = (dir.display(), dir.join("ca"));
    fs::create_dir(&ca)?;
    fs::create_dir(state)?;
    let ca = ca.display();
    fs::write(
        dir.join("ca.conf"),
        format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\n\
             issuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
        ),
    )?;
    fs::write(
        dir.join("ca.options"),
        "--platform-manufacturer Test\n--platform-version 1\n--platform-model vm\n",
    )?;
    let tool = Command::new("sh")
        .args(["-c", "command -v swtpm_localca"])
        .output()?;
    let tool = String::from_utf8(tool.stdout)?;
    fs::write(
        dir.join("setup.conf"),
        format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {work}/ca.conf\n\
             create_certs_tool_options = {work}/ca.options\nactive_pcr_banks = sha256\n",
            tool.trim()
        ),
    )?;
    let output = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--create-platform-cert"])
        .args(["--lock-nvram", "--tpmstate"])
        .arg(state)
        .arg("--config")
        .arg(dir.join("setup.conf"))
        .arg("--tpm")
        .arg(format!("{} socket", tree::built("swtpm").display()))
        .output()
        .context("cannot start swtpm_setup; scripts/setup.sh installs it")?;
    ensure!(
        output.status.success(),
        "swtpm_setup: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_tpm_with_certificates_is_brought_into_an_image_and_served() -> Result<()> {
    let setting = Setting::without_image()?;
    let state = setting.servers.path("certified");
    make_certified(&setting.servers.path(""), &state)?;
    image::formatted(&setting.state, KEY)?;
    image::import_tpm(&setting.state, KEY, &state)?;

    // The second boot finds what the first one did.
    for _ in 0..2 {
        let serving = setting.boot()?;
        ensure!(serving.log().contains(LOADED), "{}", serving.log());
        let tpm = serving.tpm()?;
        tpm.line("tpm2_startup -c")?;
        // The certificate is of the key that the TPM has, and by the authority.
        tpm.shell(
            "tpm2_nvread -Q 0x01c00002 -o ek.der
             openssl x509 -inform der -in ek.der -out ek.pem
             openssl x509 -in ek.pem -noout -pubkey >certified.pub
             tpm2_readpublic -Q -c 0x81010001 -f pem -o ek.pub
             cmp certified.pub ek.pub
             openssl verify -partial_chain -CAfile ca/issuercert.pem ek.pem
             tpm2_nvread -Q 0x01c00016 -o ecc.der
             openssl x509 -inform der -in ecc.der -noout -pubkey >certified.pub
             tpm2_readpublic -Q -c 0x81010016 -f pem -o ecc.pub
             cmp certified.pub ecc.pub
             tpm2_nvread -Q 0x01c08000 -o platform.der
             openssl x509 -inform der -in platform.der -out platform.pem
             openssl verify -partial_chain -CAfile ca/issuercert.pem platform.pem",
        )?;
        // Nobody can replace it: it was locked.
        let refused = tpm.shell("tpm2_nvwrite -C p 0x01c00002 -i ecc.der");
        let refused = refused.expect_err("written to").to_string();
        ensure!(refused.contains("0x148"), "{refused}");
        drop(tpm);
        serving.shut_down()?.assert_complete();
    }
    Ok(())
}
