//! Reports about the volume, and proxies that do not pass them on as they should.

use crate::proxy::{Answer, Fixed, Proxy, attest_live};
use crate::server02::*;
use hmac::{Hmac, KeyInit, Mac};
use libaproxy::frame;
use libaproxy::v0_2::*;
use sha2::Sha384;
use std::time::Duration;
use svsm::attest::{LinkError, ReportError, Reporter, SampleEvidence, TrustPolicy};
use svsm::exec::block_on;

const IDENTITY: Identity = Identity([0x1d; 32]);

fn mac(prefix: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha384>::new_from_slice(&SESSION_KEY).unwrap();
    mac.update(prefix);
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// The report in `json`, its MAC checked.
fn read(json: &[u8]) -> ReportBody {
    let request: ReportRequest = frame::decode(json).unwrap();
    let sealed = request.report;
    assert_eq!(mac(REPORT_MAC_PREFIX, &sealed.body), *sealed.mac);
    frame::decode(&sealed.body).unwrap()
}

fn sealed_ack(body: &AckBody) -> Sealed {
    let body = serde_json::to_vec(body).unwrap();
    Sealed {
        mac: mac(ACK_MAC_PREFIX, &body).into(),
        body: body.into(),
    }
}

fn ack_of(report: &ReportBody) -> AckBody {
    AckBody {
        seq: report.seq,
        epoch: report.epoch,
        counter: report.counter,
    }
}

/// An honest answer to a report.
fn honestly(json: &[u8]) -> Vec<u8> {
    let ack = sealed_ack(&ack_of(&read(json)));
    frame::encode(&ReportResponse::Ack(ack)).unwrap()
}

fn refusing(code: Code) -> Answer<'static> {
    Box::new(move |_| {
        let failure = Failure::new(code.clone(), "because");
        frame::encode(&ReportResponse::Error(failure)).unwrap()
    })
}

/// A reporter whose reports get these answers.
fn reporter<'p>(proxy: &'p mut Proxy<'static>) -> Reporter<'static, &'p mut Proxy<'static>> {
    let policy = TrustPolicy::trust_on_first_use();
    attest_live(
        proxy,
        &Fixed(vec![0x5a; 47]),
        &SampleEvidence::default(),
        &policy,
    )
    .unwrap()
    .reporter
    .expect("the server wants reports")
}

