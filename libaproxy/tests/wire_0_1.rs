//! Version 0.1.0 byte for byte: the messages that other implementations of that
//! version produce, and what they accept.

use libaproxy::frame::{decode, encode, payload_len};
use libaproxy::v0_1::*;
use libaproxy::{Base64, HEADER_LEN, MessageError, Text, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// `message` is sent as exactly `json`, and `json` is received as `message`.
fn exactly<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: M, json: &str) {
    let framed = encode(&message).unwrap();
    let (header, payload) = framed.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(std::str::from_utf8(payload).unwrap(), json);
    assert_eq!(payload_len(*header), Ok(json.len()));
    assert_eq!(decode::<M>(json.as_bytes()).unwrap(), message);
}

fn key() -> EcPublicKey {
    EcPublicKey {
        x: Base64::from([0x00, 0xfb, 0xff]),
        y: Base64::from([1, 2]),
    }
}

fn success(token: Token) -> AttestationResponse {
    AttestationResponse {
        success: true,
        secret: Some(Base64::from([4; 6])),
        decryption: Some(Decryption {
            epk: key(),
            wrapped_cek: Base64::from([1; 5]),
            aad: Base64::from(*b"eyJ"),
            iv: Base64::from([2; 12]),
            tag: Base64::from([3; 16]),
        }),
        token: Some(token),
        error: None,
    }
}

