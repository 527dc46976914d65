//! The exchange of version 0.1.0: P-521, a list of what to hash that the proxy chooses, a
//! secret that nobody signed.

use super::costs::Phase;
use super::ecdh::EphemeralKey;
use super::jwe::{self, Encrypted};
use super::outcome::Outcome;
use super::{AttestError, Run, Secret, binding};
use crate::drivers::stream::ByteStream;
use alloc::vec::Vec;
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, Decryption, EcPublicKey, Failure, NegotiationRequest,
    NegotiationResponse, Token,
};
use libaproxy::{UnsupportedVersion, Version, frame, requested_version};
use p521::NistP521;

/// Runs the exchange. `answer` is the proxy's first one, if it gave it already.
pub(super) async fn exchange<S: ByteStream>(
    run: &mut Run<'_, '_, S>,
    answer: Option<Vec<u8>>,
) -> Result<Outcome, AttestError> {
    let tee = run.client.evidence.tee();
    let key = EphemeralKey::<NistP521>::generate(run.client.entropy)?;
    let answer = match answer {
        Some(answer) => answer,
        None => {
            let version = Version::V0_1_0;
            run.negotiate(&NegotiationRequest { version, tee }).await?
        }
    };
    let NegotiationResponse {
        challenge, params, ..
    } = negotiated(&answer)?;

    let point = key.public();
    let public = EcPublicKey {
        x: point.x.into(),
        y: point.y.into(),
    };
    let nonce = challenge.to_text();
    let report_data = binding::report_data(&params, &public, &challenge)?.into();
    let evidence = run.client.evidence.evidence(&report_data)?;
    run.costs.end(Phase::Evidence);
    let answer = run
        .decide(&AttestationRequest {
            tee,
            evidence,
            challenge,
            key: public,
        })
        .await?;
    let (ciphertext, parts, token) = released(&answer)?;

    let text = jwe::decrypt(&key, Encrypted::v0_1(&parts, ciphertext))?;
    Ok(Outcome {
        version: Version::V0_1_0,
        secret: Secret::new(text)?,
        volume: None,
        server: None,
        ledger: None,
        session_key: None,
        token,
        nonce,
    })
}

/// What was negotiated, unless the proxy wants another version or has given up.
fn negotiated(answer: &[u8]) -> Result<NegotiationResponse, AttestError> {
    // Another version's answer may have another shape, so its name comes first.
    if let Ok(version) = requested_version(answer)
        && version != Version::V0_1_0
    {
        return Err(UnsupportedVersion(version).into());
    }
    frame::decode(answer).map_err(|error| match frame::decode(answer) {
        Ok(Failure { error }) => AttestError::GivenUp(error),
        Err(_) => AttestError::Negotiation(error.into()),
    })
}

/// Ciphertext, what decrypts it, and the token, if the evidence was accepted.
fn released(answer: &[u8]) -> Result<(Vec<u8>, Decryption, Option<Token>), AttestError> {
    let answer: AttestationResponse =
        frame::decode(answer).map_err(|error| AttestError::Decision(error.into()))?;
    if !answer.success {
        return Err(answer
            .error
            .map_or(AttestError::RefusedSilently, AttestError::Refused));
    }
    let secret = answer.secret.ok_or(AttestError::NoSecret("secret"))?;
    let parts = answer
        .decryption
        .ok_or(AttestError::NoSecret("decryption data"))?;
    Ok((secret.0, parts, answer.token))
}
