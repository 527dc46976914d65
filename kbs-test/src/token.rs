//! The token in the answer to accepted evidence.
//!
//! An Unsecured JWT (RFC 7519, section 6): `alg` is `none` and there is no signature, because the
//! server has no signing key. It tells a reader what was appraised; nobody may rely on it, and this
//! server takes the session cookie, never the token.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::config::Measurement;
use crate::session::{Challenge, LIFETIME};

pub(crate) fn unsecured(
    challenge: &Challenge,
    measurement: Option<Measurement>,
    now: SystemTime,
) -> String {
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({
        "iss": "kbs-test",
        "iat": issued,
        "exp": issued + LIFETIME.as_secs(),
        "nonce": challenge.encoded(),
        "tee": challenge.tee.to_string(),
        "measurement": measurement.map(|m| m.to_string()),
    });
    let header = json!({"alg": "none", "typ": "JWT"});
    format!(
        "{}.{}.",
        BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn token_says_what_was_appraised_and_has_no_signature() {
        let challenge = Challenge {
            number: 1,
            tee: kbs_types::Tee::Sample,
            nonce: [0; 32],
        };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let token = unsecured(&challenge, Some(Measurement([1; 48])), now);
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!((parts.len(), parts[2]), (3, ""));
        let claims = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["exp"], 1300);
        assert_eq!(claims["tee"], "sample");
        assert_eq!(claims["measurement"], "01".repeat(48));
    }
}
