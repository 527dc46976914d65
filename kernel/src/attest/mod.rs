//! The attestation client: evidence out, secret in.
//!
//! Everything at the other end of the line is the host's. What comes from there is
//! checked before it is used, is waited for only so long, and can make attestation
//! fail but not make it succeed with a secret that was not encrypted to this
//! exchange's key. Who encrypted it is another question, which version 0.1.0 of the
//! protocol leaves open: see `Documentation/ATTESTATION.md`.

#![forbid(unsafe_code)]

pub mod binding;
pub mod ecdh;
pub mod evidence;
pub mod jwe;
pub mod secret;
pub mod transport;

pub use evidence::{EvidenceError, EvidenceSource, SampleEvidence};
pub use libaproxy::v0_1::Token;
pub use secret::{Secret, SecretError};
pub use transport::{LinkError, Timeouts};

use crate::drivers::stream::ByteStream;
use crate::entropy::{Entropy, EntropyError};
use crate::time::Clock;
use binding::BindingError;
use ecdh::EphemeralKey;
use jwe::JweError;
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, Decryption, Failure, NegotiationRequest,
    NegotiationResponse, Tee,
};
use libaproxy::{Text, UnsupportedVersion, Version, frame, requested_version};
use p521::NistP521;
use transport::Link;

/// What a successful attestation brings.
#[derive(Debug)]
pub struct Attestation {
    /// The secret the server released.
    pub secret: Secret,
    /// The server's statement that it accepted the evidence; not verified.
    pub token: Option<Token>,
}

/// Why attestation failed. Each message reads on after `attestation failed: `; words
/// in it that are the proxy's are printable, short, and marked as such.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// The first answer did not get through.
    #[error("negotiation: {0}")]
    Negotiation(#[source] LinkError),
    /// The proxy wants a version this SVSM does not speak.
    #[error("negotiation: {0}")]
    Version(#[from] UnsupportedVersion),
    /// The proxy says it cannot negotiate.
    #[error("negotiation: the proxy gave up and says: {0}")]
    GivenUp(Text),
    /// The proxy asks for evidence that proves too little.
    #[error("negotiation: {0}")]
    Binding(#[from] BindingError),
    /// There is no randomness for the key.
    #[error("ephemeral key: {0}")]
    Entropy(#[from] EntropyError),
    /// There is no evidence.
    #[error("evidence: {0}")]
    Evidence(#[from] EvidenceError),
    /// The second answer did not get through.
    #[error("decision: {0}")]
    Decision(#[source] LinkError),
    /// The evidence was not accepted, and the proxy says why.
    #[error("evidence refused, the proxy says: {0}")]
    Refused(Text),
    /// The evidence was not accepted.
    #[error("evidence refused, the proxy gives no reason")]
    RefusedSilently,
    /// The evidence was accepted, but what it takes to have a secret is missing.
    #[error("evidence accepted, but the answer has no {0}")]
    NoSecret(&'static str),
    /// The secret does not decrypt.
    #[error("the secret does not decrypt: {0}")]
    Decrypt(#[from] JweError),
    /// The secret is not one.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Attests over `stream`, protocol version 0.1.0, and returns the secret that the
/// server released for the evidence.
///
/// Returns within the sum of `timeouts` (`message` counts up to four times) and what
/// `evidence` takes.
pub async fn attest(
    stream: &mut impl ByteStream,
    clock: &dyn Clock,
    evidence: &dyn EvidenceSource,
    entropy: &dyn Entropy,
    timeouts: &Timeouts,
) -> Result<Attestation, AttestError> {
    let tee = evidence.tee();
    if tee == Tee::Sample {
        log::warn!("attestation evidence is a sample and proves nothing: this platform has no TEE");
    }
    let key = EphemeralKey::<NistP521>::generate(entropy)?;
    let (mut link, stale) =
        Link::open(stream, clock, timeouts.message).map_err(AttestError::Negotiation)?;
    if stale > 0 {
        log::warn!("threw away {stale} stale bytes on the line to the attestation proxy");
    }

    let request = NegotiationRequest {
        version: Version::V0_1_0,
        tee,
    };
    let answer = link
        .ask(&request, timeouts.negotiation)
        .await
        .map_err(AttestError::Negotiation)?;
    let NegotiationResponse {
        challenge, params, ..
    } = negotiated(&answer)?;

    let public = key.public();
    let report_data = binding::report_data(&params, &public, &challenge)?;
    let request = AttestationRequest {
        tee,
        evidence: evidence.evidence(&report_data)?,
        challenge,
        key: public,
    };
    let answer = link
        .ask(&request, timeouts.decision)
        .await
        .map_err(AttestError::Decision)?;
    let (ciphertext, parts, token) = released(&answer)?;

    let secret = Secret::new(jwe::decrypt(&key, &parts, ciphertext)?)?;
    Ok(Attestation { secret, token })
}

/// What was negotiated, unless the proxy wants another version or has given up.
fn negotiated(answer: &[u8]) -> Result<NegotiationResponse, AttestError> {
    // Another version's answer may have another shape, so its name comes first.
    if let Ok(version) = requested_version(answer) {
        version.supported()?;
    }
    frame::decode(answer).map_err(|error| match frame::decode(answer) {
        Ok(Failure { error }) => AttestError::GivenUp(error),
        Err(_) => AttestError::Negotiation(error.into()),
    })
}

/// Ciphertext, what decrypts it, and the token, if the evidence was accepted.
fn released(
    answer: &[u8],
) -> Result<(alloc::vec::Vec<u8>, Decryption, Option<Token>), AttestError> {
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
