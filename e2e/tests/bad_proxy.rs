//! Proxies that are absent, broken or hostile: the boot stops with one message that
//! names the cause, within a bounded time, and no image is touched.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{fs, net::Shutdown};

use anyhow::Result;
use e2e::hostile::ScriptedProxy;
use e2e::{Guest, image, message};

/// How long the SVSM waits in most of these tests, in seconds.
const PATIENCE: u32 = 5;

const FAILED: &str = "[SVSM] ERROR: attestation failed: ";

/// Boots with an image and a proxy that follows `script`; the boot must stop with
/// `cause` in its message and leave the image alone.
#[track_caller]
fn refused(
    cause: &str,
    script: impl FnOnce(&mut UnixStream) -> Result<()> + Send + 'static,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;

    let proxy = ScriptedProxy::start(dir.path(), script)?;
    let boot = Guest::new()
        .proxy(proxy.socket())
        .patience(PATIENCE)
        .image(&state)
        .boot()?;
    boot.assert_stopped(FAILED);
    boot.assert_stopped(cause);
    proxy.finish()?;
    assert!(fs::read(&state)? == before, "the image changed");
    Ok(())
}

/// A negotiation that is fine: a nonce of 16 zeros, both bindings.
const NEGOTIATION: &[u8] =
    br#"{"challenge":"AAAAAAAAAAAAAAAAAAAAAA==","params":["EcPublicKeyBytes","Challenge"]}"#;

/// Negotiates as it should be and reads the evidence.
fn negotiate(stream: &mut UnixStream) -> Result<serde_json::Value> {
    let request = message::receive(stream)?;
    anyhow::ensure!(
        request["version"] == serde_json::json!([0, 2, 0]),
        "the SVSM asked for {request}"
    );
    message::send(stream, NEGOTIATION)?;
    message::receive(stream)
}

/// An answer that would be right but for `change`: nothing in it decrypts.
fn answer(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    // Coordinates of the base point of P-521, a key the SVSM must accept as a point.
    let x =
        "AMaFjga3BATpzZ4+y2YjlbRCnGSBOQU/tSH4KK9ga009uqFLXnfv51ko/h3BJ6L/qN4zSLPBhWpCm/l+fjHC5b1m";
    let y =
        "ARg5KWp4mjvABFyKX7QsfRvZmPVESVebRGgXr70XJz5mLJfucplekPZhUwXYRNnUL9nJDZgfmV3rOFVcA6QwaGqb";
    let mut message = serde_json::json!({
        "success": true,
        "secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "decryption": {
            "epk": { "x": x, "y": y },
            "wrapped_cek": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
            "aad": "e30=",
            "iv": "AAAAAAAAAAAAAAAA",
            "tag": "AAAAAAAAAAAAAAAAAAAAAA=="
        },
        "token": { "Jwt": "a.b.c" }
    });
    change(&mut message);
    message.to_string().into_bytes()
}

#[test]
fn without_a_proxy_the_wait_is_bounded() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;
    let boot = Guest::new().image(&state).boot()?;
    boot.assert_stopped(FAILED);
    boot.assert_stopped("no answer from the proxy within");
    let end = boot.lines.last().map(|l| l.at).unwrap_or_default();
    assert!(end < Duration::from_secs(90), "took {end:?}");
    assert!(fs::read(&state)? == before, "the image changed");
    Ok(())
}

