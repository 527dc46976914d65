//! Somebody between the SVSM and its server who reads and changes everything: no secret
//! of his is taken for the server's.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use e2e::{Boot, Fate, KEY, Mitm, OTHER_KEY, Servers, To, image, tree};
use serde_json::{Value, json};

/// The answer with the secret, counted on the line.
const ANSWER: usize = 4;

/// Boots once with `meddle` on the line, on a disk with a creation header.
fn boot_with(meddle: impl FnMut(To, usize, &mut Value) -> Fate + Send + 'static) -> Result<Boot> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let mitm = Mitm::start(&servers.path("."), servers.proxy.socket(), meddle)?;
    servers.guest().proxy(mitm.socket()).image(&state).boot()
}

/// The member of `message` at `pointer`.
fn member<'a>(message: &'a mut Value, pointer: &str) -> &'a mut Value {
    let text = message.to_string();
    message
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("no {pointer} in {text}"))
}

/// Another text of the same length and alphabet.
fn damaged(text: &Value) -> Value {
    let mut bytes = text.as_str().expect("a string").as_bytes().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    json!(String::from_utf8(bytes).expect("ASCII"))
}

/// A boot in which the member at `pointer` of the answer is damaged.
fn damage(pointer: &'static str) -> Result<Boot> {
    boot_with(move |_, number, message| {
        if number == ANSWER {
            let place = member(message, pointer);
            *place = damaged(place);
        }
        Fate::Pass
    })
}

#[test]
fn without_meddling_the_boot_works() -> Result<()> {
    let boot = boot_with(|_, _, _| Fate::Pass)?;
    boot.assert_complete();
    boot.assert_says(&["the key that signed this exchange is not pinned"]);
    Ok(())
}

#[test]
fn a_swapped_ciphertext_is_refused() -> Result<()> {
    damage("/jwe/ciphertext")?.assert_stopped("the authentication tag does not match");
    Ok(())
}

#[test]
fn a_swapped_wrapped_key_is_refused() -> Result<()> {
    damage("/jwe/encrypted_key")?.assert_stopped("the content key does not unwrap");
    Ok(())
}

#[test]
fn a_swapped_ephemeral_key_is_refused() -> Result<()> {
    // Inside the protected header, in base64url: the middle of it is in the coordinates.
    damage("/jwe/protected")?.assert_stopped("attestation failed: the ");
    Ok(())
}

#[test]
fn a_swapped_signature_is_refused() -> Result<()> {
    damage("/authentication/signature")?
        .assert_stopped("the server's signature does not match this exchange");
    Ok(())
}

#[test]
fn a_signature_that_is_left_out_is_missed() -> Result<()> {
    let boot = boot_with(|_, number, message| {
        if number == ANSWER {
            *member(message, "/authentication") = Value::Null;
        }
        Fate::Pass
    })?;
    boot.assert_stopped("the signature of the server was left out");
    Ok(())
}

#[test]
fn a_swapped_challenge_is_refused_by_the_server() -> Result<()> {
    let boot = boot_with(|_, number, message| {
        if number == 2 {
            let nonce = member(message, "/nonce");
            *nonce = damaged(nonce);
        }
        Fate::Pass
    })?;
    assert_eq!(boot.status, 1, "the log:\n{}", boot.log());
    boot.assert_says(&["ERROR: attestation failed"]);
    Ok(())
}

#[test]
fn a_key_swapped_for_another_is_refused_by_the_server() -> Result<()> {
    // The evidence says to whom the secret is to be encrypted, and on which curve.
    for (pointer, value) in [("/key/x", None), ("/key/crv", Some("P-521"))] {
        let boot = boot_with(move |_, number, message| {
            if number == 3 {
                let place = member(message, pointer);
                *place = value.map_or_else(|| damaged(place), |value| json!(value));
            }
            Fate::Pass
        })?;
        assert_eq!(boot.status, 1, "{pointer}; the log:\n{}", boot.log());
        boot.assert_says(&["ERROR: attestation failed"]);
    }
    Ok(())
}

#[test]
fn a_swapped_token_is_refused() -> Result<()> {
    let boot = boot_with(|_, number, message| {
        if number == ANSWER {
            *member(message, "/token") = json!({"Jwt": "eyJhbGciOiJub25lIn0.e30."});
        }
        Fate::Pass
    })?;
    boot.assert_stopped("the token is not one that the server issued in this exchange");
    Ok(())
}

#[test]
fn an_answer_to_an_earlier_boot_is_refused() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let earlier = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&earlier);
    let mitm = Mitm::start(
        &servers.path("."),
        servers.proxy.socket(),
        move |_, number, message| {
            if number == ANSWER {
                let mut kept = kept.lock().unwrap();
                match kept.as_ref() {
                    Some(earlier) => *message = Value::clone(earlier),
                    None => *kept = Some(message.clone()),
                }
            }
            Fate::Pass
        },
    )?;
    let guest = servers.guest().proxy(mitm.socket()).image(&state);
    guest.boot()?.assert_complete();
    guest
        .boot()?
        .assert_stopped("the content key does not unwrap with this exchange's key");
    Ok(())
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
    let mitm = Mitm::start(
        &servers.path("."),
        servers.proxy.socket(),
        |to, number, message| {
            if (to, number) == (To::Proxy, 1) {
                *member(message, "/version") = json!([0, 1, 0]);
            }
            Fate::Pass
        },
    )?;
    let boot = guest.proxy(mitm.socket()).image(&state).boot()?;
    boot.assert_stopped("the proxy speaks protocol 0.1.0 only");
    Ok(())
}

#[test]
fn without_a_pin_the_older_protocol_works_and_formats_nothing() -> Result<()> {
    let servers = Servers::start()?;
    let (blank, formatted) = (servers.path("blank.img"), servers.path("formatted.img"));
    image::creation_header(&blank)?;
    image::formatted(&formatted, KEY)?;
    let mitm = Mitm::start(
        &servers.path("."),
        servers.proxy.socket(),
        |to, number, message| {
            if (to, number) == (To::Proxy, 1) {
                *member(message, "/version") = json!([0, 1, 0]);
            }
            Fate::Pass
        },
    )?;
    let guest = servers.guest().proxy(mitm.socket());
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
