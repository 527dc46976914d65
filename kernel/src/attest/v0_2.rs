//! The exchange of version 0.2.0.
//!
//! Always true in here: the curve is this side's choice, the binding is a named one, and
//! nothing that was decrypted is used before it was found out who signed it. The order is:
//! is the server's key admitted, does the answer decrypt, what is in it, did that key sign
//! this exchange.

use super::costs::Phase;
use super::key::ExchangeKey;
use super::outcome::{LedgerEntry, Outcome, Proof, ServerIdentity, VolumeInfo};
use super::trust::{ServerKey, TrustError, TrustPolicy};
use super::{AttestError, Run, Secret, binding};
use crate::drivers::stream::ByteStream;
use alloc::vec::Vec;
use libaproxy::v0_2::{
    AttestationRequest, AttestationResponse, Authentication, Code, Jwe, Ledger, NegotiationRequest,
    NegotiationResponse, Refusal, Release, SignedSecret, SignedToken, Token, Transcript,
    evidence_digest_input,
};
use libaproxy::{UnsupportedVersion, Version, frame, requested_version, v0_1};
use sha2::{Digest, Sha384};
use zeroize::Zeroizing;

/// How the proxy took the offer of version 0.2.0.
pub(super) enum Negotiated {
    /// It speaks it.
    Current(NegotiationResponse),
    /// It gave the answer of version 0.1.0.
    Older(Vec<u8>),
    /// It refused with an error of version 0.1.0, and waits for another first message.
    Refused,
}

/// Offers version 0.2.0.
pub(super) async fn negotiate<S: ByteStream>(
    run: &mut Run<'_, '_, S>,
) -> Result<Negotiated, AttestError> {
    let request = NegotiationRequest {
        version: Version::V0_2_0,
        tee: run.client.evidence.tee(),
    };
    let answer = run.negotiate(&request).await?;
    match requested_version(&answer) {
        Ok(Version::V0_2_0) => frame::decode(&answer)
            .map(Negotiated::Current)
            .map_err(|error| AttestError::Negotiation(error.into())),
        Ok(Version::V0_1_0) => Ok(Negotiated::Older(answer)),
        Ok(other) => Err(UnsupportedVersion(other).into()),
        Err(_) => unversioned(answer),
    }
}

/// An answer that names no version: an error of either version, or the answer of 0.1.0.
fn unversioned(answer: Vec<u8>) -> Result<Negotiated, AttestError> {
    if let Ok(Refusal { error }) = frame::decode(&answer) {
        return Err(AttestError::Failed(error));
    }
    if frame::decode::<v0_1::Failure>(&answer).is_ok() {
        return Ok(Negotiated::Refused);
    }
    match frame::decode::<v0_1::NegotiationResponse>(&answer) {
        Ok(_) => Ok(Negotiated::Older(answer)),
        Err(error) => Err(AttestError::Negotiation(error.into())),
    }
}

/// Runs the rest of the exchange.
pub(super) async fn exchange<S: ByteStream>(
    run: &mut Run<'_, '_, S>,
    negotiated: NegotiationResponse,
) -> Result<Outcome, AttestError> {
    let curve = negotiated.curves.preferred().ok_or(AttestError::NoCurve)?;
    let key = ExchangeKey::generate(curve, run.client.entropy)?;
    let bound = binding::named(&negotiated.binding, &negotiated.nonce, &key.public())?;
    let request = AttestationRequest {
        tee: run.client.evidence.tee(),
        evidence: run.client.evidence.evidence(&bound)?,
        nonce: negotiated.nonce,
        key: key.public(),
    };
    run.costs.end(Phase::Evidence);
    let answer = run.decide(&request).await?;
    let answer = Released::read(&answer)?;
    answer.open(&request, &key, run.client.policy)
}

/// An answer that has a secret in it.
struct Released {
    jwe: Jwe,
    token: Option<Token>,
    authentication: Option<Authentication>,
    session: bool,
}

impl Released {
    fn read(answer: &[u8]) -> Result<Self, AttestError> {
        let answer: AttestationResponse =
            frame::decode(answer).map_err(|error| AttestError::Decision(error.into()))?;
        if !answer.success {
            return Err(match answer.error {
                None => AttestError::RefusedSilently,
                Some(failure) => match failure.code {
                    Code::EvidenceRefused | Code::Measurement | Code::Nonce | Code::NotPrimed => {
                        AttestError::Denied(failure)
                    }
                    _ => AttestError::Undecided(failure),
                },
            });
        }
        Ok(Self {
            jwe: answer.jwe.ok_or(AttestError::NoSecret("secret"))?,
            token: answer.token,
            authentication: answer.authentication,
            session: answer.session,
        })
    }

