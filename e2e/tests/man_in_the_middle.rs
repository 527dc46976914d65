//! Somebody between the SVSM and the real proxy who reads everything and changes one thing.
//! The boot stops and names what it noticed; where the change is harmless it goes on.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::Step::{Answer, Challenge, Evidence};
use e2e::{Boot, KEY, Mitm, Servers, Step, image};
use serde_json::{Value, json};

const FAILED: &str = "[SVSM] ERROR: attestation failed: ";

/// Boots behind somebody who applies `change`; tells whether the image stayed as it was.
fn boot(
    servers: &Servers,
    change: impl FnMut(Step, &mut Value) + Send + 'static,
) -> Result<(Boot, bool)> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;
    let mitm = Mitm::changing(servers.proxy.socket(), change)?;
    let boot = servers.guest().proxy(&mitm.socket()).image(&state).boot()?;
    let unchanged = fs::read(&state)? == before;
    Ok((boot, unchanged))
}

/// The boot stops with `cause`, and the image is not touched.
#[track_caller]
fn noticed(cause: &str, change: impl FnMut(Step, &mut Value) + Send + 'static) -> Result<()> {
    let (boot, unchanged) = boot(&Servers::start()?, change)?;
    boot.assert_stopped(FAILED);
    boot.assert_stopped(cause);
    assert!(unchanged, "the image changed");
    Ok(())
}

/// Exchanges one character in the middle of a string for another.
fn damage(text: &mut Value) {
    let Some(old) = text.as_str() else {
        panic!("not a string: {text}");
    };
    let mut bytes = old.as_bytes().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    *text = json!(String::from_utf8_lossy(&bytes));
}

/// Whether `part` is somewhere in `bytes`.
fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn somebody_who_only_listens_and_reads_the_disk_learns_nothing() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let mitm = Mitm::changing(servers.proxy.socket(), move |_, message| {
        let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(message.clone());
    })?;
    let guest = servers.guest().proxy(&mitm.socket()).image(&state);
    let boot = guest.boot()?;
    boot.assert_complete();
    boot.assert_says(&[
        "the key that signed this exchange",
        "attestation successful",
        "successfully wrote updated boot counter",
    ]);

    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let key = hex::decode(KEY)?;
    let said = heard.iter().map(Value::to_string).collect::<String>();
    assert!(said.contains("ciphertext"), "nothing was heard");
    for form in [KEY.to_owned(), BASE64_STANDARD.encode(&key)] {
        assert!(!said.contains(&form), "the secret is in the messages");
    }
    // The file with the token, which is there for who has the key.
    let token = image::read_file(&state, KEY, 3 << 32 | 1)?;
    assert!(has(&token, b"\"nonce\""));
    let disk = fs::read(&state)?;
    assert!(!has(&disk, b"\"nonce\""), "a file is on the disk as it is");
    assert!(!has(&disk, &key), "the root key is on the disk");
    Ok(())
}

#[test]
fn swapped_ciphertext_is_noticed() -> Result<()> {
    noticed("the authentication tag does not match", |step, message| {
        if step == Answer {
            damage(&mut message["jwe"]["ciphertext"]);
        }
    })
}

/// Boots twice behind somebody who keeps the answer of the first boot and uses it in the
/// second, which must stop with `cause`.
#[track_caller]
fn earlier_answer(
    cause: &str,
    mut reuse: impl FnMut(&mut Value, &Value) + Send + 'static,
) -> Result<()> {
    let servers = Servers::start()?;
    let kept = Arc::new(Mutex::new(Value::Null));
    let keep = Arc::clone(&kept);
    let (first, _) = boot(&servers, move |step, message| {
        if step == Answer {
            *keep.lock().unwrap_or_else(PoisonError::into_inner) = message.clone();
        }
    })?;
    first.assert_complete();
    let (second, unchanged) = boot(&servers, move |step, message| {
        if step == Answer {
            reuse(
                message,
                &kept.lock().unwrap_or_else(PoisonError::into_inner),
            );
        }
    })?;
    second.assert_stopped(FAILED);
    second.assert_stopped(cause);
    assert!(unchanged, "the image changed");
    Ok(())
}

