//! Somebody between the SVSM and the real proxy who reads everything and changes one thing.
//! The boot stops and names what it noticed; where the change is harmless it goes on.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use e2e::hostile::{self, ScriptedProxy};
use e2e::{Boot, Servers, image};
use serde_json::{Value, json};

const FAILED: &str = "[SVSM] ERROR: attestation failed: ";
const LIMIT: Duration = Duration::from_secs(60);

/// A message that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Offer,
    Challenge,
    Evidence,
    Answer,
}

use Step::{Answer, Challenge, Evidence, Offer};

/// Passes on the four messages of an exchange, each through `change`, and what follows as it is.
fn relay(
    svsm: &mut UnixStream,
    proxy: &mut UnixStream,
    change: &mut dyn FnMut(Step, &mut Value),
) -> Result<()> {
    for (there, back) in [(Offer, Challenge), (Evidence, Answer)] {
        for (step, up) in [(there, true), (back, false)] {
            let (from, to) = match up {
                true => (&mut *svsm, &mut *proxy),
                false => (&mut *proxy, &mut *svsm),
            };
            let mut message = hostile::receive(from)?;
            change(step, &mut message);
            hostile::send(to, message.to_string().as_bytes())?;
        }
    }
    // Reports, until the guest is gone.
    while let Ok(message) = hostile::receive(svsm) {
        hostile::send(proxy, message.to_string().as_bytes())?;
        let answer = hostile::receive(proxy)?;
        hostile::send(svsm, answer.to_string().as_bytes())?;
    }
    Ok(())
}

/// Boots behind somebody who applies `change`; tells whether the image stayed as it was.
fn boot(
    servers: &Servers,
    mut change: impl FnMut(Step, &mut Value) + Send + 'static,
) -> Result<(Boot, bool)> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;
    let real = servers.proxy.socket().to_owned();
    let middle = ScriptedProxy::start(dir.path(), move |svsm| {
        let mut proxy = UnixStream::connect(real)?;
        proxy.set_read_timeout(Some(LIMIT))?;
        // It ends where either side gives up.
        let _ = relay(svsm, &mut proxy, &mut change);
        hostile::hold(svsm);
        Ok(())
    })?;
    let boot = e2e::Guest::new()
        .proxy(middle.socket())
        .image(&state)
        .boot()?;
    middle.finish()?;
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

#[test]
fn somebody_who_only_listens_is_not_noticed() -> Result<()> {
    let (boot, _) = boot(&Servers::start()?, |_, _| {})?;
    boot.assert_complete();
    boot.assert_says(&[
        "the key that signed this exchange",
        "attestation successful",
    ]);
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

#[test]
fn swapped_ephemeral_key_is_noticed() -> Result<()> {
    // The answer of another exchange has another ephemeral key, well formed in every way.
    let servers = Servers::start()?;
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let (first, _) = boot(&servers, move |step, message| {
        if step == Answer {
            let header = message["jwe"]["protected"].clone();
            *keep.lock().unwrap_or_else(|e| e.into_inner()) = Some(header);
        }
    })?;
    first.assert_complete();
    let (second, unchanged) = boot(&servers, move |step, message| {
        let seen = seen.lock().unwrap_or_else(|e| e.into_inner());
        if let (Answer, Some(header)) = (step, &*seen) {
            message["jwe"]["protected"] = header.clone();
        }
    })?;
    second.assert_stopped("the content key does not unwrap with this exchange's key");
    assert!(unchanged, "the image changed");
    Ok(())
}

#[test]
fn earlier_answer_is_noticed() -> Result<()> {
    let servers = Servers::start()?;
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let (first, _) = boot(&servers, move |step, message| {
        if step == Answer {
            *keep.lock().unwrap_or_else(|e| e.into_inner()) = Some(message.clone());
        }
    })?;
    first.assert_complete();
    let (second, unchanged) = boot(&servers, move |step, message| {
        let seen = seen.lock().unwrap_or_else(|e| e.into_inner());
        if let (Answer, Some(earlier)) = (step, &*seen) {
            *message = earlier.clone();
        }
    })?;
    second.assert_stopped("the secret does not decrypt");
    assert!(unchanged, "the image changed");
    Ok(())
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

#[test]
fn downgrade_is_told_where_no_key_is_pinned() -> Result<()> {
    // The offer itself is not signed: without pinned keys the older version is spoken.
    let (boot, _) = boot(&Servers::start()?, |step, message| {
        if step == Offer {
            message["version"] = json!([0, 1, 0]);
        }
    })?;
    boot.assert_complete();
    boot.assert_says(&["WARNING: the attestation proxy speaks protocol 0.1.0 only"]);
    Ok(())
}
