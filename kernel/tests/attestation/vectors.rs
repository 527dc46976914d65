//! Exchanges and encrypted secrets that other implementations made; where they come
//! from is told in `libaproxy/tests/vectors/README.md`.

use crate::proxy::{Fixed, Proxy, attest_with};
use crate::server::{framed, negotiation};
use libaproxy::frame;
use libaproxy::v0_1::{AttestationRequest, Decryption, EcPublicKey, Evidence};
use libaproxy::{Base64, v0_1::AttestationResponse};
use serde_json::Value;

const EXCHANGES: &str = include_str!("../../../libaproxy/tests/vectors/exchange-p521.json");
const TRUSTEE: &str = include_str!("../../../libaproxy/tests/vectors/trustee-jwe.json");

fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn exchanges_of_an_independent_implementation_succeed() {
    let exchanges: Vec<Value> = serde_json::from_str(EXCHANGES).unwrap();
    assert!(exchanges.len() >= 8);
    for exchange in exchanges {
        let name = &exchange["name"];
        let mut proxy = Proxy::saying(
            ["negotiation_response", "attestation_response"]
                .map(|answer| framed(exchange[answer].to_string().as_bytes())),
        );
        let attestation = attest_with(&mut proxy, &Fixed(hex(&exchange["d"]))).expect("attested");

        let sent: AttestationRequest = frame::decode(&proxy.requests[1]).unwrap();
        assert_eq!(serde_json::to_value(&sent.key).unwrap(), exchange["key"]);
        let Evidence::Sample { report_data, .. } = sent.evidence else {
            panic!("not sample evidence");
        };
        assert_eq!(report_data.0, hex(&exchange["report_data"]), "{name}");
        assert_eq!(attestation.secret.root_key(), hex(&exchange["secret"]));
        assert_eq!(
            attestation.secret.derive("SVSM test label")[..],
            hex(&exchange["derived"]["SVSM test label"])
        );
        assert_eq!(
            attestation.secret.derive("")[..],
            hex(&exchange["derived"][""])
        );
    }
}

/// Unpadded base64url to bytes.
fn url(value: &Value) -> Base64 {
    let mut text = value.as_str().unwrap().replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    serde_json::from_value(text.into()).unwrap()
}

#[test]
fn resource_of_a_real_trustee_decrypts() {
    let vectors: Vec<Value> = serde_json::from_str(TRUSTEE).unwrap();
    let vector = vectors
        .iter()
        .find(|vector| vector["curve"] == "P-521")
        .unwrap();
    let jwe = &vector["jwe"];
    let header: Value = serde_json::from_slice(&url(&jwe["protected"])).unwrap();
    let answer = AttestationResponse {
        success: true,
        secret: Some(url(&jwe["ciphertext"])),
        decryption: Some(Decryption {
            epk: EcPublicKey {
                x: url(&header["epk"]["x"]),
                y: url(&header["epk"]["y"]),
            },
            wrapped_cek: url(&jwe["encrypted_key"]),
            aad: jwe["protected"].as_str().unwrap().as_bytes().into(),
            iv: url(&jwe["iv"]),
            tag: url(&jwe["tag"]),
        }),
        token: None,
        error: None,
    };
    let mut proxy = Proxy::saying([
        frame::encode(&negotiation()).unwrap(),
        frame::encode(&answer).unwrap(),
    ]);
    let d = vector["d"].as_str().unwrap().trim_start_matches("0x");
    let attestation = attest_with(&mut proxy, &Fixed(hex::decode(d).unwrap())).unwrap();
    assert_eq!(attestation.secret.root_key(), hex(&vector["plaintext"]));
}