#[test]
fn swapped_ephemeral_key_is_noticed() -> Result<()> {
    // The answer of another exchange has another ephemeral key, well formed in every way.
    earlier_answer(
        "the content key does not unwrap with this exchange's key",
        |message, earlier| message["jwe"]["protected"] = earlier["jwe"]["protected"].clone(),
    )
}

#[test]
fn earlier_answer_is_noticed() -> Result<()> {
    earlier_answer("the secret does not decrypt", |message, earlier| {
        *message = earlier.clone();
    })
}

#[test]
fn token_of_an_earlier_boot_is_noticed() -> Result<()> {
    earlier_answer(
        "the token is not one that the server issued in this exchange",
        |message, earlier| message["token"] = earlier["token"].clone(),
    )
}

#[test]
fn swapped_challenge_is_noticed() -> Result<()> {
    noticed("the proxy says: ", |step, message| {
        if step == Challenge {
            message["nonce"] = json!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        }
    })
}

#[test]
fn swapped_key_of_the_svsm_is_noticed() -> Result<()> {
    // The base point of P-384: a key whose private half everybody knows.
    noticed("evidence refused, the proxy says: ", |step, message| {
        if step == Evidence {
            message["key"] = json!({
                "crv": "P-384",
                "x": "qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3",
                "y": "NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f",
            });
        }
    })
}

#[test]
fn swapped_curve_of_the_svsm_is_noticed() -> Result<()> {
    // A key on another curve than the evidence was made for: the base point of P-256.
    noticed("evidence refused, the proxy says: ", |step, message| {
        if step == Evidence {
            message["key"] = json!({
                "crv": "P-256",
                "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY=",
                "y": "T+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=",
            });
        }
    })
}

#[test]
fn swapped_version_is_noticed() -> Result<()> {
    // What the server answers to the one version is no answer of the other.
    noticed("negotiation: invalid message", |step, message| {
        if step == Challenge {
            message["version"] = json!([0, 1, 0]);
        }
    })
}

#[test]
fn swapped_token_is_noticed() -> Result<()> {
    noticed(
        "the token is not one that the server issued in this exchange",
        |step, message| {
            if step == Answer {
                message["token"] = json!({"Jwt": "eyJhbGciOiJub25lIn0.e30."});
            }
        },
    )
}

#[test]
fn swapped_signature_is_noticed() -> Result<()> {
    noticed(
        "the server's signature does not match this exchange",
        |step, message| {
            if step == Answer {
                damage(&mut message["authentication"]["signature"]);
            }
        },
    )
}

#[test]
fn stripped_signature_is_noticed() -> Result<()> {
    noticed(
        "the signature of the server was left out",
        |step, message| {
            if step == Answer {
                message["authentication"] = Value::Null;
            }
        },
    )
}

#[test]
fn narrowed_choice_of_curves_is_harmless() -> Result<()> {
    // Every curve on offer is good enough; the choice is in what the server signs.
    let (boot, _) = boot(&Servers::start()?, |step, message| {
        if step == Challenge {
            message["curves"] = json!(["secp256k1", "P-256"]);
        }
    })?;
    boot.assert_complete();
    Ok(())
}

#[test]
fn curves_that_nobody_knows_are_refused() -> Result<()> {
    noticed(
        "the server offers no curve that is known here",
        |step, message| {
            if step == Challenge {
                message["curves"] = json!(["secp256k1"]);
            }
        },
    )
}

#[test]
fn binding_that_nobody_knows_is_refused() -> Result<()> {
    noticed("the binding 'none' is not known here", |step, message| {
        if step == Challenge {
            message["binding"] = json!("none");
        }
    })
}
