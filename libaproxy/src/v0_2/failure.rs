//! Errors with a code.

use super::names::Parse;
use crate::text::Text;
use core::convert::Infallible;
use core::fmt;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Kind of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// The server did not accept the evidence.
    EvidenceRefused,
    /// The launch measurement is not the one the server expects.
    Measurement,
    /// The challenge is unknown, used up or too old.
    Nonce,
    /// The owner has not allowed another release.
    NotPrimed,
    /// The server knows no such volume.
    NoVolume,
    /// The proxy has no connection to the server.
    ServerUnreachable,
    /// The server answered with an error or with nonsense.
    ServerError,
    /// What the SVSM sent cannot be used.
    BadRequest,
    /// A report contradicts what the server has stored.
    Ledger,
    /// Anything else at the proxy.
    Internal,
    /// A code this crate has no name for.
    Other(Text),
}

impl Code {
    const NAMED: [(&'static str, Self); 10] = [
        ("evidence-refused", Self::EvidenceRefused),
        ("measurement", Self::Measurement),
        ("nonce", Self::Nonce),
        ("not-primed", Self::NotPrimed),
        ("no-volume", Self::NoVolume),
        ("server-unreachable", Self::ServerUnreachable),
        ("server-error", Self::ServerError),
        ("bad-request", Self::BadRequest),
        ("ledger", Self::Ledger),
        ("internal", Self::Internal),
    ];

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => Self::NAMED
                .iter()
                .find(|(_, code)| code == known)
                .map_or("internal", |(name, _)| name),
        }
    }

    /// The code of that name; any string is one.
    pub fn from_name(name: &str) -> Self {
        Self::NAMED
            .into_iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| Self::Other(Text::new(name)), |(_, code)| code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("the code of an error", |name: &str| {
            Ok::<_, Infallible>(Self::from_name(name))
        }))
    }
}

/// What went wrong on the way to the secret, or to an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// Kind.
    pub code: Code,
    /// In words: the server's where they are known, the proxy's otherwise.
    pub detail: Text,
}

impl Failure {
    /// A failure of that kind.
    pub fn new(code: Code, detail: &str) -> Self {
        Self {
            code,
            detail: Text::new(detail),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

/// Sent in place of a [`NegotiationResponse`](super::NegotiationResponse) by a proxy that
/// cannot give one. Ends the conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// What went wrong. A proxy of version 0.1.0 has a string here, so the two can be
    /// told apart.
    pub error: Failure,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_code_survives_the_wire() {
        for (name, code) in Code::NAMED {
            assert_eq!(code.name(), name);
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        }
    }

    #[test]
    fn unknown_code_is_shown_harmlessly() {
        let failure: Failure =
            serde_json::from_str(r#"{"code":"moon\nphase","detail":"a\u001bb"}"#).unwrap();
        assert_eq!(failure.to_string(), "a?b (moon?phase)");
    }

    #[test]
    fn refusal_of_version_0_1_0_is_another_message() {
        assert!(serde_json::from_str::<Refusal>(r#"{"error":"no"}"#).is_err());
        let refusal = r#"{"error":{"code":"nonce","detail":"too old"}}"#;
        assert!(serde_json::from_str::<Refusal>(refusal).is_ok());
        assert!(serde_json::from_str::<crate::v0_1::Failure>(refusal).is_err());
    }
}
