//! The encrypted secret: a flattened JWE (RFC 7516, section 7.2.2) with `alg`
//! ECDH-ES+A256KW and `enc` A256GCM.
//!
//! The protected header stays the string that the server wrote: its characters are the
//! additional authenticated data of the cipher, and what is serialised again need not be
//! the same.

use super::names::Curve;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The only `alg`.
const ALG: &str = "ECDH-ES+A256KW";

/// The only `enc`.
const ENC: &str = "A256GCM";

/// The longest protected header, in characters; with P-521 it is 290.
const MAX_PROTECTED: usize = 4096;

/// The five members as the server sent them, each unpadded base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwe {
    /// Protected header.
    pub protected: String,
    /// The content encryption key, wrapped.
    pub encrypted_key: String,
    /// Initialisation vector.
    pub iv: String,
    /// Ciphertext.
    pub ciphertext: String,
    /// Authentication tag.
    pub tag: String,
}

/// Why a JWE is not of the one kind that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JweFormatError {
    /// A member is not unpadded base64url.
    #[error("{0} is not base64url")]
    Encoding(&'static str),
    /// The protected header is too long to be one.
    #[error("protected header of {0} characters, the limit is {MAX_PROTECTED}")]
    HeaderTooLong(usize),
    /// The protected header is not the JSON that is expected.
    #[error("the protected header lacks alg, enc or an EC epk")]
    Header,
    /// Another algorithm.
    #[error("encrypted with something else than ECDH-ES+A256KW and A256GCM")]
    Algorithm,
    /// A curve nobody here knows.
    #[error("the ephemeral key is on an unknown curve")]
    Curve,
}

/// A JWE taken apart. Lengths are as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JweParts<'a> {
    /// The protected header as the server sent it.
    pub protected: &'a str,
    /// Curve of the server's ephemeral key.
    pub crv: Curve,
    /// Its x-coordinate.
    pub x: Vec<u8>,
    /// Its y-coordinate.
    pub y: Vec<u8>,
    /// The content encryption key, wrapped.
    pub encrypted_key: Vec<u8>,
    /// Initialisation vector.
    pub iv: Vec<u8>,
    /// Ciphertext.
    pub ciphertext: Vec<u8>,
    /// Authentication tag.
    pub tag: Vec<u8>,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    enc: &'a str,
    #[serde(borrow)]
    epk: Epk<'a>,
    /// Compression, extensions and inputs to the key derivation: none is supported, so
    /// none may be ignored.
    #[serde(default)]
    zip: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    apu: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    apv: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Epk<'a> {
    kty: &'a str,
    crv: &'a str,
    x: &'a str,
    y: &'a str,
}

impl Jwe {
    /// Decodes the members and reads the header. Members of the header that change
    /// nothing are ignored.
    pub fn parts(&self) -> Result<JweParts<'_>, JweFormatError> {
        if self.protected.len() > MAX_PROTECTED {
            return Err(JweFormatError::HeaderTooLong(self.protected.len()));
        }
        let json = decode("protected", &self.protected)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| JweFormatError::Header)?;
        let unsupported = [&header.zip, &header.crit, &header.apu, &header.apv];
        if header.alg != ALG || header.enc != ENC || unsupported.iter().any(|m| m.is_some()) {
            return Err(JweFormatError::Algorithm);
        }
        if header.epk.kty != "EC" {
            return Err(JweFormatError::Header);
        }
        Ok(JweParts {
            protected: &self.protected,
            crv: Curve::from_name(header.epk.crv).ok_or(JweFormatError::Curve)?,
            x: decode("epk.x", header.epk.x)?,
            y: decode("epk.y", header.epk.y)?,
            encrypted_key: decode("encrypted_key", &self.encrypted_key)?,
            iv: decode("iv", &self.iv)?,
            ciphertext: decode("ciphertext", &self.ciphertext)?,
            tag: decode("tag", &self.tag)?,
        })
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, JweFormatError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| JweFormatError::Encoding(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-521","kty":"EC","x":"AQ","y":"Ag"}}"#;

    fn jwe(header: &str) -> Jwe {
        Jwe {
            protected: URL_SAFE_NO_PAD.encode(header),
            encrypted_key: "Aw".into(),
            iv: "BA".into(),
            ciphertext: "BQ".into(),
            tag: "Bg".into(),
        }
    }

    #[test]
    fn members_come_out_and_the_header_stays_as_it_was() {
        let header = r#"{ "epk":{"y":"Ag","x":"AQ","kty":"EC","crv":"P-384"},
            "kid":"?", "enc":"A256GCM","alg":"ECDH-ES+A256KW"}"#;
        let jwe = jwe(header);
        let parts = jwe.parts().unwrap();
        assert_eq!(parts.protected, URL_SAFE_NO_PAD.encode(header));
        assert_eq!(parts.crv, Curve::P384);
        let rest = [
            &parts.x,
            &parts.y,
            &parts.encrypted_key,
            &parts.iv,
            &parts.ciphertext,
            &parts.tag,
        ];
        assert_eq!(rest.map(|member| member[0]), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn other_algorithms_are_refused() {
        assert!(jwe(HEADER).parts().is_ok());
        for (from, to, error) in [
            ("ECDH-ES+A256KW", "RSA-OAEP", JweFormatError::Algorithm),
            ("A256GCM", "A128GCM", JweFormatError::Algorithm),
            (
                "{\"alg",
                "{\"zip\":\"DEF\",\"alg",
                JweFormatError::Algorithm,
            ),
            ("{\"alg", "{\"crit\":[],\"alg", JweFormatError::Algorithm),
            ("{\"alg", "{\"apu\":\"\",\"alg", JweFormatError::Algorithm),
            ("{\"alg", "{\"apv\":\"AA\",\"alg", JweFormatError::Algorithm),
            ("P-521", "P-522", JweFormatError::Curve),
            ("\"EC\"", "\"OKP\"", JweFormatError::Header),
            ("epk", "other", JweFormatError::Header),
            ("\"AQ\"", "\"A+\"", JweFormatError::Encoding("epk.x")),
            ("\"AQ\"", "\"AQ==\"", JweFormatError::Encoding("epk.x")),
            ("\"AQ\"", "7", JweFormatError::Header),
        ] {
            assert!(HEADER.contains(from), "{from}");
            let changed = HEADER.replacen(from, to, 1);
            assert_eq!(jwe(&changed).parts().unwrap_err(), error, "{changed}");
        }
    }

    #[test]
    fn members_that_are_not_base64url_are_refused() {
        let damaged = |change: fn(&mut Jwe)| {
            let mut jwe = jwe(HEADER);
            change(&mut jwe);
            jwe.parts().unwrap_err()
        };
        use JweFormatError::Encoding;
        assert_eq!(damaged(|j| j.protected.push('=')), Encoding("protected"));
        assert_eq!(
            damaged(|j| j.encrypted_key = "A".into()),
            Encoding("encrypted_key")
        );
        assert_eq!(damaged(|j| j.iv = "+w".into()), Encoding("iv"));
        assert_eq!(
            damaged(|j| j.ciphertext = " ".into()),
            Encoding("ciphertext")
        );
        assert_eq!(damaged(|j| j.tag = "AR".into()), Encoding("tag"));
        assert_eq!(
            damaged(|j| j.protected = "A".repeat(4097)),
            JweFormatError::HeaderTooLong(4097)
        );
    }
}
