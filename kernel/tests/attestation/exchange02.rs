//! Version 0.2.0 with everything that a proxy and a foreign server can do wrong.

use crate::proxy::{Fixed, Proxy, attest_as, attest_with, some_key};
use crate::server::framed;
use crate::server02::*;
use libaproxy::frame;
use libaproxy::v0_2::*;
use svsm::attest::binding::BindingError;
use svsm::attest::ecdh::PointError;
use svsm::attest::jwe::JweError;
use svsm::attest::{
    AttestError, Phase, Proof, SampleEvidence, SecretError, TrustError, TrustPolicy, Version,
};

fn pinned(seeds: &[u8]) -> TrustPolicy {
    TrustPolicy::pinned(seeds.iter().map(|&seed| pin(seed)).collect())
}

fn attest_under(
    mut proxy: Proxy<'_>,
    policy: &TrustPolicy,
) -> Result<svsm::attest::Attestation<'static, crate::proxy::NoLine>, AttestError> {
    attest_as(&mut proxy, &key(), &SampleEvidence::default(), policy)
}

/// Some private key on P-384.
fn key() -> Fixed {
    Fixed(vec![0x5a; 47])
}

/// What becomes of it when any server is taken.
fn failure(proxy: Proxy<'_>) -> AttestError {
    attest_under(proxy, &TrustPolicy::trust_on_first_use()).expect_err("attested")
}

/// What becomes of it when key 1 is pinned.
fn failure_with_pin(proxy: Proxy<'_>) -> AttestError {
    attest_under(proxy, &pinned(&[1])).expect_err("attested")
}

#[test]
fn authenticated_answer_brings_secret_and_ledger() {
    for (policy, is_pinned) in [
        (TrustPolicy::trust_on_first_use(), false),
        (pinned(&[1]), true),
        (pinned(&[3, 1, 2]), true),
    ] {
        let mut proxy = honest();
        let sample = SampleEvidence::default();
        let done = attest_as(&mut proxy, &key(), &sample, &policy).unwrap();
        assert_eq!(done.version, Version::V0_2_0);
        assert_eq!(done.secret.root_key(), SECRET);
        assert_eq!(done.nonce, "bm9uY2U=");
        let server = done.server.unwrap();
        assert_eq!(server.fingerprint, pin(1).fingerprint());
        assert_eq!((server.pinned, server.proof), (is_pinned, Proof::Exchange));
        let volume = done.volume.unwrap();
        assert_eq!(
            (&*volume.name, volume.generation),
            ("default/sample/test", 1)
        );
        let ledger = done.ledger.unwrap();
        assert_eq!((ledger.epoch, ledger.counter), (4, 77));
        assert!(matches!(done.token, Some(Token::Jwt(_))));
        let sent: usize = proxy.requests.iter().map(|json| 8 + json.len()).sum();
        assert_eq!(done.costs.traffic.sent, sent);
        assert!(done.costs.traffic.received > 1000);
        assert!(done.costs.time(Phase::Decision) > core::time::Duration::ZERO);
    }
}

#[test]
fn own_choice_of_curve_is_kept() {
    let mut proxy = honest();
    attest_with(&mut proxy, &key()).unwrap();
    let request: AttestationRequest = frame::decode(&proxy.requests[1]).unwrap();
    assert_eq!(request.key.crv, Curve::P384);
    let none = changing(
        release(),
        |answer| answer.curves = Curves::default(),
        |_, _| {},
    );
    assert_eq!(failure(none), AttestError::NoCurve);
}

#[test]
fn unknown_binding_is_refused() {
    let weak = |answer: &mut NegotiationResponse| answer.binding = Binding::Unknown("none".into());
    assert_eq!(
        failure(changing(release(), weak, |_, _| {})),
        AttestError::Binding(BindingError::Unknown("none".into()))
    );
}

#[test]
fn malformed_negotiation_is_refused() {
    for (from, to) in [
        ("bm9uY2U=", "a\\\"b"),
        ("bm9uY2U=", ""),
        ("\"nonce\"", "\"once\""),
        ("\"binding\"", "\"bind\""),
        ("[\"P-521\",\"P-384\"]", "\"P-384\""),
    ] {
        let json = serde_json::to_string(&negotiation()).unwrap();
        assert!(json.contains(from), "{from}");
        let error = failure(Proxy::saying([framed(json.replace(from, to).as_bytes())]));
        let words = error.to_string();
        assert!(
            words.starts_with("negotiation: invalid message: "),
            "{words}"
        );
    }
}

