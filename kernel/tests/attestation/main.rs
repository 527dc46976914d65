//! Attestation from end to end, with everything a proxy can do wrong.

#![forbid(unsafe_code)]

mod exchange02;
mod mutation;
mod proxy;
mod reports;
mod server;
mod server02;
mod vectors;
mod vectors02;

use libaproxy::v0_1::*;
use libaproxy::v0_2::{Curve, JweFormatError, SignedSecretError};
use libaproxy::{MAX_MESSAGE, MessageError, UnsupportedVersion, Version, frame};
use proxy::{Fixed, Proxy, attest_as, attest_with, last_elapsed, some_key};
use server::{deciding, framed, honest, negotiation, tampering};
use std::time::Duration;
use svsm::attest::binding::BindingError;
use svsm::attest::ecdh::PointError;
use svsm::attest::jwe::JweError;
use svsm::attest::{
    AttestError, EvidenceError, EvidenceSource, LinkError, ReportData, SampleEvidence, SecretError,
    TrustError, TrustPolicy,
};
use svsm::entropy::{Entropy, EntropyError};

const SECRET: [u8; 32] = *b"a secret of just the right size.";

/// What becomes of an attestation against `proxy`; success is none here.
fn failure(mut proxy: Proxy<'_>) -> AttestError {
    attest_with(&mut proxy, &some_key()).expect_err("attested")
}

/// The same, in the words of the log.
fn words(proxy: Proxy<'_>) -> String {
    failure(proxy).to_string()
}

