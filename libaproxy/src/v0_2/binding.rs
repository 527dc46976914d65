//! What ties evidence to one exchange.

use super::names::{Nonce, Parse};
use super::{Curve, PublicKey};
use crate::text::Text;
use alloc::format;
use alloc::string::String;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::convert::Infallible;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// A named way to bind evidence. An SVSM makes evidence for the ones it knows only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// SHA-384 of [`runtime_data`].
    KbsRuntimeDataSha384,
    /// One this crate does not know.
    Unknown(Text),
}

impl Binding {
    const KBS_RUNTIME_DATA_SHA384: &'static str = "kbs-runtime-data-sha384";

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::KbsRuntimeDataSha384 => Self::KBS_RUNTIME_DATA_SHA384,
            Self::Unknown(name) => name,
        }
    }
}

impl Serialize for Binding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("the name of a binding", |name: &str| {
            Ok::<_, Infallible>(match name {
                Self::KBS_RUNTIME_DATA_SHA384 => Self::KbsRuntimeDataSha384,
                other => Self::Unknown(Text::new(other)),
            })
        }))
    }
}

/// The JSON text whose SHA-384 digest goes into the evidence: the runtime data of KBS
/// protocol 0.4.0 without additional evidence, in canonical form (RFC 8785). Nonce and
/// coordinates consist of characters that need no escaping, so a template is enough.
pub fn runtime_data(nonce: &Nonce, key: &PublicKey) -> String {
    let crv: Curve = key.crv;
    let x = URL_SAFE_NO_PAD.encode(&key.x);
    let y = URL_SAFE_NO_PAD.encode(&key.y);
    let nonce: &str = nonce;
    format!(
        r#"{{"additional-evidence":"","nonce":"{nonce}","tee-pubkey":{{"alg":"ECDH-ES+A256KW","crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_binding_keeps_its_name() {
        let parse = |json| serde_json::from_str::<Binding>(json).unwrap();
        assert_eq!(
            parse(r#""kbs-runtime-data-sha384""#),
            Binding::KbsRuntimeDataSha384
        );
        assert_eq!(parse(r#""none""#), Binding::Unknown(Text::new("none")));
        assert!(serde_json::from_str::<Binding>("[]").is_err());
    }
}