#[test]
fn refusal_of_the_proxy_is_told_with_its_code() {
    let refusal = br#"{"error":{"code":"server-unreachable","detail":"no route"}}"#;
    assert_eq!(
        failure(Proxy::saying([framed(refusal)])).to_string(),
        "negotiation: the proxy gave up and says: no route (server-unreachable)"
    );
    let refused = |code| {
        failure(deciding(move |_, answer| {
            *answer = AttestationResponse::failure(Failure::new(code, "because"));
        }))
        .to_string()
    };
    assert_eq!(
        refused(Code::Measurement),
        "evidence refused, the proxy says: because (measurement)"
    );
    assert_eq!(
        refused(Code::NotPrimed),
        "evidence refused, the proxy says: because (not-primed)"
    );
    assert_eq!(
        refused(Code::NoVolume),
        "no decision on the evidence, the proxy says: because (no-volume)"
    );
    let silent = deciding(|_, answer| answer.success = false);
    assert_eq!(failure(silent), AttestError::RefusedSilently);
    let empty = deciding(|_, answer| answer.jwe = None);
    assert_eq!(failure(empty), AttestError::NoSecret("secret"));
}

#[test]
fn downgrade_is_refused_with_a_pin() {
    let old = br#"{"challenge":"AAEC","params":["EcPublicKeyBytes","Challenge"]}"#;
    let named =
        br#"{"challenge":"AAEC","params":["EcPublicKeyBytes","Challenge"],"version":[0,1,0]}"#;
    let refused = br#"{"error":"protocol version 0.2.0 is not supported, only 0.1.0 is"}"#;
    for answer in [&old[..], named, refused] {
        let mut proxy = Proxy::saying([framed(answer), framed(old)]);
        let policy = pinned(&[1]);
        let error = attest_as(&mut proxy, &key(), &SampleEvidence::default(), &policy);
        assert_eq!(error.unwrap_err(), AttestError::Downgrade);
        assert_eq!(
            proxy.requests.len(),
            1,
            "nothing was sent after the downgrade"
        );
    }
}