#[test]
fn honest_server_gives_its_secret_and_token() {
    for chunk in [1, 7, 16, 100_000] {
        let mut proxy = honest(&SECRET).in_chunks_of(chunk);
        let attestation = attest_with(&mut proxy, &some_key()).unwrap();
        assert_eq!(attestation.secret.root_key(), SECRET);
        assert_eq!(attestation.token, Some(Token::Jwt("a.b.c".into())));
        assert_eq!(proxy.requests.len(), 2);
        assert_eq!(proxy.requests[0], br#"{"version":[0,2,0],"tee":"sample"}"#);
    }
}

#[test]
fn secret_of_any_length_from_32_bytes_on_is_taken() {
    for len in [32, 33, 64, 4000] {
        let secret = vec![0x9b; len];
        let attestation = attest_with(&mut honest(&secret), &some_key()).unwrap();
        assert_eq!(attestation.secret.root_key(), secret);
    }
}

#[test]
fn token_may_be_missing() {
    let mut proxy = tampering(&SECRET, |_| {}, |answer| answer.token = None);
    assert_eq!(attest_with(&mut proxy, &some_key()).unwrap().token, None);
}

#[test]
fn stale_bytes_do_not_become_an_answer() {
    for stale in [&b"x"[..], &[0; 8], &[0xff; 4096]] {
        let mut proxy = honest(&SECRET).with_stale(stale);
        assert!(attest_with(&mut proxy, &some_key()).is_ok());
    }
}

#[test]
fn endless_stale_bytes_are_an_error() {
    let proxy = honest(&SECRET).with_stale(&vec![0; MAX_MESSAGE + 1000]);
    assert_eq!(failure(proxy), AttestError::Negotiation(LinkError::Babble));
}

#[test]
fn no_proxy_is_noticed_in_bounded_time() {
    assert_eq!(
        words(Proxy::saying([])),
        "negotiation: no answer from the proxy within 10s"
    );
    assert!(last_elapsed() < Duration::from_secs(11));
}

#[test]
fn line_that_takes_nothing_is_noticed_in_bounded_time() {
    assert_eq!(
        words(Proxy::saying([]).taking_only(0)),
        "negotiation: the proxy does not take a message of 42 bytes"
    );
    assert!(last_elapsed() < Duration::from_secs(11));
    let first = 42;
    let error = failure(honest(&SECRET).taking_only(first + 100));
    assert!(matches!(error, AttestError::Decision(LinkError::Stuck(_))));
}

#[test]
fn proxy_that_leaves_after_the_negotiation_is_noticed() {
    let proxy = Proxy::saying([frame::encode(&negotiation()).unwrap()]);
    assert_eq!(
        words(proxy),
        "decision: no answer from the proxy within 60s"
    );
    assert!(last_elapsed() < Duration::from_secs(75));
}

#[test]
fn answer_cut_short_anywhere_is_noticed() {
    let whole = frame::encode(&negotiation()).unwrap();
    for received in 1..whole.len() {
        let proxy = Proxy::saying([whole[..received].to_vec()]);
        let expected = if received < 8 { 8 } else { whole.len() };
        assert_eq!(
            failure(proxy),
            AttestError::Negotiation(LinkError::Stalled { received, expected })
        );
        assert!(last_elapsed() < Duration::from_secs(21));
    }
    let json = r#"{"success":false}"#;
    let cut = framed(json.as_bytes())[..20].to_vec();
    let proxy = Proxy::saying([whole, cut]);
    assert_eq!(
        words(proxy),
        "decision: the proxy stopped after 20 of 25 bytes of its answer"
    );
}

#[test]
fn length_beyond_the_limit_is_refused_at_once() {
    for length in [MAX_MESSAGE as u64 + 1, 1 << 32, 1 << 63, u64::MAX] {
        let error = LinkError::Message(MessageError::TooLong(length));
        let header = length.to_le_bytes().to_vec();
        assert_eq!(
            failure(Proxy::saying([header.clone()])),
            AttestError::Negotiation(error.clone())
        );
        let proxy = Proxy::saying([frame::encode(&negotiation()).unwrap(), header]);
        assert_eq!(failure(proxy), AttestError::Decision(error));
        assert!(last_elapsed() < Duration::from_secs(1));
    }
    assert_eq!(
        words(Proxy::saying([(1u64 << 63).to_le_bytes().to_vec()])),
        "negotiation: message of 9223372036854775808 bytes, the limit is 65536"
    );
}

#[test]
fn invalid_json_is_refused() {
    for json in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\xff\xfe\x00",
        br#"{"challenge":"AAEC"}"#,
        br#"{"challenge":"AAEC","params":"Challenge"}"#,
        br#"{"challenge":"AAEC","params":["Something"]}"#,
        br#"{"challenge":"not base64!","params":["EcPublicKeyBytes","Challenge"]}"#,
    ] {
        let message = words(Proxy::saying([framed(json)]));
        assert!(
            message.starts_with("negotiation: invalid message: "),
            "{message}"
        );
        assert!(message.len() < 300 && !message.contains(|c: char| c.is_control()));
        let message = words(deciding(&String::from_utf8_lossy(json)));
        assert!(
            message.starts_with("decision: invalid message: "),
            "{message}"
        );
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let proxy = tampering(
        &SECRET,
        |answer| answer.version = Some(Version(0, 3, 0)),
        |_| {},
    );
    assert_eq!(
        words(proxy),
        "negotiation: protocol version 0.3.0 is not supported, only 0.1.0 and 0.2.0 are"
    );
    let of_another_shape = framed(br#"{"version":[7,0,1],"curves":["P-384"]}"#);
    assert_eq!(
        failure(Proxy::saying([of_another_shape])),
        AttestError::Version(UnsupportedVersion(Version(7, 0, 1)))
    );
    let mut named = tampering(
        &SECRET,
        |answer| answer.version = Some(Version::V0_1_0),
        |_| {},
    );
    assert!(attest_with(&mut named, &some_key()).is_ok());
}

#[test]
fn proxy_that_gives_up_is_quoted() {
    let json = br#"{"error":"attestation server does not answer\n[SVSM] fake"}"#;
    assert_eq!(
        words(Proxy::saying([framed(json), framed(json)])),
        "negotiation: the proxy gave up and says: attestation server does not answer?[SVSM] fake"
    );
}

#[test]
fn parameters_that_bind_nothing_are_refused() {
    let with = |params: Vec<Param>| tampering(&SECRET, |answer| answer.params = params, |_| {});
    assert_eq!(
        failure(with(vec![])),
        AttestError::Binding(BindingError::NoKey)
    );
    assert_eq!(
        failure(with(vec![Param::EcPublicKeyBytes])),
        AttestError::Binding(BindingError::NoChallenge)
    );
    let proxy = tampering(&SECRET, |answer| answer.challenge = vec![].into(), |_| {});
    assert_eq!(words(proxy), "negotiation: the challenge is empty");
}

#[test]
fn nothing_is_sent_after_a_refused_negotiation() {
    let mut proxy = tampering(&SECRET, |answer| answer.params.clear(), |_| {});
    assert!(attest_with(&mut proxy, &some_key()).is_err());
    assert_eq!(proxy.requests.len(), 1);
}

#[test]
fn refusal_names_the_cause() {
    assert_eq!(
        words(deciding(
            r#"{"success":false,"decryption":null,"token":null}"#
        )),
        "evidence refused, the proxy gives no reason"
    );
    assert_eq!(
        words(deciding(
            r#"{"success":false,"error":"launch measurement not as expected"}"#
        )),
        "evidence refused, the proxy says: launch measurement not as expected"
    );
    let shout = "!".repeat(5000);
    let message = words(deciding(&format!(
        r#"{{"success":false,"error":"{shout}"}}"#
    )));
    assert!(message.len() < 250 && message.ends_with("!..."));
}

#[test]
fn refusal_wins_over_a_secret_sent_along() {
    let proxy = tampering(&SECRET, |_| {}, |answer| answer.success = false);
    assert_eq!(failure(proxy), AttestError::RefusedSilently);
}

#[test]
fn success_without_a_secret_is_a_failure() {
    let proxy = tampering(&SECRET, |_| {}, |answer| answer.secret = None);
    assert_eq!(
        words(proxy),
        "evidence accepted, but the answer has no secret"
    );
    let proxy = tampering(&SECRET, |_| {}, |answer| answer.decryption = None);
    assert_eq!(
        words(proxy),
        "evidence accepted, but the answer has no decryption data"
    );
}

#[test]
fn secret_that_is_empty_or_short_is_refused() {
    assert_eq!(words(honest(b"")), "the secret is empty");
    assert_eq!(
        words(honest(&SECRET[..31])),
        "the secret is 31 bytes long, at least 32 are needed"
    );
    assert_eq!(
        failure(honest(b"1")),
        AttestError::Secret(SecretError::TooShort(1))
    );
}

/// The error when `change` is applied to the decryption data of an honest answer.
fn with_parts(change: impl FnOnce(&mut Decryption)) -> AttestError {
    failure(tampering(
        &SECRET,
        |_| {},
        |answer| change(answer.decryption.as_mut().unwrap()),
    ))
}

#[test]
fn parts_of_another_length_are_refused() {
    let refused = |part, expected, found, change: &dyn Fn(&mut Decryption)| {
        let error = JweError::Length {
            part,
            expected,
            found,
        };
        assert_eq!(with_parts(change), AttestError::Decrypt(error));
    };
    for found in [0, 7, 8, 16, 39, 41, 48, 1000] {
        refused("wrapped key", 40, found, &|parts| {
            parts.wrapped_cek = vec![1; found].into();
        });
    }
    for found in [0, 11, 13, 16] {
        refused("IV", 12, found, &|parts| parts.iv = vec![1; found].into());
    }
    for found in [0, 4, 12, 15, 17] {
        refused("authentication tag", 16, found, &|parts| {
            parts.tag = vec![1; found].into();
        });
    }
    for found in [0, 32, 48, 65, 67, 133] {
        let error = PointError::Length {
            curve: Curve::P521,
            expected: 66,
            found,
        };
        let x = with_parts(|parts| parts.epk.x = vec![0; found].into());
        let y = with_parts(|parts| parts.epk.y = vec![0; found].into());
        assert_eq!(x, AttestError::Decrypt(JweError::Point(error)));
        assert_eq!(y, AttestError::Decrypt(JweError::Point(error)));
    }
}

#[test]
fn ephemeral_key_off_the_curve_is_refused() {
    let error = with_parts(|parts| parts.epk.y.0[65] ^= 1);
    assert_eq!(
        error.to_string(),
        "the secret does not decrypt: ephemeral key is not a point on P-521"
    );
    let error = with_parts(|parts| {
        parts.epk.x = vec![0; 66].into();
        parts.epk.y = vec![0; 66].into();
    });
    assert_eq!(
        error,
        AttestError::Decrypt(JweError::Point(PointError::NotOnCurve(Curve::P521)))
    );
}

#[test]
fn every_changed_bit_of_the_encryption_is_noticed() {
    for bit in 0..40 * 8 {
        let error = with_parts(|parts| flip(&mut parts.wrapped_cek.0, bit));
        assert_eq!(error, AttestError::Decrypt(JweError::Unwrap), "bit {bit}");
    }
    let tag = AttestError::Decrypt(JweError::Tag);
    for bit in 0..12 * 8 {
        assert_eq!(with_parts(|parts| flip(&mut parts.iv.0, bit)), tag);
    }
    for bit in 0..16 * 8 {
        assert_eq!(with_parts(|parts| flip(&mut parts.tag.0, bit)), tag);
        assert_eq!(with_parts(|parts| flip(&mut parts.aad.0, bit)), tag);
    }
    for bit in 0..32 * 8 {
        let proxy = tampering(
            &SECRET,
            |_| {},
            |answer| flip(&mut answer.secret.as_mut().unwrap().0, bit),
        );
        assert_eq!(failure(proxy), tag);
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn header_of_another_length_is_noticed() {
    let tag = AttestError::Decrypt(JweError::Tag);
    assert_eq!(with_parts(|parts| parts.aad = vec![].into()), tag);
    assert_eq!(with_parts(|parts| parts.aad.0.push(b'A')), tag);
}

#[test]
fn ciphertext_of_another_length_is_noticed() {
    for len in [0, 1, 31, 33, 1000] {
        let change = |answer: &mut AttestationResponse| {
            answer.secret.as_mut().unwrap().0.resize(len, 0);
        };
        assert_eq!(
            failure(tampering(&SECRET, |_| {}, change)),
            AttestError::Decrypt(JweError::Tag)
        );
    }
}

#[test]
fn secret_for_another_key_does_not_decrypt() {
    let mut theirs = honest(&SECRET);
    let mut request = Vec::new();
    assert!(attest_with(&mut theirs, &Fixed(vec![0x42; 60])).is_ok());
    request.append(&mut theirs.requests[1]);
    let replayed = frame::encode(&server::release(&request, &SECRET)).unwrap();
    let proxy = Proxy::saying([frame::encode(&negotiation()).unwrap(), replayed]);
    assert_eq!(
        words(proxy),
        "the secret does not decrypt: the content key does not unwrap with this exchange's key"
    );
}

#[test]
fn missing_entropy_is_fatal_before_evidence_is_made() {
    struct Broken;
    impl Entropy for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError::Unhealthy)
        }
    }
    let mut proxy = honest(&SECRET);
    let error = attest_with(&mut proxy, &Broken).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ephemeral key: the random number generator of the CPU failed its health test"
    );
    assert!(proxy.requests.len() < 2);
}

