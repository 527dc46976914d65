//! The SVSM's side over the UNIX socket, through the proxy, to a real kbs-test.

mod common;

use common::{Key, Lines, Proxy};
use kbs_test::config::{Config, Policy};
use kbs_test::log::Log;
use kbs_test::server::{Running, Setup};
use kbs_test::snp::Roots;
use kbs_test::snp::test_root::TestRoot;
use libaproxy::v0_1::{AttestationResponse, Evidence, Tee, Token};

const SECRET: [u8; 32] = [0x5a; 32];

fn kbs(policy: Policy) -> (Running, Lines) {
    let lines = Lines::default();
    let sink = lines.clone();
    let config = Config {
        policy,
        secret: hex::encode(SECRET).parse().unwrap(),
    };
    let server = Running::start(config, Log::new(move |line| sink.push(line))).unwrap();
    (server, lines)
}

fn sample_allowed() -> Policy {
    Policy {
        allow_sample: true,
        ..Policy::default()
    }
}

#[test]
fn secret_reaches_the_svsm() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    assert_eq!(proxy.connect().attest(None).unwrap(), SECRET);
    let line = &proxy.lines.expect("session 1: ", 1)[0];
    assert!(line.starts_with("session 1: tee sample: secret delivered after "));
    assert!(line.contains(" ms (protocol 0.1.0, "), "{line}");
    assert!(line.ends_with(" to it)"), "{line}");
}

#[test]
fn answer_has_every_member_of_version_0_1_0() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    let (mut svsm, key) = (proxy.connect(), Key::new());
    svsm.send_text(r#"{"version":[0,1,0],"tee":"sample"}"#);
    let negotiation: serde_json::Value = svsm.receive();
    let params = serde_json::json!(["EcPublicKeyBytes", "Challenge"]);
    assert_eq!(negotiation["params"], params);
    assert_eq!(negotiation.as_object().unwrap().len(), 2);
    let negotiation = serde_json::from_value(negotiation).unwrap();

    svsm.send(&key.sample_request(&negotiation, None));
    let answer: AttestationResponse = svsm.receive();
    assert!(answer.success && answer.error.is_none());
    let parts = answer.decryption.as_ref().unwrap();
    assert_eq!((parts.epk.x.len(), parts.epk.y.len()), (66, 66));
    let lengths = (parts.wrapped_cek.len(), parts.iv.len(), parts.tag.len());
    assert_eq!(lengths, (40, 12, 16));
    assert!(matches!(answer.token, Some(Token::Jwt(_))));
    assert_eq!(key.decrypt(answer), SECRET);
}

#[test]
fn wrong_launch_measurement_is_refused_and_printed() {
    let (expected, found) = ("ef".repeat(48), "9e".repeat(48));
    let (kbs, lines) = kbs(Policy {
        measurement: Some(expected.parse().unwrap()),
        ..sample_allowed()
    });
    let proxy = Proxy::patient(&kbs.url());
    let error = proxy.connect().attest(Some(&found)).unwrap_err();
    assert!(
        error.contains("launch measurement not as expected"),
        "{error}"
    );
    lines.expect(&format!("expected:\"{expected}\"\nfound:\"{found}\""), 1);
    proxy.lines.expect("launch measurement not as expected", 1);

    let secret = proxy.connect().attest(Some(&expected));
    assert_eq!(secret.unwrap(), SECRET);
}

#[test]
fn snp_report_reaches_the_server_unchanged() {
    let root = TestRoot::from_pem(
        include_str!("../../kbs-test/tests/vectors/test-root-ark.key.pem"),
        include_str!("../../kbs-test/tests/vectors/test-root-ask.key.pem"),
    );
    let root = root.unwrap();
    let vcek = root.issue().unwrap();
    let measurement = [0x77; 48];
    let config = Config {
        policy: Policy {
            measurement: Some(kbs_test::config::Measurement(measurement)),
            ..Policy::default()
        },
        secret: hex::encode(SECRET).parse().unwrap(),
    };
    let setup = Setup::in_memory(&config, Roots::only(root.ark()), Log::new(|_| ())).unwrap();
    let kbs = Running::with(setup).unwrap();
    let proxy = Proxy::patient(&kbs.url());
    let (mut svsm, key) = (proxy.connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Snp);
    let report_data = key.report_data(&negotiation).try_into().unwrap();
    let evidence = Evidence::Snp {
        report: vcek.report(&report_data, &measurement).to_vec().into(),
        certs_buf: Some(vcek.table.to_bytes().into()),
    };
    svsm.send(&key.request(&negotiation, evidence));
    assert_eq!(key.decrypt(svsm.receive()), SECRET);
}

#[test]
fn one_connection_carries_session_after_session() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    let mut svsm = proxy.connect();
    for _ in 0..3 {
        assert_eq!(svsm.attest(None).unwrap(), SECRET);
    }
    proxy.lines.expect("secret delivered", 3);
}

#[test]
fn reset_in_the_middle_of_a_session_begins_another() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    let mut svsm = proxy.connect();
    svsm.negotiate(Tee::Sample);
    assert_eq!(svsm.attest(None).unwrap(), SECRET);
    proxy.lines.expect("began again before it sent evidence", 1);
    proxy
        .lines
        .expect("session 2: tee sample: secret delivered", 1);
}

#[test]
fn sessions_run_at_the_same_time() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    // All are in the middle of their session before the first one ends.
    let mut open: Vec<_> = (0..8)
        .map(|_| {
            let mut svsm = proxy.connect();
            let negotiation = svsm.negotiate(Tee::Sample);
            (svsm, negotiation, Key::new())
        })
        .collect();
    for (svsm, negotiation, key) in open.iter_mut().rev() {
        svsm.send(&key.sample_request(negotiation, None));
    }
    for (svsm, _, key) in &mut open {
        assert_eq!(key.decrypt(svsm.receive()), SECRET);
    }
    proxy.lines.expect("secret delivered", 8);
}

#[test]
fn challenge_of_another_session_is_refused_by_the_proxy() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    let (mut one, mut two, key) = (proxy.connect(), proxy.connect(), Key::new());
    let other = one.negotiate(Tee::Sample);
    two.negotiate(Tee::Sample);
    two.send(&key.sample_request(&other, None));
    assert!(two.receive_error().contains("another challenge"));
}

#[test]
fn failed_session_leaves_the_connection_usable() {
    let (kbs, _) = kbs(sample_allowed());
    let proxy = Proxy::patient(&kbs.url());
    let (mut svsm, key) = (proxy.connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Sample);
    let mut request = key.sample_request(&negotiation, None);
    request.key = Key::new().public();
    svsm.send(&request);
    assert!(svsm.receive_error().contains("REPORT_DATA does not bind"));
    assert_eq!(svsm.attest(None).unwrap(), SECRET);
}
