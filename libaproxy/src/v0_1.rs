//! Protocol version 0.1.0: two requests, two answers, P-521 throughout.
//!
//! On the wire this is what other SVSMs and proxies of that version speak, with
//! three additions they ignore because they ignore members they do not know:
//! `version` in [`NegotiationResponse`], `error` in [`AttestationResponse`], and
//! [`Failure`] in place of a [`NegotiationResponse`], which such an SVSM refuses as
//! it must. `sample` evidence is an addition too.
//!
//! The order of members is the order in which they are sent.

use crate::bytes::Base64;
use crate::text::Text;
use crate::version::Version;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Kind of trusted execution environment, by the names of the KBS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// AMD SEV-SNP.
    Snp,
    /// No TEE at all; its evidence proves nothing.
    Sample,
}

impl Tee {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Sample => "sample",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// First message: the SVSM says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationRequest {
    /// [`Version::V0_1_0`]; read it with [`crate::requested_version`] first.
    pub version: Version,
    /// The kind of evidence that will come.
    pub tee: Tee,
}

/// Something that REPORT_DATA has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Param {
    /// The SVSM's ephemeral public key: x, then y, big-endian, 66 bytes each.
    EcPublicKeyBytes,
    /// The bytes of [`NegotiationResponse::challenge`].
    Challenge,
}

/// Second message: what the evidence has to be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiationResponse {
    /// Nonce of the attestation server.
    pub challenge: Base64,
    /// What goes into REPORT_DATA, in this order. Chosen by the untrusted proxy: an
    /// SVSM must refuse a list that would leave the evidence unbound.
    pub params: Vec<Param>,
    /// The version the proxy wants to go on with; absent means 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// Sent in place of a [`NegotiationResponse`] by a proxy that cannot give one, for
/// instance because the attestation server is down. Ends the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, in words.
    pub error: Text,
}

/// Third message: the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationRequest {
    /// Kind of the evidence; the same as in the negotiation.
    pub tee: Tee,
    /// The evidence.
    pub evidence: Evidence,
    /// The challenge it answers.
    pub challenge: Base64,
    /// The key it is bound to, to which the secret is to be encrypted.
    pub key: EcPublicKey,
}

/// Evidence of one kind of TEE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// AMD SEV-SNP.
    Snp {
        /// ATTESTATION_REPORT, 1184 bytes (AMD 56860, section 7.3).
        report: Base64,
        /// Certificates as the host handed them out (GHCB specification, extended
        /// guest request); usually absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        certs_buf: Option<Base64>,
    },
    /// No TEE: unsigned words of the sender.
    Sample {
        /// Security version, a decimal number.
        svn: String,
        /// REPORT_DATA, 64 bytes.
        report_data: Base64,
        /// Launch measurement the sender claims to have: 96 lower-case hex digits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measurement: Option<String>,
    },
}

impl Evidence {
    /// The kind of TEE this is evidence of.
    pub const fn tee(&self) -> Tee {
        match self {
            Self::Snp { .. } => Tee::Snp,
            Self::Sample { .. } => Tee::Sample,
        }
    }
}

/// A point on P-521 in affine coordinates: big-endian, 66 bytes each with leading
/// zeros kept. The curve has no name in this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcPublicKey {
    /// x-coordinate.
    pub x: Base64,
    /// y-coordinate.
    pub y: Base64,
}

/// Fourth message: the server's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationResponse {
    /// Whether the evidence was accepted.
    pub success: bool,
    /// The encrypted secret (JWE ciphertext); absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Base64>,
    /// What it takes to decrypt the secret.
    #[serde(default)]
    pub decryption: Option<Decryption>,
    /// The server's statement that it accepted the evidence.
    #[serde(default)]
    pub token: Option<Token>,
    /// Why not, in words, where `success` is false. In a 0.1.0 message from elsewhere
    /// the member may mean anything, so one that is no string counts as absent.
    #[serde(
        default,
        deserialize_with = "text_or_nothing",
        skip_serializing_if = "Option::is_none"
    )]
    pub error: Option<Text>,
}

impl AttestationResponse {
    /// The answer to evidence that was not accepted.
    pub fn failure(error: Option<Text>) -> Self {
        Self {
            success: false,
            secret: None,
            decryption: None,
            token: None,
            error,
        }
    }
}

/// The parts of a JWE (RFC 7516) with `alg` ECDH-ES+A256KW and `enc` A256GCM,
/// without its ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decryption {
    /// The sender's ephemeral public key (RFC 7518, section 4.6.1.1).
    pub epk: EcPublicKey,
    /// JWE Encrypted Key: the content encryption key, wrapped; 40 bytes.
    pub wrapped_cek: Base64,
    /// The ASCII bytes of the base64url-encoded JWE Protected Header exactly as the
    /// server sent it: the additional authenticated data of the cipher.
    pub aad: Base64,
    /// JWE Initialization Vector, 12 bytes.
    pub iv: Base64,
    /// JWE Authentication Tag, 16 bytes.
    pub tag: Base64,
}

/// A token of the attestation server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Token {
    /// JSON Web Token, compact serialisation.
    Jwt(String),
    /// CBOR Web Token, as the proxy encoded it.
    Cwt(String),
}

fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text>, D::Error> {
    struct Lenient;

    impl<'de> Visitor<'de> for Lenient {
        type Value = Option<Text>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(Text::new(text)))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Lenient)
}