#[test]
fn a_proxy_that_says_nothing_is_given_up() -> Result<()> {
    refused("no answer from the proxy within", |stream| {
        message::receive(stream)?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn a_proxy_that_closes_at_once_is_given_up() -> Result<()> {
    refused("no answer from the proxy within", |stream| {
        Ok(stream.shutdown(Shutdown::Both)?)
    })
}

#[test]
fn a_proxy_that_stops_in_the_middle_of_a_message_is_given_up() -> Result<()> {
    refused("the proxy stopped after 28 of 90 bytes", |stream| {
        message::receive(stream)?;
        stream.write_all(&82_u64.to_le_bytes())?;
        stream.write_all(&NEGOTIATION[..20])?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn a_proxy_that_closes_in_the_middle_of_a_message_is_given_up() -> Result<()> {
    // QEMU may lose bytes that it has not passed on when the line is closed.
    refused(" answer", |stream| {
        message::receive(stream)?;
        stream.write_all(&82_u64.to_le_bytes())?;
        stream.write_all(&NEGOTIATION[..20])?;
        Ok(stream.shutdown(Shutdown::Both)?)
    })
}

#[test]
fn a_proxy_that_closes_between_the_messages_is_given_up() -> Result<()> {
    refused("decision: no answer from the proxy within", |stream| {
        negotiate(stream)?;
        Ok(stream.shutdown(Shutdown::Both)?)
    })
}

#[test]
fn a_length_of_2_to_the_63_is_refused_before_anything_is_allocated() -> Result<()> {
    refused("9223372036854775808", |stream| {
        message::receive(stream)?;
        stream.write_all(&(1_u64 << 63).to_le_bytes())?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn a_length_of_zero_is_refused() -> Result<()> {
    refused("invalid message", |stream| {
        message::receive(stream)?;
        stream.write_all(&0_u64.to_le_bytes())?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn invalid_json_is_refused() -> Result<()> {
    refused("invalid message", |stream| {
        message::receive(stream)?;
        message::send(stream, br#"{"challenge":"AAAA","params":["#)?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn an_answer_in_another_version_is_refused() -> Result<()> {
    refused("protocol version 9.0.0 is not supported", |stream| {
        message::receive(stream)?;
        message::send(
            stream,
            br#"{"version":[9,0,0],"challenge":"AAAAAAAAAAAAAAAAAAAAAA==","params":["EcPublicKeyBytes","Challenge"]}"#,
        )?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn parameters_that_leave_the_evidence_unbound_are_refused() -> Result<()> {
    for (params, cause) in [
        ("[]", "do not bind the evidence"),
        (r#"["Challenge"]"#, "do not bind the evidence to the key"),
        (
            r#"["EcPublicKeyBytes"]"#,
            "do not bind the evidence to the challenge",
        ),
        (
            r#"["EcPublicKeyBytes","Challenge","Challenge"]"#,
            "name something twice",
        ),
    ] {
        let negotiation =
            format!(r#"{{"challenge":"AAAAAAAAAAAAAAAAAAAAAA==","params":{params}}}"#);
        refused(cause, move |stream| {
            message::receive(stream)?;
            message::send(stream, negotiation.as_bytes())?;
            message::hold(stream);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_refusal_of_the_server_is_fatal() -> Result<()> {
    refused("evidence refused", |stream| {
        negotiate(stream)?;
        message::send(
            stream,
            br#"{"success":false,"decryption":null,"token":null}"#,
        )?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn the_cause_that_the_proxy_gives_is_in_the_message() -> Result<()> {
    refused("the broker has gone fishing", |stream| {
        negotiate(stream)?;
        message::send(
            stream,
            br#"{"success":false,"decryption":null,"token":null,"error":"the broker has gone fishing"}"#,
        )?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn a_secret_that_does_not_decrypt_is_refused() -> Result<()> {
    refused("the secret does not decrypt", |stream| {
        negotiate(stream)?;
        message::send(stream, &answer(|_| {}))?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn success_without_a_secret_is_refused() -> Result<()> {
    refused("the answer has no secret", |stream| {
        negotiate(stream)?;
        let answer = answer(|m| {
            m.as_object_mut().map(|m| m.remove("secret"));
        });
        message::send(stream, &answer)?;
        message::hold(stream);
        Ok(())
    })
}

#[test]
fn parts_of_a_wrong_size_are_refused() -> Result<()> {
    for (member, value, cause) in [
        ("wrapped_cek", "", "0 bytes instead of 40"),
        ("iv", "AAAA", "3 bytes instead of 12"),
        ("tag", "AA==", "1 bytes instead of 16"),
    ] {
        refused(cause, move |stream| {
            negotiate(stream)?;
            message::send(stream, &answer(|m| m["decryption"][member] = value.into()))?;
            message::hold(stream);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_server_key_off_the_curve_is_refused() -> Result<()> {
    refused("is not a point on", |stream| {
        negotiate(stream)?;
        let answer = answer(|m| {
            let x = m["decryption"]["epk"]["x"].clone();
            m["decryption"]["epk"]["y"] = x;
        });
        message::send(stream, &answer)?;
        message::hold(stream);
        Ok(())
    })
}
