//! Exchanges that an independent implementation wrote (see `libaproxy/tests/vectors`).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kbs_test::jwe::Jwe;
use kbs_test::ledger::SessionKey;
use kbs_test::tee_key::{ALG, TeeKey};
use kbs_test::transcript::Transcript;
use kbs_test::{binding, claims, jws, static_key};
use serde_json::{Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!(
        "../../libaproxy/tests/vectors/exchange-0.2.0.json"
    ))
    .unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).unwrap()
}

fn key(jwk: &Value) -> TeeKey {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let coordinate = |name: &str| BASE64_URL_SAFE_NO_PAD.encode(bytes(&jwk[name]));
    let jwk = json!({"kty": "EC", "alg": ALG, "crv": jwk["crv"], "x": coordinate("x"),
        "y": coordinate("y")});
    TeeKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap()
}

#[test]
fn binding_transcript_and_signature_agree() {
    let vectors = vectors();
    let exchanges = vectors["exchanges"].as_array().unwrap();
    assert!(exchanges.len() >= 6);
    for exchange in exchanges {
        let name = text(&exchange["name"]);
        let request = &exchange["attestation_request"];
        let key = key(&request["key"]);
        let nonce = text(&request["nonce"]);
        let digest = binding::runtime_data(&key, nonce);
        let evidence_digest = match text(&exchange["tee"]) {
            "snp" => {
                let report = bytes(&request["evidence"]["Snp"]["report"]);
                assert_eq!(report[0x50..0x80], digest, "{name}");
                assert_eq!(report[0x80..0x90], [0; 16], "{name}");
                claims::report_digest(&report)
            }
            _ => {
                let sample = &request["evidence"]["Sample"];
                assert_eq!(bytes(&sample["report_data"]), digest, "{name}");
                let measurement = sample["measurement"].as_str().unwrap_or_default();
                claims::sample_digest(&digest, measurement)
            }
        };
        assert_eq!(
            hex::encode(evidence_digest),
            text(&exchange["evidence_digest"]),
            "{name}"
        );
        let response = &exchange["attestation_response"];
        let jwe: Jwe = serde_json::from_value(response["jwe"].clone()).unwrap();
        let Some(volume) = exchange["release"]["volume"].as_str() else {
            continue; // An answer that is not authenticated has no transcript.
        };
        let transcript = Transcript {
            tee: text(&exchange["tee"]),
            nonce,
            key: &key,
            evidence_digest: &evidence_digest,
            volume,
            jwe: &jwe,
        };
        let transcript = transcript.to_bytes().unwrap();
        assert_eq!(
            hex::encode(&transcript),
            text(&exchange["transcript"]),
            "{name}"
        );
        let authentication = &response["authentication"];
        let server = bytes(&authentication["key"]);
        let signature = bytes(&authentication["signature"]);
        let verified = static_key::verify(&server, &transcript, &signature);
        assert_eq!(verified, Ok(true), "{name}");
        if let Some(token) = response["token"]["Jwt"].as_str() {
            assert!(jws::verify(&server, token).is_ok(), "{name}");
        }
    }
}

#[test]
fn reports_and_acknowledgements_agree() {
    let vectors = vectors();
    let keys: Vec<SessionKey> = vectors["exchanges"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["session_key"].as_str())
        .map(|hex| {
            let mut key = [0; 32];
            hex::decode_to_slice(hex, &mut key).unwrap();
            SessionKey::new(key)
        })
        .collect();
    for report in vectors["reports"].as_array().unwrap() {
        let (sent, answered) = (&report["request"]["report"], &report["response"]["ack"]);
        let (body, mac) = (bytes(&sent["body"]), bytes(&sent["mac"]));
        let key = keys.iter().find(|key| key.verifies_report(&body, &mac));
        let key = key.expect("one of the sessions has made this report");
        serde_json::from_slice::<kbs_test::ledger::Report>(&body).unwrap();
        assert_eq!(
            key.authenticate_ack(&bytes(&answered["body"])),
            bytes(&answered["mac"])
        );
    }
}
