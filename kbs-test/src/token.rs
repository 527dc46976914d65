//! The token in the answer to accepted evidence.
//!
//! A JWT (RFC 7519) signed with ES384 by the server's static key. It says what was appraised, for
//! which challenge and which key, so that who knows the server's key can check it. This server itself
//! takes the session cookie, never the token.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::claims::Claims;
use crate::jws;
use crate::session::{Challenge, LIFETIME};
use crate::static_key::StaticKey;
use crate::tee_key::TeeKey;

/// The token for accepted evidence.
pub(crate) fn signed(
    server: &StaticKey,
    challenge: &Challenge,
    key: &TeeKey,
    claims: &Claims,
    now: SystemTime,
) -> String {
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The canonical form is JSON; null would only say that this was no longer true.
    let jwk: Value = serde_json::from_str(&key.canonical_jwk()).unwrap_or_default();
    let payload = json!({
        "iss": "kbs-test",
        "iat": issued,
        "exp": issued + LIFETIME.as_secs(),
        "nonce": challenge.encoded(),
        "tee": challenge.tee.to_string(),
        "measurement": claims.measurement.map(|m| m.to_string()),
        "tee-pubkey": jwk,
    });
    jws::sign(server, "JWT", payload.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Measurement;
    use crate::session::Exchange;
    use crate::tee_key::tests::p384_pair;
    use std::time::Duration;

    #[test]
    fn token_says_what_was_appraised_and_is_signed() {
        let challenge = Challenge {
            number: 1,
            tee: kbs_types::Tee::Sample,
            exchange: Exchange::Plain,
            nonce: [0; 32],
        };
        let server = StaticKey::generate().unwrap();
        let claims = Claims::sample(Some(Measurement([1; 48])), [0; 48]);
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let token = signed(&server, &challenge, &p384_pair(1).1, &claims, now);
        let payload = jws::verify(server.spki(), &token).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["exp"], 1300);
        assert_eq!(claims["tee"], "sample");
        assert_eq!(claims["nonce"], challenge.encoded());
        assert_eq!(claims["measurement"], "01".repeat(48));
        assert_eq!(claims["tee-pubkey"]["crv"], "P-384");
        let stranger = StaticKey::generate().unwrap();
        assert!(jws::verify(stranger.spki(), &token).is_err());
    }
}