#[test]
fn frame_is_a_little_endian_length_and_the_json() {
    let request = NegotiationRequest {
        version: Version::V0_1_0,
        tee: Tee::Snp,
    };
    let mut expected = vec![0x1f, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(br#"{"version":[0,1,0],"tee":"snp"}"#);
    assert_eq!(encode(&request).unwrap(), expected);
}

#[test]
fn negotiation_request() {
    for (tee, json) in [
        (Tee::Snp, r#"{"version":[0,1,0],"tee":"snp"}"#),
        (Tee::Sample, r#"{"version":[0,1,0],"tee":"sample"}"#),
    ] {
        let version = Version::V0_1_0;
        exactly(NegotiationRequest { version, tee }, json);
    }
}

#[test]
fn negotiation_response() {
    let mut response = NegotiationResponse {
        challenge: Base64::from([0, 1, 2, 0xfd, 0xfe, 0xff]),
        params: vec![Param::EcPublicKeyBytes, Param::Challenge],
        version: None,
    };
    exactly(
        response.clone(),
        r#"{"challenge":"AAEC/f7/","params":["EcPublicKeyBytes","Challenge"]}"#,
    );
    response.version = Some(Version(0, 2, 0));
    exactly(
        response,
        r#"{"challenge":"AAEC/f7/","params":["EcPublicKeyBytes","Challenge"],"version":[0,2,0]}"#,
    );
}

#[test]
fn negotiation_failure() {
    exactly(
        Failure {
            error: Text::new("server is down"),
        },
        r#"{"error":"server is down"}"#,
    );
}

#[test]
fn attestation_request_with_snp_evidence() {
    let mut request = AttestationRequest {
        tee: Tee::Snp,
        evidence: Evidence::Snp {
            report: Base64::from([3, 0, 0, 0]),
            certs_buf: None,
        },
        challenge: Base64::from([9; 4]),
        key: EcPublicKey {
            x: Base64::from([0x00, 0xfb, 0xff]),
            y: Base64::from([1, 2]),
        },
    };
    exactly(
        request.clone(),
        r#"{"tee":"snp","evidence":{"Snp":{"report":"AwAAAA=="}},"challenge":"CQkJCQ==","key":{"x":"APv/","y":"AQI="}}"#,
    );
    request.evidence = Evidence::Snp {
        report: Base64::from([3, 0, 0, 0]),
        certs_buf: Some(Base64::from([7; 3])),
    };
    exactly(
        request,
        r#"{"tee":"snp","evidence":{"Snp":{"report":"AwAAAA==","certs_buf":"BwcH"}},"challenge":"CQkJCQ==","key":{"x":"APv/","y":"AQI="}}"#,
    );
}

#[test]
fn attestation_request_with_sample_evidence() {
    let sample = |measurement: Option<&str>| AttestationRequest {
        tee: Tee::Sample,
        evidence: Evidence::Sample {
            svn: "1".into(),
            report_data: Base64::from([5; 3]),
            measurement: measurement.map(Into::into),
        },
        challenge: Base64::from([9; 4]),
        key: key(),
    };
    exactly(
        sample(None),
        r#"{"tee":"sample","evidence":{"Sample":{"svn":"1","report_data":"BQUF"}},"challenge":"CQkJCQ==","key":{"x":"APv/","y":"AQI="}}"#,
    );
    exactly(
        sample(Some("00ff")),
        r#"{"tee":"sample","evidence":{"Sample":{"svn":"1","report_data":"BQUF","measurement":"00ff"}},"challenge":"CQkJCQ==","key":{"x":"APv/","y":"AQI="}}"#,
    );
}

#[test]
fn attestation_response_success() {
    exactly(
        success(Token::Jwt("a.b.c".into())),
        r#"{"success":true,"secret":"BAQEBAQE","decryption":{"epk":{"x":"APv/","y":"AQI="},"wrapped_cek":"AQEBAQE=","aad":"ZXlK","iv":"AgICAgICAgICAgIC","tag":"AwMDAwMDAwMDAwMDAwMDAw=="},"token":{"Jwt":"a.b.c"}}"#,
    );
    exactly(Token::Cwt("0A".into()), r#"{"Cwt":"0A"}"#);
}

#[test]
fn attestation_response_failure() {
    let json = r#"{"success":false,"decryption":null,"token":null}"#;
    assert_eq!(json.len(), 48);
    exactly(AttestationResponse::failure(None), json);
    exactly(
        AttestationResponse::failure(Some("measurement not as expected".into())),
        r#"{"success":false,"decryption":null,"token":null,"error":"measurement not as expected"}"#,
    );
}

#[test]
fn unknown_members_are_ignored() {
    let request: NegotiationRequest =
        decode(br#"{"new":{"a":[1,{}]},"version":[0,1,0],"tee":"snp","x":null}"#).unwrap();
    assert_eq!(request.tee, Tee::Snp);
    let response: AttestationResponse = decode(br#"{"success":true,"later":[[]]}"#).unwrap();
    assert!(response.success);
    let key: EcPublicKey = decode(br#"{"crv":"P-521","x":"","y":""}"#).unwrap();
    assert!(key.x.is_empty());
}

#[test]
fn absent_and_null_members_mean_the_same() {
    let expected = AttestationResponse::failure(None);
    for json in [
        r#"{"success":false}"#,
        r#"{"success":false,"decryption":null}"#,
        r#"{"success":false,"token":null,"error":null}"#,
    ] {
        assert_eq!(
            decode::<AttestationResponse>(json.as_bytes()),
            Ok(expected.clone())
        );
    }
}

#[test]
fn members_in_any_order_are_accepted() {
    let response: NegotiationResponse =
        decode(br#" { "params" : [ "Challenge" ] , "challenge" : "" } "#).unwrap();
    assert_eq!(response.params, [Param::Challenge]);
}

#[test]
fn error_of_another_shape_counts_as_absent() {
    for error in [
        "7",
        "-7",
        "1.5",
        "true",
        "null",
        "[1,[2]]",
        r#"{"a":{"b":1}}"#,
    ] {
        let json = format!(r#"{{"success":true,"error":{error},"token":{{"Jwt":"t"}}}}"#);
        let response: AttestationResponse = decode(json.as_bytes()).unwrap();
        assert_eq!(response.error, None);
        assert_eq!(response.token, Some(Token::Jwt("t".into())));
    }
}

#[test]
fn text_of_the_peer_is_printable_when_it_arrives() {
    let response: AttestationResponse =
        decode(br#"{"success":false,"error":"no\n[SVSM] attestation successful\u001b[0m"}"#)
            .unwrap();
    assert_eq!(
        &*response.error.unwrap(),
        "no?[SVSM] attestation successful?[0m"
    );
}

#[test]
fn malformed_messages_are_refused() {
    fn refused<M: DeserializeOwned + Debug>(json: &str) {
        let error = decode::<M>(json.as_bytes()).unwrap_err();
        assert!(matches!(error, MessageError::Invalid(_)), "{json}: {error}");
    }
    refused::<NegotiationRequest>(r#"{"version":[0,1,0],"tee":"SNP"}"#);
    refused::<NegotiationRequest>(r#"{"version":[0,1],"tee":"snp"}"#);
    refused::<NegotiationRequest>(r#"{"tee":"snp"}"#);
    refused::<NegotiationResponse>(r#"{"challenge":"AAEC","params":["Unknown"]}"#);
    refused::<NegotiationResponse>(r#"{"challenge":"AAE","params":["Challenge"]}"#);
    refused::<NegotiationResponse>(r#"{"challenge":"-_8=","params":["Challenge"]}"#);
    refused::<NegotiationResponse>(r#"{"challenge":null,"params":[]}"#);
    refused::<NegotiationResponse>(r#"{"challenge":"","challenge":"","params":[]}"#);
    refused::<NegotiationResponse>(r#"{"challenge":"","params":[]}x"#);
    refused::<NegotiationResponse>(r#"{"challenge":"","params":["#);
    refused::<AttestationResponse>(r#"{"success":"true"}"#);
    refused::<AttestationResponse>(r#"{"success":true,"token":{"Other":"x"}}"#);
    refused::<AttestationResponse>("\u{feff}{}");
    refused::<AttestationResponse>("");
}
