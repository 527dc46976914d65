//! Compact JWS (RFC 7515, section 7.1) with ES384: the token, and secrets that are signed by their
//! owner.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::static_key::{self, StaticKey};
use crate::volume::VolumeName;

/// The only algorithm: ECDSA on P-384 with SHA-384 (RFC 7518, section 3.4).
const ALG: &str = "ES384";

/// `typ` of a signed secret.
pub const TYPE_SECRET: &str = "svsm-secret+jws";

/// Why a JWS is not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JwsError {
    /// Not three parts of unpadded base64url with a JSON header.
    #[error("malformed JWS")]
    Malformed,
    /// Another algorithm.
    #[error("the JWS uses another algorithm than {ALG}")]
    Algorithm,
    /// Signed by another key, or changed.
    #[error("the signature of the JWS does not verify")]
    Signature,
}

/// Signs `payload`. The header names the public key.
pub fn sign(key: &StaticKey, typ: &str, payload: &[u8]) -> String {
    let (x, y) = key.coordinates();
    let header = json!({"alg": ALG, "typ": typ, "jwk": {
        "kty": "EC", "crv": "P-384",
        "x": BASE64_URL_SAFE_NO_PAD.encode(x), "y": BASE64_URL_SAFE_NO_PAD.encode(y),
    }});
    let mut text = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
        BASE64_URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = key.sign(text.as_bytes());
    text.push('.');
    text.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
    text
}

/// The payload of a JWS that is signed by the public key `spki` (DER). The key in the header is not
/// looked at.
pub fn verify(spki: &[u8], jws: &str) -> Result<Zeroizing<Vec<u8>>, JwsError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let (signed, signature) = jws.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed)?;
    let decode = |text: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| JwsError::Malformed)
    };
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| JwsError::Malformed)?;
    let payload = Zeroizing::new(decode(payload)?);
    if header.alg != ALG {
        return Err(JwsError::Algorithm);
    }
    match static_key::verify(spki, signed.as_bytes(), &decode(signature)?) {
        Ok(true) => Ok(payload),
        _ => Err(JwsError::Signature),
    }
}

/// A secret signed by its owner, to be stored in a KBS that cannot authenticate itself: the SVSM
/// verifies the signature whatever server it came from.
pub fn sign_secret(
    key: &StaticKey,
    secret: &Secret,
    volume: &VolumeName,
    generation: u64,
) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret.as_bytes()));
    let payload = Zeroizing::new(format!(
        r#"{{"secret":"{}","volume":"{volume}","generation":{generation}}}"#,
        *encoded
    ));
    Zeroizing::new(sign(key, TYPE_SECRET, payload.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn signed() -> (StaticKey, String) {
        let key = StaticKey::generate().unwrap();
        let secret = "ff".repeat(32).parse().unwrap();
        let jws = sign_secret(&key, &secret, &"a/b/c".parse().unwrap(), 3);
        (key, jws.to_string())
    }

    #[test]
    fn signed_secret_has_the_documented_form() {
        let (key, jws) = signed();
        assert!(jws.starts_with("eyJ"));
        let payload = verify(key.spki(), &jws).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        let secret = BASE64_URL_SAFE_NO_PAD.encode([0xff; 32]);
        let expected = json!({"secret": secret, "volume": "a/b/c", "generation": 3});
        assert_eq!(payload, expected);
        let header = BASE64_URL_SAFE_NO_PAD.decode(jws.split('.').next().unwrap());
        let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
        assert_eq!(header["typ"], TYPE_SECRET);
        assert_eq!(header["jwk"]["crv"], "P-384");
    }

    #[test]
    fn changed_or_foreign_jws_is_refused() {
        let (key, jws) = signed();
        let (_, other) = signed();
        assert_eq!(verify(key.spki(), &other), Err(JwsError::Signature));
        for (i, _) in jws.char_indices().step_by(7) {
            let mut changed = jws.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verify(key.spki(), &changed).is_err(), "byte {i}");
        }
        assert_eq!(verify(key.spki(), "a.b"), Err(JwsError::Malformed));
    }

    #[test]
    fn unsigned_jws_is_refused() {
        let (key, jws) = signed();
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let payload = jws.split('.').nth(1).unwrap();
        let unsigned = format!("{header}.{payload}.");
        assert_eq!(verify(key.spki(), &unsigned), Err(JwsError::Algorithm));
    }
}