#[test]
fn missing_evidence_is_fatal() {
    struct Mute;
    impl EvidenceSource for Mute {
        fn tee(&self) -> Tee {
            Tee::Snp
        }
        fn evidence(&self, _: &ReportData) -> Result<Evidence, EvidenceError> {
            Err(EvidenceError::Platform("the firmware is busy"))
        }
    }
    let mut proxy = Proxy::saying([frame::encode(&negotiation()).unwrap()]);
    let any = TrustPolicy::trust_on_first_use();
    let result = attest_as(&mut proxy, &some_key(), &Mute, &any);
    assert_eq!(
        result.unwrap_err().to_string(),
        "evidence: the platform gave none: the firmware is busy"
    );
    assert_eq!(proxy.requests, [br#"{"version":[0,2,0],"tee":"snp"}"#]);
}

#[test]
fn self_reported_measurement_is_sent() {
    let source = SampleEvidence {
        measurement: Some([0xab; 48]),
    };
    let mut proxy = honest(&SECRET);
    let any = TrustPolicy::trust_on_first_use();
    let attested = attest_as(&mut proxy, &some_key(), &source, &any);
    assert!(attested.is_ok());
    let request: AttestationRequest = frame::decode(&proxy.requests[1]).unwrap();
    let Evidence::Sample { measurement, .. } = request.evidence else {
        panic!("not sample evidence");
    };
    assert_eq!(measurement, Some("ab".repeat(48)));
}

/// An example of every message, in the words of the table in the documentation.
fn every_message() -> Vec<AttestError> {
    let of_line = [
        LinkError::Silent(Duration::from_secs(10)),
        LinkError::Stuck(42),
        LinkError::Stalled {
            received: 12,
            expected: 82,
        },
        LinkError::Message(MessageError::TooLong(1 << 63)),
        LinkError::Message(frame::decode::<u8>(b"x").unwrap_err()),
        LinkError::Babble,
        LinkError::NoMemory(MAX_MESSAGE),
    ];
    let of_binding = [
        BindingError::NoKey,
        BindingError::NoChallenge,
        BindingError::Repeated,
        BindingError::EmptyChallenge,
        BindingError::Unknown("none".into()),
    ];
    let of_jwe = [
        JweError::Length {
            part: "wrapped key",
            expected: 40,
            found: 41,
        },
        JweError::Point(PointError::Length {
            curve: Curve::P521,
            expected: 66,
            found: 32,
        }),
        JweError::Point(PointError::NotOnCurve(Curve::P521)),
        JweError::Point(PointError::Curve {
            expected: Curve::P384,
            found: Curve::P256,
        }),
        JweError::Unwrap,
        JweError::Tag,
    ];
    let rest = [
        AttestError::Version(UnsupportedVersion(Version(0, 3, 0))),
        AttestError::GivenUp("...".into()),
        AttestError::Entropy(EntropyError::Exhausted),
        AttestError::Evidence(EvidenceError::Platform("...")),
        AttestError::Decision(LinkError::Silent(Duration::from_secs(60))),
        AttestError::Refused("...".into()),
        AttestError::RefusedSilently,
        AttestError::NoSecret("secret"),
        AttestError::Downgrade,
        AttestError::NoCurve,
        AttestError::Format(JweFormatError::Algorithm),
        AttestError::Release(frame::decode::<u8>(b"x").unwrap_err()),
        AttestError::SignedSecret(SignedSecretError::Payload),
        AttestError::Token,
        AttestError::NoSession,
        AttestError::Trust(TrustError::Malformed),
        AttestError::Trust(TrustError::SignatureLength(95)),
        AttestError::Trust(TrustError::Signature),
        AttestError::Trust(TrustError::Unauthenticated),
        AttestError::Trust(TrustError::SignatureMissing),
        AttestError::Secret(SecretError::Empty),
        AttestError::Secret(SecretError::TooShort(31)),
    ];
    let mut all: Vec<_> = of_line.map(AttestError::Negotiation).into();
    all.extend(of_binding.map(AttestError::Binding));
    all.extend(of_jwe.map(AttestError::Decrypt));
    all.extend(rest);
    all
}

#[test]
fn every_message_is_documented() {
    let documentation = include_str!("../../../Documentation/ATTESTATION.md");
    for error in every_message() {
        let row = format!("| `{error}` |");
        assert!(documentation.contains(&row), "not documented: {row}");
    }
}