/// An honest exchange, and then `answers`.
fn then(ledger: Ledger, answers: impl IntoIterator<Item = Answer<'static>>) -> Proxy<'static> {
    let release = Release {
        ledger,
        ..release()
    };
    let mut proxy = changing(release, |_| {}, |_, _| {});
    proxy.add(answers);
    proxy
}

fn honest_answers(count: usize) -> impl Iterator<Item = Answer<'static>> {
    (0..count).map(|_| Box::new(|json: &[u8]| honestly(json)) as Answer<'static>)
}

/// What becomes of an opening report that gets `answers`, and how many were asked for.
fn opening(answers: impl IntoIterator<Item = Answer<'static>>) -> (Result<(), ReportError>, usize) {
    let mut proxy = then(Ledger::Boot, answers);
    let result = block_on(reporter(&mut proxy).open(IDENTITY, 5, 78));
    (result, proxy.requests.len() - 2)
}

#[test]
fn opening_is_acknowledged() {
    let mut proxy = then(Ledger::Boot, honest_answers(1));
    let mut reporter = reporter(&mut proxy);
    assert_eq!(block_on(reporter.open(IDENTITY, 5, 78)), Ok(()));
    let ack = reporter.acknowledged().unwrap();
    assert_eq!((ack.seq, ack.epoch, ack.counter), (1, 5, 78));
    drop(reporter);
    let report = read(&proxy.requests[2]);
    assert_eq!(
        report,
        ReportBody {
            seq: 1,
            identity: IDENTITY,
            state: VolumeState::Formatted,
            epoch: 5,
            counter: 78,
            kind: ReportKind::Open,
        }
    );
}

#[test]
fn commits_during_a_report_become_one_report() {
    let mut proxy = then(Ledger::Commit, honest_answers(3));
    let mut reporter = reporter(&mut proxy);
    block_on(reporter.open(IDENTITY, 5, 78)).unwrap();
    reporter.commit(79).unwrap();
    // Under way now; what follows waits for it.
    let _ = reporter.poll().is_pending();
    for counter in 80..=90 {
        reporter.commit(counter).unwrap();
    }
    assert_eq!(block_on(reporter.settle()), Ok(()));
    assert_eq!(reporter.acknowledged().unwrap().counter, 90);
    assert!((2..=3).contains(&reporter.count()), "{}", reporter.count());
    drop(reporter);
    let last = read(proxy.requests.last().unwrap());
    assert_eq!((last.kind, last.counter), (ReportKind::Commit, 90));
}

#[test]
fn commits_are_reported_one_by_one_in_strict_mode() {
    let mut proxy = then(Ledger::Strict, honest_answers(3));
    let mut reporter = reporter(&mut proxy);
    block_on(reporter.open(IDENTITY, 5, 78)).unwrap();
    for counter in [79, 80] {
        reporter.commit(counter).unwrap();
        block_on(reporter.settle()).unwrap();
        assert_eq!(reporter.acknowledged().unwrap().counter, counter);
    }
}

#[test]
fn counter_that_was_reported_never_goes_back() {
    let mut proxy = then(Ledger::Commit, honest_answers(2));
    let mut reporter = reporter(&mut proxy);
    block_on(reporter.open(IDENTITY, 5, 78)).unwrap();
    for counter in [81, 80, 79] {
        reporter.commit(counter).unwrap();
    }
    block_on(reporter.settle()).unwrap();
    assert_eq!(reporter.acknowledged().unwrap().counter, 81);
}

#[test]
fn commits_are_not_reported_unless_the_server_wants_them() {
    let mut proxy = then(Ledger::Boot, honest_answers(1));
    let mut reporter = reporter(&mut proxy);
    block_on(reporter.open(IDENTITY, 5, 78)).unwrap();
    reporter.commit(79).unwrap();
    block_on(reporter.settle()).unwrap();
    drop(reporter);
    assert_eq!(proxy.requests.len(), 3);
}

#[test]
fn commit_before_the_opening_is_an_error() {
    let mut proxy = then(Ledger::Commit, honest_answers(1));
    let mut reporter = reporter(&mut proxy);
    assert_eq!(reporter.commit(79), Err(ReportError::NotOpen));
}

#[test]
fn contradiction_is_final_at_once() {
    let failure = Failure::new(Code::Ledger, "because");
    assert_eq!(
        opening([refusing(Code::Ledger)]),
        (Err(ReportError::Refused(failure.clone())), 1)
    );
    assert_eq!(
        ReportError::Refused(failure).to_string(),
        "report to the server: refused, the proxy says: because (ledger)"
    );
}

#[test]
fn server_that_is_away_is_asked_again_with_the_same_report() {
    let mut answers = vec![
        refusing(Code::ServerUnreachable),
        refusing(Code::ServerError),
    ];
    answers.extend(honest_answers(1));
    let mut proxy = then(Ledger::Boot, answers);
    let result = block_on(reporter(&mut proxy).open(IDENTITY, 5, 78));
    assert_eq!(result, Ok(()));
    let [.., first, second, third] = &proxy.requests[..] else {
        panic!();
    };
    assert_eq!(first, second);
    assert_eq!(second, third);
}

#[test]
fn server_that_stays_away_is_given_up() {
    let answers: Vec<_> = (0..9).map(|_| refusing(Code::ServerUnreachable)).collect();
    let (result, asked) = opening(answers);
    assert!(matches!(result, Err(ReportError::Refused(_))));
    assert_eq!(asked, 3);
}

#[test]
fn proxy_that_is_gone_is_noticed() {
    let (result, asked) = opening([]);
    let silent = LinkError::Silent(Duration::from_secs(30));
    assert_eq!((result, asked), (Err(ReportError::Link(silent)), 3));
}

#[test]
fn acknowledgement_of_anybody_else_does_not_count() {
    let forged = |change: fn(&mut Sealed)| {
        opening([Box::new(move |json: &[u8]| {
            let mut sealed = sealed_ack(&ack_of(&read(json)));
            change(&mut sealed);
            frame::encode(&ReportResponse::Ack(sealed)).unwrap()
        }) as Answer<'static>])
        .0
    };
    assert_eq!(forged(|_| {}), Ok(()));
    for change in [
        (|sealed| sealed.mac.0[0] ^= 1) as fn(&mut Sealed),
        |sealed| sealed.mac.0.truncate(47),
        |sealed| sealed.mac.0.clear(),
        |sealed| sealed.body.0[10] ^= 1,
        // The report itself, sent back.
        |sealed| sealed.mac = mac(REPORT_MAC_PREFIX, &sealed.body).into(),
    ] {
        assert_eq!(forged(change), Err(ReportError::Mac));
    }
}

#[test]
fn acknowledgement_of_something_else_does_not_count() {
    let acked = |change: fn(&mut AckBody)| {
        opening((0..3).map(|_| {
            Box::new(move |json: &[u8]| {
                let mut body = ack_of(&read(json));
                change(&mut body);
                frame::encode(&ReportResponse::Ack(sealed_ack(&body))).unwrap()
            }) as Answer<'static>
        }))
    };
    for change in [
        (|body| body.seq += 1) as fn(&mut AckBody),
        |body| body.epoch -= 1,
        |body| body.counter -= 1,
    ] {
        assert_eq!(acked(change), (Err(ReportError::Mismatch), 1));
    }
    // One that was late is not taken for the one that is due.
    assert_eq!(acked(|body| body.seq = 0), (Err(ReportError::Late), 3));
}

#[test]
fn nonsense_in_place_of_an_acknowledgement_is_an_error() {
    for json in [
        &b""[..],
        b"{",
        b"null",
        br#"{"ack":{}}"#,
        br#"{"error":"x"}"#,
    ] {
        let nonsense = move |_: &[u8]| crate::server::framed(json);
        let (result, asked) = opening((0..3).map(|_| Box::new(nonsense) as Answer<'static>));
        assert!(matches!(
            result,
            Err(ReportError::Link(LinkError::Message(_)))
        ));
        assert_eq!(asked, 3);
    }
}