    /// Decrypts the answer and finds out who made it.
    fn open(
        self,
        request: &AttestationRequest,
        key: &ExchangeKey,
        policy: &TrustPolicy,
    ) -> Result<Outcome, AttestError> {
        let server = match &self.authentication {
            None => None,
            Some(authentication) => {
                let server = ServerKey::from_der(&authentication.key)?;
                policy.admit(&server)?;
                Some((server, authentication))
            }
        };
        let parts = self.jwe.parts()?;
        let text = key.decrypt(&parts)?;
        let Some((server, authentication)) = server else {
            return self.unauthenticated(text, request, policy);
        };

        let release = Release::parse(&text).map_err(AttestError::Release)?;
        let transcript = Transcript {
            tee: request.tee,
            nonce: &request.nonce,
            key: &request.key,
            evidence_digest: &evidence_digest(request),
            volume: &release.volume,
            jwe: &parts,
        };
        server.verify_transcript(&transcript, &authentication.signature)?;
        self.check_token(request, &server)?;
        if release.ledger != Ledger::Off && !self.session {
            return Err(AttestError::NoSession);
        }
        Ok(Outcome {
            version: Version::V0_2_0,
            secret: Secret::new(release.secret.0)?,
            volume: Some(VolumeInfo {
                name: release.volume,
                generation: release.generation,
            }),
            server: Some(identity(&server, policy, Proof::Exchange)),
            ledger: Some(LedgerEntry {
                state: release.state,
                identity: release.identity,
                epoch: release.epoch,
                counter: release.counter,
                mode: release.ledger,
            }),
            session_key: Some(release.session_key),
            token: self.token,
            nonce: (*request.nonce).into(),
        })
    }

    /// An answer whose sender did not prove who it is: the secret may be signed.
    fn unauthenticated(
        self,
        text: Zeroizing<Vec<u8>>,
        request: &AttestationRequest,
        policy: &TrustPolicy,
    ) -> Result<Outcome, AttestError> {
        let (secret, volume, server) = match SignedSecret::recognise(&text) {
            Some(signed) => {
                let signed = signed?;
                let server = ServerKey::from_coordinates(&signed.x, &signed.y)?;
                policy.admit(&server)?;
                server.verify_message(signed.signed, &signed.signature)?;
                let payload = signed.payload()?;
                let volume = VolumeInfo {
                    name: payload.volume,
                    generation: payload.generation,
                };
                let identity = identity(&server, policy, Proof::SignedSecret);
                (payload.secret.0, Some(volume), Some(identity))
            }
            None if policy.has_pins() => return Err(TrustError::Unauthenticated.into()),
            None if Release::parse(&text).is_ok() => {
                return Err(TrustError::SignatureMissing.into());
            }
            None => (text, None, None),
        };
        Ok(Outcome {
            version: Version::V0_2_0,
            secret: Secret::new(secret)?,
            volume,
            server,
            ledger: None,
            session_key: None,
            token: self.token,
            nonce: (*request.nonce).into(),
        })
    }

    /// Refuses a token that the server did not issue in this exchange.
    fn check_token(
        &self,
        request: &AttestationRequest,
        server: &ServerKey,
    ) -> Result<(), AttestError> {
        let text = match &self.token {
            None => return Ok(()),
            Some(Token::Jwt(text)) => text,
            Some(Token::Cwt(_)) => return Err(AttestError::Token),
        };
        let token = SignedToken::parse(text).ok_or(AttestError::Token)?;
        server
            .verify_message(token.signed, &token.signature)
            .map_err(|_| AttestError::Token)?;
        match token.is_about(&request.nonce, &request.key) {
            true => Ok(()),
            false => Err(AttestError::Token),
        }
    }
}

fn identity(server: &ServerKey, policy: &TrustPolicy, proof: Proof) -> ServerIdentity {
    ServerIdentity {
        fingerprint: server.fingerprint(),
        pinned: policy.has_pins(),
        proof,
    }
}

fn evidence_digest(request: &AttestationRequest) -> [u8; 48] {
    let mut hash = Sha384::new();
    evidence_digest_input(&request.evidence, |bytes| hash.update(bytes));
    hash.finalize().into()
}