#[test]
fn older_proxy_is_asked_again_without_a_pin() {
    let mut proxy = Proxy::saying([
        framed(br#"{"error":"protocol version 0.2.0 is not supported, only 0.1.0 is"}"#),
        framed(br#"{"challenge":"AAEC","params":["EcPublicKeyBytes","Challenge"]}"#),
    ]);
    assert!(attest_with(&mut proxy, &some_key()).is_err());
    assert_eq!(proxy.requests.len(), 3);
    assert_eq!(proxy.requests[1], br#"{"version":[0,1,0],"tee":"sample"}"#);
}

#[test]
fn swapped_ciphertext_is_noticed() {
    // The host knows the SVSM's key, and encrypts a secret of its own to it.
    let swap = |request: &AttestationRequest, answer: &mut AttestationResponse| {
        let mut theirs = release();
        theirs.secret = vec![0x66; 32].into();
        answer.jwe = Some(encrypt(&request.key, &theirs.to_json().unwrap()));
    };
    let error = AttestError::Trust(TrustError::Signature);
    assert_eq!(failure(deciding(swap)), error);
    assert_eq!(failure_with_pin(deciding(swap)), error);
}

#[test]
fn every_changed_part_is_noticed() {
    type Member = fn(&mut Jwe) -> &mut String;
    let members: [Member; 5] = [
        |jwe| &mut jwe.protected,
        |jwe| &mut jwe.encrypted_key,
        |jwe| &mut jwe.iv,
        |jwe| &mut jwe.ciphertext,
        |jwe| &mut jwe.tag,
    ];
    for member in members {
        let mut len = 1;
        let mut at = 0;
        while at < len {
            let mut length = 0;
            let error = failure(deciding(|_, answer| {
                let text = member(answer.jwe.as_mut().unwrap());
                let mut bytes = std::mem::take(text).into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                length = bytes.len();
                *text = String::from_utf8(bytes).unwrap();
            }));
            assert!(
                matches!(error, AttestError::Format(_) | AttestError::Decrypt(_)),
                "{error}"
            );
            len = length;
            at += 1 + len / 16;
        }
    }
}

#[test]
fn signature_over_another_exchange_is_noticed() {
    type Other = fn(&mut AttestationRequest);
    let others: [Other; 4] = [
        |request| request.nonce = Nonce::new("b3RoZXI=").unwrap(),
        |request| request.tee = Tee::Snp,
        |request| request.key.y.0[0] ^= 1,
        |request| {
            request.evidence = Evidence::Sample {
                svn: "1".into(),
                report_data: [7; 48].into(),
                measurement: None,
            }
        },
    ];
    for other in others {
        let proxy = deciding(|request, answer| {
            let mut request = request.clone();
            other(&mut request);
            let jwe = answer.jwe.as_ref().unwrap();
            let volume = release().volume;
            answer.authentication = Some(authentication(&signer(1), &request, jwe, &volume));
        });
        assert_eq!(failure(proxy), AttestError::Trust(TrustError::Signature));
    }
    let proxy = deciding(|request, answer| {
        let jwe = answer.jwe.as_ref().unwrap();
        let volume = VolumeName::new("another/volume/name").unwrap();
        answer.authentication = Some(authentication(&signer(1), request, jwe, &volume));
    });
    assert_eq!(failure(proxy), AttestError::Trust(TrustError::Signature));
}

#[test]
fn malformed_authentication_is_refused() {
    let with = |change: fn(&mut Authentication)| {
        failure(deciding(move |_, answer| {
            change(answer.authentication.as_mut().unwrap());
        }))
    };
    assert_eq!(
        with(|a| a.key.0.truncate(119)),
        AttestError::Trust(TrustError::Malformed)
    );
    assert_eq!(
        with(|a| a.key.0[119] ^= 1),
        AttestError::Trust(TrustError::NotOnCurve)
    );
    assert_eq!(
        with(|a| a.signature.0.push(0)),
        AttestError::Trust(TrustError::SignatureLength(97))
    );
    assert_eq!(
        with(|a| a.signature.0[40] ^= 1),
        AttestError::Trust(TrustError::Signature)
    );
}

/// A second server with a key of its own, all honest but for being another.
fn foreign<'a>() -> Proxy<'a> {
    deciding(|request, answer| *answer = self::answer(&signer(2), request, &release()))
}

#[test]
fn foreign_server_is_refused_with_a_pin_and_named_without() {
    let fingerprint = pin(2).fingerprint();
    assert_eq!(
        failure_with_pin(foreign()),
        AttestError::Trust(TrustError::NotPinned(fingerprint))
    );
    let done = attest_under(foreign(), &TrustPolicy::trust_on_first_use()).unwrap();
    let server = done.server.unwrap();
    assert_eq!((server.fingerprint, server.pinned), (fingerprint, false));
}

#[test]
fn key_of_one_server_with_the_signature_of_another_is_refused() {
    let proxy = deciding(|request, answer| {
        let ours = answer.authentication.take().unwrap();
        *answer = self::answer(&signer(2), request, &release());
        answer.authentication.as_mut().unwrap().key = ours.key;
    });
    assert_eq!(
        failure_with_pin(proxy),
        AttestError::Trust(TrustError::Signature)
    );
}

#[test]
fn stripped_signature_is_noticed() {
    let stripped = || deciding(|_, answer| answer.authentication = None);
    assert_eq!(
        failure(stripped()),
        AttestError::Trust(TrustError::SignatureMissing)
    );
    assert_eq!(
        failure_with_pin(stripped()),
        AttestError::Trust(TrustError::Unauthenticated)
    );
}

/// An answer without authentication, as a server gives that knows nothing of it.
fn plain<'a>(text: &'a [u8]) -> Proxy<'a> {
    deciding(move |request, answer| {
        answer.authentication = None;
        answer.token = Some(Token::Jwt("any.token.here".into()));
        answer.session = false;
        answer.jwe = Some(encrypt(&request.key, text));
    })
}

#[test]
fn plain_secret_is_taken_without_a_pin_only() {
    let done = attest_under(plain(&SECRET), &TrustPolicy::trust_on_first_use()).unwrap();
    assert_eq!(done.secret.root_key(), SECRET);
    assert_eq!((done.server, done.ledger, done.volume), (None, None, None));
    assert!(done.reporter.is_none());
    assert_eq!(
        failure_with_pin(plain(&SECRET)),
        AttestError::Trust(TrustError::Unauthenticated)
    );
    assert_eq!(
        failure(plain(&SECRET[..31])),
        AttestError::Secret(SecretError::TooShort(31))
    );
    assert_eq!(failure(plain(b"")), AttestError::Secret(SecretError::Empty));
}

#[test]
fn secret_signed_by_its_owner_is_taken_under_the_same_policy() {
    let owned = signed_secret(&signer(1), &SECRET);
    let foreign = signed_secret(&signer(2), &SECRET);
    for (policy, is_pinned) in [
        (TrustPolicy::trust_on_first_use(), false),
        (pinned(&[1]), true),
    ] {
        let done = attest_under(plain(owned.as_bytes()), &policy).unwrap();
        assert_eq!(done.secret.root_key(), SECRET);
        let server = done.server.unwrap();
        assert_eq!(server.fingerprint, pin(1).fingerprint());
        assert_eq!(
            (server.pinned, server.proof),
            (is_pinned, Proof::SignedSecret)
        );
        let volume = done.volume.unwrap();
        assert_eq!((&*volume.name, volume.generation), ("a/b/c", 2));
    }
    assert_eq!(
        failure_with_pin(plain(foreign.as_bytes())),
        AttestError::Trust(TrustError::NotPinned(pin(2).fingerprint()))
    );
}

#[test]
fn damaged_signed_secret_is_refused() {
    let good = signed_secret(&signer(1), &SECRET);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, other) = signed_secret(&signer(1), &[7; 32])
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let swapped = format!("{head}.{other}");
    assert_eq!(
        failure_with_pin(plain(swapped.as_bytes())),
        AttestError::Trust(TrustError::Signature)
    );
    let cut = format!("{head}.{}", &signature[4..]);
    assert!(matches!(
        failure(plain(cut.as_bytes())),
        AttestError::SignedSecret(SignedSecretError::Length { found: 93, .. })
    ));
    let (header, _) = head.split_once('.').unwrap();
    let header = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, header).unwrap();
    let header = String::from_utf8(header).unwrap();
    let empty = jws(&signer(1), &header, "{}");
    assert_eq!(
        failure(plain(empty.as_bytes())),
        AttestError::SignedSecret(SignedSecretError::Payload)
    );
    let short = signed_secret(&signer(1), &SECRET[..16]);
    assert_eq!(
        failure(plain(short.as_bytes())),
        AttestError::Secret(SecretError::TooShort(16))
    );
}

