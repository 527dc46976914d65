//! Whose secret is taken: with keys pinned in the image nobody else's, without them
//! anybody's, and then the log says so.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{KEY, Mitm, OTHER_KEY, Servers, Step, image, tree};
use serde_json::json;

/// Somebody who has the SVSM and the proxy speak version 0.1.0.
fn downgrading(servers: &Servers) -> Result<Mitm> {
    Mitm::changing(servers.proxy.socket(), |step, message| {
        if step == Step::Offer {
            message["version"] = json!([0, 1, 0]);
        }
    })
}

/// An image that takes secrets only from the server with the key in `pem`.
fn pinned_image(pem: &Path, image: &Path) -> Result<()> {
    let output = Command::new(tree::built("igvmbuilder"))
        .arg("--stage2")
        .arg(tree::built("stage2.elf"))
        .arg("--kernel")
        .arg(tree::built("svsm.elf"))
        .arg("--trusted-kbs-key")
        .arg(pem)
        .arg("--elf")
        .arg(image)
        .output()?;
    ensure!(
        output.status.success(),
        "igvmbuilder: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Servers that release `key`, the server's public key in a file, and a guest whose image
/// has that key pinned.
fn with_pin(key: &str) -> Result<(Servers, e2e::Guest)> {
    let dir = tempfile::tempdir()?.keep();
    let pem = dir.join("kbs.pem");
    let pem_name = pem.to_str().context("path is not UTF-8")?;
    let servers = Servers::start_with(key, &["--public-key", pem_name])?;
    let image = servers.path("pinned.elf");
    pinned_image(&pem, &image)?;
    std::fs::remove_dir_all(dir)?;
    let guest = servers.guest().option("--kernel").option(image);
    Ok((servers, guest))
}

#[test]
fn a_pinned_server_is_taken_and_named() -> Result<()> {
    let (servers, guest) = with_pin(KEY)?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let boot = guest.image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&["the key that signed this exchange is pinned in this image"]);
    Ok(())
}

#[test]
fn a_second_server_with_its_own_key_and_disk_is_refused_with_a_pin() -> Result<()> {
    let (_servers, guest) = with_pin(KEY)?;
    let other = Servers::start_with(OTHER_KEY, &[])?;
    let state = other.path("state.img");
    image::formatted(&state, OTHER_KEY)?;
    let boot = guest.proxy(other.proxy.socket()).image(&state).boot()?;
    boot.assert_stopped("is none of those that are pinned in this image");
    Ok(())
}

#[test]
fn a_second_server_with_its_own_key_is_reported_without_a_pin() -> Result<()> {
    let (first, second) = (Servers::start()?, Servers::start()?);
    let state = first.path("state.img");
    image::creation_header(&state)?;
    first.guest().image(&state).boot()?.assert_complete();
    let boot = second.guest().image(&state).boot()?;
    boot.assert_says(&["WARNING: the key broker has another key than when it was last seen"]);
    Ok(())
}

#[test]
fn a_downgrade_to_the_older_protocol_is_refused_with_a_pin() -> Result<()> {
    let (servers, guest) = with_pin(KEY)?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let mitm = downgrading(&servers)?;
    let boot = guest.proxy(&mitm.socket()).image(&state).boot()?;
    boot.assert_stopped("the proxy speaks protocol 0.1.0 only");
    Ok(())
}

#[test]
fn without_a_pin_the_older_protocol_works_and_formats_nothing() -> Result<()> {
    let servers = Servers::start()?;
    let (blank, formatted) = (servers.path("blank.img"), servers.path("formatted.img"));
    image::creation_header(&blank)?;
    image::formatted(&formatted, KEY)?;
    let mitm = downgrading(&servers)?;
    let guest = servers.guest().proxy(&mitm.socket());
    let boot = guest.image(&blank).image(&formatted).boot()?;
    boot.assert_complete();
    boot.assert_says(&[
        "WARNING: the attestation proxy speaks protocol 0.1.0 only",
        "block device 0: CocoonFs creation header, formatting is not permitted",
        "block device 1: CocoonFs image authenticates under the key, used",
        "WARNING: no server vouches that the volume is the newest one",
    ]);
    Ok(())
}
