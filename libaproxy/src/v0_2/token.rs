//! The token of a server that proves who it is: a JWT (RFC 7519) with `alg` ES384 by the
//! same key, which names the exchange it was issued in. Nothing here verifies anything.

use super::jws::Compact;
use super::names::Nonce;
use super::{PublicKey, SIGNATURE_LEN};
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// A token taken apart.
#[derive(Debug)]
pub struct SignedToken<'a> {
    /// What the signature covers.
    pub signed: &'a [u8],
    /// ECDSA with SHA-384 over `signed`: r, then s.
    pub signature: [u8; SIGNATURE_LEN],
    claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims<'a> {
    nonce: &'a str,
    #[serde(borrow, rename = "tee-pubkey")]
    key: Key<'a>,
}

#[derive(Deserialize)]
struct Key<'a> {
    crv: &'a str,
    x: &'a str,
    y: &'a str,
}

impl<'a> SignedToken<'a> {
    /// None if `token` is another kind of token.
    pub fn parse(token: &'a str) -> Option<Self> {
        let jws = Compact::split(token.as_bytes())?;
        let json = jws.header_json()?;
        let header: Header = serde_json::from_slice(&json).ok()?;
        if header.alg != "ES384" || header.crit.is_some() {
            return None;
        }
        Some(Self {
            signed: jws.signed,
            signature: URL_SAFE_NO_PAD
                .decode(jws.signature)
                .ok()?
                .try_into()
                .ok()?,
            claims: URL_SAFE_NO_PAD.decode(jws.payload).ok()?,
        })
    }

    /// Whether the token names this challenge and this key.
    pub fn is_about(&self, nonce: &Nonce, key: &PublicKey) -> bool {
        let Ok(claims) = serde_json::from_slice::<Claims>(&self.claims) else {
            return false;
        };
        claims.nonce == &**nonce
            && claims.key.crv == key.crv.name()
            && claims.key.x == URL_SAFE_NO_PAD.encode(&key.x)
            && claims.key.y == URL_SAFE_NO_PAD.encode(&key.y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v0_2::Curve;
    use alloc::format;
    use alloc::string::String;

    const CLAIMS: &str = r#"{"iss":"kbs","nonce":"bm9uY2U=","tee-pubkey":{"kty":"EC","crv":"P-256","alg":"?","x":"AQ","y":"Ag"}}"#;

    fn token(header: &str, claims: &str, signature: &[u8]) -> String {
        let parts = [header.as_bytes(), claims.as_bytes(), signature];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    fn about(claims: &str, nonce: &str) -> bool {
        let token = token(r#"{"alg":"ES384"}"#, claims, &[1; 96]);
        let key = PublicKey {
            crv: Curve::P256,
            x: [1].into(),
            y: [2].into(),
        };
        let token = SignedToken::parse(&token).unwrap();
        token.is_about(&Nonce::new(nonce).unwrap(), &key)
    }

    #[test]
    fn token_of_another_exchange_is_told_apart() {
        assert!(about(CLAIMS, "bm9uY2U="));
        assert!(!about(CLAIMS, "bm9uY2U"));
        for (from, to) in [
            ("P-256", "P-384"),
            ("\"AQ\"", "\"AA\""),
            ("\"Ag\"", "\"AA\""),
            ("tee-pubkey", "tee"),
            ("nonce", "once"),
        ] {
            assert!(CLAIMS.contains(from), "{from}");
            assert!(!about(&CLAIMS.replacen(from, to, 1), "bm9uY2U="), "{to}");
        }
    }

    #[test]
    fn other_kinds_of_token_are_not_taken_for_one() {
        let good = token(r#"{"alg":"ES384","typ":"JWT"}"#, CLAIMS, &[1; 96]);
        assert!(SignedToken::parse(&good).is_some());
        for other in [
            "",
            "a.b.c",
            &format!("{good}.x"),
            &token(r#"{"alg":"none"}"#, CLAIMS, &[]),
            &token(r#"{"alg":"ES256"}"#, CLAIMS, &[1; 64]),
            &token(r#"{"alg":"ES384","crit":["b64"]}"#, CLAIMS, &[1; 96]),
            &token(r#"{"alg":"ES384"}"#, CLAIMS, &[1; 95]),
        ] {
            assert!(SignedToken::parse(other).is_none(), "{other}");
        }
    }
}
