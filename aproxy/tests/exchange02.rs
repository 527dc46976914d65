//! The attestation client of the kernel, through the proxy, to a real kbs-test.

mod common;

use aproxy::backend::kbs::Flavour;
use common::client::{self, Line, anybody};
use common::{Lines, Proxy};
use kbs_test::log::Log;
use kbs_test::server::{Running, Setup};
use kbs_test::snp::Roots;
use kbs_test::store::Store;
use kbs_test::tls::Tls;
use kbs_test::volume::{LedgerMode, Policy, Volume};
use svsm::attest::{
    AttestError, Attestation, Identity, Ledger, ReportError, SampleEvidence, ServerKey, TrustError,
    TrustPolicy, Version, VolumeState,
};
use svsm::exec::block_on;

const SECRET: [u8; 32] = [0x5a; 32];
const IDENTITY: Identity = Identity([0x1d; 32]);

fn attest(proxy: &Proxy, policy: &TrustPolicy) -> Result<Attestation<'static, Line>, AttestError> {
    client::attest(proxy, &SampleEvidence::default(), None, policy)
}

/// A kbs-test with one volume, and its key.
fn kbs(mode: LedgerMode) -> (Running, ServerKey) {
    kbs_over(mode, None)
}

fn kbs_over(mode: LedgerMode, tls: Option<Tls>) -> (Running, ServerKey) {
    let store = Store::in_memory().unwrap();
    let name = "default/sample/test".parse().unwrap();
    let volume = Volume {
        mode,
        ..Volume::new(Policy {
            allow_sample: true,
            ..Policy::default()
        })
    };
    store
        .write(|writing| {
            writing.put_volume(&name, &volume)?;
            writing.put_secret(&name, &hex::encode(SECRET).parse().unwrap())
        })
        .unwrap();
    let key = ServerKey::from_der(store.key().spki()).unwrap();
    let setup = Setup {
        tls,
        ..Setup::new(store, Roots::amd().unwrap(), Log::new(|_| ()))
    };
    (Running::with(setup).unwrap(), key)
}

#[test]
fn authenticated_secret_reaches_the_client() {
    let (kbs, key) = kbs(LedgerMode::Off);
    let proxy = Proxy::patient(&kbs.url());
    let pinned = TrustPolicy::pinned(vec![key.clone()]);
    for policy in [anybody(), pinned] {
        let done = attest(&proxy, &policy).unwrap();
        assert_eq!(done.version, Version::V0_2_0);
        assert_eq!(done.secret.root_key(), SECRET);
        assert_eq!(done.server.unwrap().fingerprint, key.fingerprint());
        assert_eq!(&*done.volume.unwrap().name, "default/sample/test");
        assert!(done.reporter.is_none() && done.token.is_some());
    }
    let lines = proxy.lines.expect("secret delivered", 2);
    assert!(lines[0].contains("(protocol 0.2.0, "), "{}", lines[0]);
}

#[test]
fn foreign_server_is_refused_with_a_pin() {
    let (kbs, ours) = (self::kbs(LedgerMode::Off).0, self::kbs(LedgerMode::Off).1);
    let proxy = Proxy::patient(&kbs.url());
    let error = attest(&proxy, &TrustPolicy::pinned(vec![ours])).unwrap_err();
    assert!(matches!(
        error,
        AttestError::Trust(TrustError::NotPinned(_))
    ));
}

#[test]
fn reports_reach_the_ledger() {
    let (kbs, _) = kbs(LedgerMode::Commit);
    let proxy = Proxy::patient(&kbs.url());
    let done = attest(&proxy, &anybody()).unwrap();
    let told = done.ledger.unwrap();
    assert_eq!((told.state, told.mode), (VolumeState::New, Ledger::Commit));
    let mut reporter = done.reporter.unwrap();
    block_on(reporter.open(IDENTITY, told.epoch + 1, 10)).unwrap();
    for counter in 11..=20 {
        reporter.commit(counter).unwrap();
        let _ = reporter.poll();
    }
    block_on(reporter.settle()).unwrap();
    assert_eq!(reporter.acknowledged().unwrap().counter, 20);

    // The next boot is told, and the session of the one before ends with its first report.
    let next = attest(&proxy, &anybody()).unwrap();
    let told = next.ledger.unwrap();
    assert_eq!(told.state, VolumeState::Formatted);
    assert_eq!(told.identity, Some(IDENTITY));
    assert_eq!((told.epoch, told.counter), (1, 20));
    block_on(next.reporter.unwrap().open(IDENTITY, 2, 21)).unwrap();
    reporter.commit(22).unwrap();
    let error = block_on(reporter.settle()).unwrap_err();
    assert!(matches!(error, ReportError::Refused(_)), "{error}");
    assert!(error.to_string().contains("(ledger)"), "{error}");
    drop(reporter);
    proxy.lines.expect("report about the volume failed", 1);
    proxy
        .lines
        .expect("reports about the volume acknowledged", 2);
}

#[test]
fn plain_kbs_protocol_works_with_kbs_test_too() {
    let (kbs, _) = kbs(LedgerMode::Off);
    let proxy = Proxy::of_flavour(&kbs.url(), Flavour::Kbs);
    let done = attest(&proxy, &anybody()).unwrap();
    assert_eq!(done.secret.root_key(), SECRET);
    assert!(done.server.is_none());
}

#[test]
fn refusal_reaches_the_client_with_its_code() {
    let lines = Lines::default();
    let config = kbs_test::config::Config {
        policy: kbs_test::config::Policy::default(),
        secret: hex::encode(SECRET).parse().unwrap(),
    };
    let kbs = Running::start(config, Log::new(move |line| lines.push(line))).unwrap();
    let proxy = Proxy::patient(&kbs.url());
    let error = attest(&proxy, &anybody()).unwrap_err();
    let AttestError::Denied(failure) = &error else {
        panic!("{error}");
    };
    assert_eq!(failure.code.name(), "evidence-refused", "{error}");
    let gone = "http://127.0.0.1:1";
    let error = attest(&Proxy::start(gone), &anybody()).unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("negotiation: the proxy gave up and says: cannot reach"));
    assert!(words.ends_with("(server-unreachable)"), "{words}");
}

#[test]
fn https_server_is_verified_against_the_given_certificates() {
    let vectors =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../kbs-test/tests/vectors");
    let (certificate, key) = (vectors.join("tls-cert.pem"), vectors.join("tls-key.pem"));
    let tls = Tls::open(&certificate, &key).unwrap();
    let (kbs, _) = kbs_over(LedgerMode::Boot, Some(tls));
    assert!(kbs.url().starts_with("https://"), "{}", kbs.url());
    let proxy = Proxy::trusting(&kbs.url(), &std::fs::read(&certificate).unwrap());
    let done = attest(&proxy, &anybody()).unwrap();
    assert_eq!(done.secret.root_key(), SECRET);
    block_on(done.reporter.unwrap().open(IDENTITY, 1, 1)).unwrap();

    let other = std::fs::read(vectors.join("milan-vcek.pem")).unwrap();
    let proxy = Proxy::trusting(&kbs.url(), &other);
    let error = attest(&proxy, &anybody()).unwrap_err().to_string();
    assert!(
        error.contains("cannot reach the attestation server"),
        "{error}"
    );
    assert!(error.contains("certificate"), "{error}");
}