#[test]
fn swapped_token_is_noticed() {
    let with = |token: fn(&AttestationRequest) -> Token| {
        failure(deciding(move |request, answer| {
            answer.token = Some(token(request));
        }))
    };
    // Of another server, of another exchange, of nobody.
    let theirs = with(|request| token(&signer(2), request));
    assert_eq!(theirs, AttestError::Token);
    let older = with(|request| {
        let mut request = request.clone();
        request.nonce = Nonce::new("b2xk").unwrap();
        token(&signer(1), &request)
    });
    assert_eq!(older, AttestError::Token);
    assert_eq!(with(|_| Token::Jwt("a.b.c".into())), AttestError::Token);
    assert_eq!(with(|_| Token::Cwt("0oRD".into())), AttestError::Token);
    let mut missing = deciding(|_, answer| answer.token = None);
    assert_eq!(attest_with(&mut missing, &key()).unwrap().token, None);
}

#[test]
fn answer_on_another_curve_is_refused() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!(
        "../../../libaproxy/tests/vectors/trustee-jwe.json"
    ))
    .unwrap();
    let proxy = deciding(move |_, answer| {
        answer.jwe = Some(serde_json::from_value(vectors[0]["jwe"].clone()).unwrap());
    });
    let error = PointError::Curve {
        expected: Curve::P384,
        found: Curve::P256,
    };
    assert_eq!(failure(proxy), AttestError::Decrypt(JweError::Point(error)));
}

#[test]
fn earlier_answer_is_refused() {
    let mut earlier = honest();
    attest_with(&mut earlier, &Fixed(vec![0x42; 47])).unwrap();
    let request: AttestationRequest = frame::decode(&earlier.requests[1]).unwrap();
    let replay = deciding(move |_, now| *now = answer(&signer(1), &request, &release()));
    assert_eq!(failure(replay), AttestError::Decrypt(JweError::Unwrap));
}

#[test]
fn authenticated_answer_has_to_be_a_release() {
    let proxy = deciding(|request, answer| {
        let jwe = encrypt(&request.key, &SECRET);
        answer.authentication = Some(authentication(&signer(1), request, &jwe, &release().volume));
        answer.jwe = Some(jwe);
    });
    let error = failure(proxy);
    assert!(matches!(error, AttestError::Release(_)), "{error}");
    let mut short = release();
    short.secret = vec![1; 31].into();
    assert_eq!(
        failure(changing(short, |_| {}, |_, _| {})),
        AttestError::Secret(SecretError::TooShort(31))
    );
}

#[test]
fn server_that_wants_reports_needs_a_proxy_that_forwards_them() {
    for (ledger, error) in [
        (Ledger::Off, None),
        (Ledger::Boot, Some(AttestError::NoSession)),
        (Ledger::Commit, Some(AttestError::NoSession)),
    ] {
        let wanted = Release {
            ledger,
            ..release()
        };
        let mut proxy = changing(wanted, |_| {}, |_, answer| answer.session = false);
        assert_eq!(attest_with(&mut proxy, &key()).err(), error);
    }
}
