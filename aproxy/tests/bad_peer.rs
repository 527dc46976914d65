//! Whatever an SVSM sends ends its session at most; the next one is served.

mod common;

use std::net::Shutdown;

use common::{Key, Proxy};
use kbs_test::config::{Config, Policy};
use kbs_test::log::Log;
use kbs_test::server::Running;
use libaproxy::v0_1::{Evidence, Tee};

fn kbs() -> Running {
    let config = Config {
        policy: Policy {
            allow_sample: true,
            ..Policy::default()
        },
        secret: "5a5a".parse().unwrap(),
    };
    Running::start(config, Log::new(|_| ())).unwrap()
}

#[track_caller]
fn still_serves(proxy: &Proxy) {
    assert_eq!(proxy.connect().attest(None).unwrap(), [0x5a, 0x5a]);
}

#[test]
fn absurd_length_is_refused_and_the_line_recovers() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    for length in [65_537, 1 << 63, u64::MAX] {
        let mut svsm = proxy.connect();
        svsm.send_raw(&length.to_le_bytes());
        svsm.send_raw(&[b'x'; 5000]);
        let error = svsm.receive_error();
        assert!(error.contains("the limit is 65536"), "{error}");
        // What followed is dropped; after silence the same line works again.
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(svsm.attest(None).unwrap(), [0x5a, 0x5a]);
    }
    proxy.lines.expect("tee unknown: failed after", 3);
}

#[test]
fn invalid_first_messages_are_answered_with_the_cause() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let mut svsm = proxy.connect();
    for (text, words) in [
        ("", "invalid message"),
        ("{", "invalid message"),
        ("\u{0}\u{0}", "invalid message"),
        ("[[[[[[[[[[[[[[[[", "invalid message"),
        (r#"{"tee":"sample"}"#, "missing field `version`"),
        (r#"{"version":"0.1.0","tee":"sample"}"#, "invalid message"),
        (
            r#"{"version":[0,3,0],"tee":"sample"}"#,
            "protocol version 0.3.0 is not supported",
        ),
        (
            r#"{"version":[1,0,0]}"#,
            "protocol version 1.0.0 is not supported",
        ),
        (r#"{"version":[0,1,0],"tee":"toaster"}"#, "unknown variant"),
        (r#"{"version":[0,1,0]}"#, "missing field `tee`"),
    ] {
        svsm.send_text(text);
        let error = svsm.receive_error();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert_eq!(svsm.attest(None).unwrap(), [0x5a, 0x5a]);
    proxy.lines.expect("tee unknown: failed after", 10);
}

#[test]
fn invalid_evidence_messages_are_answered_with_success_false() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    for text in [
        "",
        "null",
        r#"{"tee":"sample"}"#,
        r#"{"tee":"sample","evidence":{"Sample":{"svn":"1","report_data":"%"}},"challenge":"","key":{"x":"","y":""}}"#,
    ] {
        let mut svsm = proxy.connect();
        svsm.negotiate(Tee::Sample);
        svsm.send_text(text);
        let answer: serde_json::Value = svsm.receive();
        assert_eq!(answer["success"], false);
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("invalid message")
        );
    }
    still_serves(&proxy);
}

#[test]
fn evidence_of_another_tee_than_announced_is_refused() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let (mut svsm, key) = (proxy.connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Sample);
    let evidence = Evidence::Snp {
        report: vec![0; 1184].into(),
        certs_buf: None,
    };
    let mut request = key.request(&negotiation, evidence);
    svsm.send(&request);
    let error = svsm.receive_error();
    assert!(error.contains("announced evidence of tee sample but sent snp"));

    let negotiation = svsm.negotiate(Tee::Sample);
    request.tee = Tee::Sample;
    request.challenge = negotiation.challenge;
    svsm.send(&request);
    assert!(svsm.receive_error().contains("but sent snp"));
}

#[test]
fn half_closed_connection_still_gets_the_cause() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    for begun in [&b"\x22\0\0"[..], b"\x22\0\0\0\0\0\0\0{\"version\""] {
        let mut svsm = proxy.connect();
        svsm.send_raw(begun);
        svsm.stream.shutdown(Shutdown::Write).unwrap();
        assert!(svsm.receive_error().contains("in the middle of a message"));
        svsm.expect_eof();
    }
    let mut svsm = proxy.connect();
    svsm.negotiate(Tee::Sample);
    svsm.stream.shutdown(Shutdown::Write).unwrap();
    assert!(svsm.receive_error().contains("closed the connection"));
    svsm.expect_eof();
    proxy.lines.expect("failed after", 3);
    still_serves(&proxy);
}

#[test]
fn connection_without_a_word_leaves_no_line() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    drop(proxy.connect());
    still_serves(&proxy);
    proxy.lines.expect("session", 1);
}

#[test]
fn vanished_peer_ends_its_session_only() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let (mut svsm, key) = (proxy.connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Sample);
    svsm.send(&key.sample_request(&negotiation, None));
    drop(svsm);
    let mut svsm = proxy.connect();
    svsm.negotiate(Tee::Sample);
    drop(svsm);
    proxy.lines.expect("closed the connection", 1);
    still_serves(&proxy);
}

#[test]
fn unfinished_message_is_given_up_and_the_line_recovers() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let mut svsm = proxy.connect();
    svsm.send_raw(b"\x22\0\0\0\0\0\0\0{\"version\"");
    assert!(svsm.receive_error().contains("was not complete"));
    assert_eq!(svsm.attest(None).unwrap(), [0x5a, 0x5a]);
}

#[test]
fn missing_evidence_is_given_up_and_the_line_recovers() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let mut svsm = proxy.connect();
    svsm.negotiate(Tee::Sample);
    assert!(svsm.receive_error().contains("sent nothing for 2 s"));
    assert_eq!(svsm.attest(None).unwrap(), [0x5a, 0x5a]);
}

#[test]
fn connections_are_bounded_and_come_back() {
    let kbs = kbs();
    let proxy = Proxy::start(&kbs.url());
    let idle: Vec<_> = (0..aproxy::server::MAX_CONNECTIONS)
        .map(|_| proxy.connect())
        .collect();
    proxy.connect().expect_eof();
    proxy.lines.expect("connections are open already", 1);
    drop(idle);
    // The places are free again as soon as the threads have seen the end.
    let served = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut svsm = proxy.connect();
        svsm.stream.set_nonblocking(true).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let refused = std::io::Read::read(&mut svsm.stream, &mut [0]);
        svsm.stream.set_nonblocking(false).unwrap();
        refused.is_err() && svsm.attest(None).is_ok()
    });
    assert!(served);
}
