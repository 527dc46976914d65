//! Protocol version 0.2.0: the SVSM chooses curve and binding, the server proves who it
//! is, errors have codes, and reports about the volume follow the secret.
//!
//! Always true in here: what the two ends have to compute alike (the hash that binds
//! evidence, the transcript a server signs, the bodies of reports) is laid out once, as
//! bytes, and hashed or signed elsewhere; names and lengths are checked while a message
//! is parsed, so a value of a type in here is one that may be used.
//!
//! | # | from | message |
//! |---|---|---|
//! | 1 | SVSM | [`NegotiationRequest`] |
//! | 2 | proxy | [`NegotiationResponse`] or [`Refusal`] |
//! | 3 | SVSM | [`AttestationRequest`] |
//! | 4 | proxy | [`AttestationResponse`] |
//! | 5 | SVSM | [`ReportRequest`], any number of times |
//! | 6 | proxy | [`ReportResponse`] to each |
//!
//! Inside the encrypted part of message 4 is a [`Release`], a [`SignedSecret`], or a
//! secret as it is.

mod binding;
mod failure;
mod jwe;
mod jws;
mod names;
mod release;
mod report;
mod secret;
mod signed;
mod token;
mod transcript;

pub use crate::v0_1::{Evidence, NegotiationRequest, Tee, Token};
pub use binding::{Binding, runtime_data};
pub use failure::{Code, Failure, Refusal};
pub use jwe::{Jwe, JweFormatError, JweParts};
pub use names::{
    Curve, Curves, MAX_CURVES, MAX_NONCE, MAX_VOLUME_NAME, NameError, Nonce, VolumeName,
};
pub use release::{Ledger, MAX_RELEASE, Release, VolumeState};
pub use report::{
    ACK_MAC_PREFIX, AckBody, MAC_LEN, REPORT_MAC_PREFIX, ReportBody, ReportKind, ReportRequest,
    ReportResponse, Sealed,
};
pub use secret::{Identity, SESSION_KEY_LEN, SecretBytes, SessionKey};
pub use signed::{SIGNED_SECRET_TYPE, SignedPayload, SignedSecret, SignedSecretError};
pub use token::SignedToken;
pub use transcript::{TRANSCRIPT_LABEL, Transcript, evidence_digest_input};

use crate::bytes::Base64;
use crate::version::Version;
use serde::{Deserialize, Serialize};

/// Length of a P-384 signature as it travels, in bytes: r, then s, big-endian.
pub const SIGNATURE_LEN: usize = 96;

/// Second message: what the evidence has to be bound to, and the curves to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationResponse {
    /// [`Version::V0_2_0`].
    pub version: Version,
    /// The server's challenge, in its own characters.
    pub nonce: Nonce,
    /// How evidence is bound to the exchange.
    pub binding: Binding,
    /// Curves the server can encrypt to.
    pub curves: Curves,
}

/// The SVSM's ephemeral public key: affine coordinates, big-endian, each as long as
/// [`Curve::field_len`] with leading zeros kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// The curve.
    pub crv: Curve,
    /// x-coordinate.
    pub x: Base64,
    /// y-coordinate.
    pub y: Base64,
}

impl PublicKey {
    /// Whether both coordinates have the length of the curve's field.
    pub fn is_well_formed(&self) -> bool {
        let len = self.crv.field_len();
        self.x.len() == len && self.y.len() == len
    }
}

/// Third message: the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationRequest {
    /// Kind of the evidence; the same as in the negotiation.
    pub tee: Tee,
    /// The evidence. For `snp`, REPORT_DATA is the digest of [`runtime_data`] and 16 zero
    /// bytes; for `sample`, `report_data` is the digest alone.
    pub evidence: Evidence,
    /// The challenge it answers.
    pub nonce: Nonce,
    /// The key it is bound to, to which the secret is to be encrypted.
    pub key: PublicKey,
}

/// A server's proof of who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// The server's static P-384 key: SubjectPublicKeyInfo in DER (RFC 5480), 120 bytes.
    pub key: Base64,
    /// ECDSA with SHA-384 over the [`Transcript`], [`SIGNATURE_LEN`] bytes.
    pub signature: Base64,
}

/// Fourth message: the server's decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationResponse {
    /// Whether the evidence was accepted.
    pub success: bool,
    /// The encrypted secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwe: Option<Jwe>,
    /// The server's statement that it accepted the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Proof of the server's identity; servers that know nothing of it give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Whether the proxy forwards reports for as long as the line is connected.
    #[serde(default)]
    pub session: bool,
    /// Why not, where `success` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl AttestationResponse {
    /// The answer to evidence that was not accepted.
    pub fn failure(error: Failure) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn key_of_another_length_is_not_well_formed() {
        let key = |crv, x: usize, y: usize| PublicKey {
            crv,
            x: alloc::vec![1; x].into(),
            y: alloc::vec![1; y].into(),
        };
        for (crv, len) in [(Curve::P256, 32), (Curve::P384, 48), (Curve::P521, 66)] {
            assert!(key(crv, len, len).is_well_formed());
            assert!(!key(crv, len - 1, len).is_well_formed());
            assert!(!key(crv, len, len + 1).is_well_formed());
            assert!(!key(crv, 0, 0).is_well_formed());
        }
    }

    #[test]
    fn refusal_needs_no_other_member() {
        let answer: AttestationResponse = frame::decode(
            br#"{"success":false,"error":{"code":"measurement","detail":"not as expected"}}"#,
        )
        .unwrap();
        let failure = Failure::new(Code::Measurement, "not as expected");
        assert_eq!(answer, AttestationResponse::failure(failure));
    }
}
