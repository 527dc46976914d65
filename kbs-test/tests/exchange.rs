//! Exchange 0.2.0 from the SVSM's side: authentication, ledger, priming.

mod common;

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{Client, DEFAULT, SECRET, Svsm, refused};
use kbs_test::audit::Audit;
use kbs_test::config::Measurement;
use kbs_test::log::Log;
use kbs_test::server::{Running, Setup};
use kbs_test::snp::Roots;
use kbs_test::snp::test_root::TestRoot;
use kbs_test::store::{Store, StoreError};
use kbs_test::volume::{LedgerMode, Policy, Volume, VolumeName};
use kbs_test::{jwe, static_key};
use libaproxy::v0_1::{Evidence, Tee};
use libaproxy::v0_2::{Ledger, SignedToken, VolumeState};
use serde_json::{Value, json};

fn sample_volume(mode: LedgerMode) -> Volume {
    Volume {
        mode,
        ..Volume::new(Policy {
            allow_sample: true,
            ..Policy::default()
        })
    }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn put(store: &Store, volume: &str, value: &Volume) {
    let written: Result<(), StoreError> = store.write(|tables| {
        tables.put_volume(&name(volume), value)?;
        tables.put_secret(&name(volume), &SECRET.parse().unwrap())
    });
    written.unwrap();
}

fn setup(volumes: &[(&str, Volume)]) -> Setup {
    let store = Store::in_memory().unwrap();
    for (volume, value) in volumes {
        put(&store, volume, value);
    }
    Setup::new(store, Roots::amd().unwrap(), Log::new(|_| ()))
}

/// A server for the default volume in this mode.
fn serve(mode: LedgerMode) -> (Running, Arc<Store>) {
    let setup = setup(&[(DEFAULT, sample_volume(mode))]);
    let store = Arc::clone(&setup.store);
    (Running::with(setup).unwrap(), store)
}

#[test]
fn answer_is_authentic_and_complete() {
    let (kbs, store) = serve(LedgerMode::Commit);
    let (svsm, release) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert_eq!(hex::encode(&*release.secret.0), SECRET);
    assert_eq!(&*release.volume, DEFAULT);
    assert_eq!(
        (release.generation, release.epoch, release.counter),
        (1, 0, 0)
    );
    assert_eq!(release.state, VolumeState::New);
    assert_eq!(release.ledger, Ledger::Commit);
    assert!(release.identity.is_none());
    assert_eq!(svsm.server_key.as_deref(), Some(store.key().spki()));
}

#[test]
fn token_is_signed_by_the_same_key_and_about_this_session() {
    let (kbs, store) = serve(LedgerMode::Off);
    let (svsm, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let token = svsm.token.as_deref().unwrap();
    let parsed = SignedToken::parse(token).unwrap();
    assert!(parsed.is_about(svsm.nonce(), &svsm.public()));
    let verified = static_key::verify(store.key().spki(), parsed.signed, &parsed.signature);
    assert_eq!(verified, Ok(true));
    let (other, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert!(!parsed.is_about(other.nonce(), &other.public()));
}

#[test]
fn nothing_repeats_between_two_boots() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let (_, one) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let (_, two) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert_ne!(one.session_key.0, two.session_key.0);
}

#[test]
fn binding_of_the_old_exchange_is_refused() {
    let (kbs, _) = serve(LedgerMode::Off);
    let mut svsm = Svsm::start(&kbs.url(), Tee::Sample);
    for report_data in [vec![0; 64], [&svsm.digest()[..], &[0; 16]].concat()] {
        let evidence = Evidence::Sample {
            svn: "1".into(),
            report_data: report_data.into(),
            measurement: None,
        };
        refused(&svsm.send(evidence), 401, "REPORT_DATA does not bind");
        svsm = Svsm::start(&kbs.url(), Tee::Sample);
    }
}

#[test]
fn snp_report_runs_through_the_whole_exchange() {
    let root = TestRoot::from_pem(
        include_str!("vectors/test-root-ark.key.pem"),
        include_str!("vectors/test-root-ask.key.pem"),
    )
    .unwrap();
    let vcek = root.issue().unwrap();
    let mut setup = setup(&[(
        DEFAULT,
        Volume::new(Policy {
            measurements: vec![Measurement([7; 48])],
            ..Policy::default()
        }),
    )]);
    setup.roots = Roots::only(root.ark());
    let kbs = Running::with(setup).unwrap();
    let boot = |measurement: &[u8; 48], padding: u8| {
        let mut svsm = Svsm::start(&kbs.url(), Tee::Snp);
        let mut report_data = [padding; 64];
        report_data[..48].copy_from_slice(&svsm.digest());
        let answer = svsm.send(Evidence::Snp {
            report: vcek.report(&report_data, measurement).to_vec().into(),
            certs_buf: Some(vcek.table.to_bytes().into()),
        });
        (svsm, answer)
    };
    let (mut svsm, answer) = boot(&[7; 48], 0);
    assert_eq!(answer.0, 200, "{answer:?}");
    let release = svsm.fetch(DEFAULT).unwrap();
    assert_eq!(hex::encode(&*release.secret.0), SECRET);
    let (_, answer) = boot(&[8; 48], 0);
    refused(&answer, 401, "launch measurement not as expected");
    assert_eq!(answer.1["code"], "measurement");
    let (_, answer) = boot(&[7; 48], 1);
    refused(&answer, 401, "REPORT_DATA does not bind");
}

#[test]
fn what_is_reported_is_told_at_the_next_boot() {
    let (kbs, _) = serve(LedgerMode::Commit);
    let (mut svsm, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = svsm.report("open", 1, 1, 10);
    let ack = svsm.deliver(&open).unwrap();
    assert_eq!(ack, json!({"seq": 1, "epoch": 1, "counter": 10}));
    let commit = svsm.report("commit", 1, 1, 12);
    svsm.deliver(&commit).unwrap();

    let (_, told) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert_eq!(told.state, VolumeState::Formatted);
    assert_eq!(told.identity.unwrap().0, [1; 32]);
    assert_eq!((told.epoch, told.counter), (1, 12));
}

#[test]
fn of_two_boots_at_once_one_is_recorded_and_the_other_stops() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let (mut one, told_one) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let (mut two, told_two) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert_eq!(told_one.epoch, told_two.epoch);
    let open = two.report("open", 1, 1, 5);
    two.deliver(&open).unwrap();
    let open = one.report("open", 1, 1, 5);
    let e = one.deliver(&open).unwrap_err();
    refused(&e, 401, "a newer boot has reported");
    assert_eq!(e.1["code"], "ledger");
    let commit = two.report("commit", 1, 1, 6);
    two.deliver(&commit).unwrap();
}

#[test]
fn boot_that_was_recorded_ends_when_a_newer_one_is() {
    let (kbs, _) = serve(LedgerMode::Commit);
    let (mut one, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = one.report("open", 1, 1, 5);
    one.deliver(&open).unwrap();
    let (mut two, told) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    // Until the second has opened, the first is the one that runs.
    let commit = one.report("commit", 1, 1, 6);
    one.deliver(&commit).unwrap();
    let behind = two.report("open", 1, 2, 5);
    refused(
        &two.deliver(&behind).unwrap_err(),
        409,
        "counter 5 is below 6",
    );
    let open = two.report("open", 1, told.epoch + 1, 6);
    two.deliver(&open).unwrap();
    let commit = one.report("commit", 1, 1, 7);
    assert_eq!(one.deliver(&commit).unwrap_err().1["code"], "ledger");
}

#[test]
fn other_disk_or_old_epoch_is_refused_by_the_server_too() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let (mut one, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = one.report("open", 1, 4, 5);
    one.deliver(&open).unwrap();
    let (mut two, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let other = two.report("open", 2, 5, 6);
    refused(
        &two.deliver(&other).unwrap_err(),
        409,
        "the volume's disk is 0101",
    );
    let old = two.report("open", 1, 4, 6);
    refused(
        &two.deliver(&old).unwrap_err(),
        409,
        "epoch 4 is not above 4",
    );
}

#[test]
fn same_report_again_gets_the_same_acknowledgement() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let (mut svsm, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = svsm.report("open", 1, 1, 5);
    let first = svsm.deliver(&open).unwrap();
    assert_eq!(svsm.deliver(&open).unwrap(), first);
    // Another report under the same number is not a repetition.
    let forged = open.replace("\"counter\":5", "\"counter\":6");
    refused(
        &svsm.deliver(&forged).unwrap_err(),
        409,
        "comes after report 1",
    );
}

#[test]
fn report_of_another_session_or_without_the_key_is_refused() {
    let (kbs, store) = serve(LedgerMode::Boot);
    let (mut one, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let (two, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = one.report("open", 1, 1, 5);
    let sealed = one.seal(&open);
    refused(
        &two.client.post("/svsm/report", &sealed),
        401,
        "not authenticated",
    );
    let stranger = Client::new(&kbs.url());
    refused(
        &stranger.post("/svsm/report", &sealed),
        401,
        "no kbs-session-id cookie",
    );
    let mut changed: Value = serde_json::from_str(&sealed).unwrap();
    let body = open.replace("\"epoch\":1", "\"epoch\":9");
    changed["body"] = BASE64_STANDARD.encode(body).into();
    let answer = one.client.post("/svsm/report", &changed.to_string());
    refused(&answer, 401, "not authenticated");
    for bad in [
        "",
        "{}",
        r#"{"body":"%","mac":""}"#,
        r#"{"body":1,"mac":2}"#,
    ] {
        let (status, _) = one.client.post("/svsm/report", bad);
        assert_eq!(status, 400, "{bad}");
    }
    let no_report = one.client.post("/svsm/report", &one.seal("{\"seq\":1}"));
    refused(&no_report, 400, "the report is not valid");
    assert_eq!(
        store.volume(&name(DEFAULT)).unwrap().unwrap().ledger.epoch,
        0
    );
}

#[test]
fn volume_with_a_ledger_is_not_given_to_who_cannot_report() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let client = Client::new(&kbs.url());
    let nonce = client.auth("sample");
    let (key, body) = plain_attestation(&nonce);
    assert_eq!(client.attest(&body).0, 200);
    let answer = client.resource();
    refused(&answer, 401, "is released by exchange 0.2.0 only");
    assert_eq!(answer.1["code"], "bad-request");
    drop(key);
}

/// A key on P-256 and an attestation as an SVSM sends it to a KBS that knows no exchange.
fn plain_attestation(nonce: &str) -> (p256::SecretKey, Value) {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use p256::elliptic_curve::Generate;
    use p256::elliptic_curve::sec1::ToSec1Point;
    let secret = p256::SecretKey::try_generate_from_rng(&mut getrandom::SysRng).unwrap();
    let sec1 = secret.public_key().to_sec1_point(false);
    let (x, y) = sec1.as_bytes()[1..].split_at(32);
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW",
        "x": BASE64_URL_SAFE_NO_PAD.encode(x), "y": BASE64_URL_SAFE_NO_PAD.encode(y)});
    let key = serde_json::from_value(jwk.clone()).unwrap();
    let key = kbs_test::tee_key::TeeKey::from_jwk(&key).unwrap();
    let digest = kbs_test::binding::runtime_data(&key, nonce);
    let evidence = json!({"svn": "1", "report_data": BASE64_STANDARD.encode(digest)});
    let body = json!({"runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
        "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}});
    (secret, body)
}

#[test]
fn client_of_the_plain_protocol_gets_the_plain_secret() {
    let (kbs, _) = serve(LedgerMode::Off);
    let client = Client::new(&kbs.url());
    let nonce = client.auth("sample");
    let (key, body) = plain_attestation(&nonce);
    assert_eq!(client.attest(&body).0, 200);
    let (status, body) = client.resource();
    assert_eq!((status, body.get("svsm")), (200, None));
    let secret = jwe::open(&key, &serde_json::from_value(body).unwrap()).unwrap();
    assert_eq!(hex::encode(&*secret), SECRET);
}

#[test]
fn each_priming_is_good_for_one_release() {
    let volume = Volume {
        prime: true,
        primed: true,
        ..sample_volume(LedgerMode::Off)
    };
    let setup = setup(&[(DEFAULT, volume.clone())]);
    let store = Arc::clone(&setup.store);
    let kbs = Running::with(setup).unwrap();
    assert!(Svsm::boot(&kbs.url(), DEFAULT).is_ok());
    for _ in 0..2 {
        let e = Svsm::boot(&kbs.url(), DEFAULT).err().unwrap();
        refused(&e, 403, "is not primed");
        assert_eq!(e.1["code"], "not-primed");
    }
    put(&store, DEFAULT, &volume);
    assert!(Svsm::boot(&kbs.url(), DEFAULT).is_ok());
}

#[test]
fn one_priming_serves_one_of_many_at_once() {
    let volume = Volume {
        prime: true,
        primed: true,
        ..sample_volume(LedgerMode::Off)
    };
    let kbs = Running::with(setup(&[(DEFAULT, volume)])).unwrap();
    let url = kbs.url();
    let served = std::thread::scope(|scope| {
        let boots: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| Svsm::boot(&url, DEFAULT).is_ok()))
            .collect();
        boots
            .into_iter()
            .map(|b| b.join().unwrap())
            .filter(|ok| *ok)
            .count()
    });
    assert_eq!(served, 1);
}

#[test]
fn each_volume_has_its_own_rules() {
    let only = |byte: u8| {
        let mut volume = sample_volume(LedgerMode::Off);
        volume.policy.measurements = vec![Measurement([byte; 48])];
        volume
    };
    let kbs = Running::with(setup(&[("a/b/one", only(1)), ("a/b/two", only(2))])).unwrap();
    let boot = |measurement: u8, volume: &str| {
        let mut svsm = Svsm::start(&kbs.url(), Tee::Sample);
        let answer = svsm.send_sample(Some(&hex::encode([measurement; 48])));
        if answer.0 != 200 {
            return Err(answer);
        }
        svsm.fetch(volume).map(|release| release.volume.to_string())
    };
    assert_eq!(boot(1, "a/b/one").unwrap(), "a/b/one");
    assert_eq!(boot(2, "a/b/two").unwrap(), "a/b/two");
    refused(&boot(1, "a/b/two").unwrap_err(), 401, "launch measurement");
    refused(&boot(3, "a/b/one").unwrap_err(), 401, "launch measurement");
    let e = boot(1, "a/b/three").unwrap_err();
    refused(&e, 404, "a/b/three is not registered");
    assert_eq!(e.1["code"], "no-volume");
    refused(
        &boot(1, "a/b/.three").unwrap_err(),
        404,
        "is not registered",
    );
}

#[test]
fn server_without_volumes_says_so() {
    let kbs = Running::with(setup(&[])).unwrap();
    let e = Svsm::boot(&kbs.url(), DEFAULT).err().unwrap();
    refused(&e, 404, "no volume is registered");
}

#[test]
fn boot_may_report_after_the_server_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let open_setup = || {
        let store = Store::open(&db, true).unwrap();
        Setup::new(store, Roots::amd().unwrap(), Log::new(|_| ()))
    };
    let setup = open_setup();
    put(&setup.store, DEFAULT, &sample_volume(LedgerMode::Commit));
    let kbs = Running::with(setup).unwrap();
    let (mut svsm, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = svsm.report("open", 1, 1, 5);
    let ack = svsm.deliver(&open).unwrap();
    drop(kbs);

    let kbs = Running::with(open_setup()).unwrap();
    let cookie = svsm.client.cookie();
    svsm.client = svsm.client.moved(&kbs.url(), &cookie);
    assert_eq!(svsm.deliver(&open).unwrap(), ack);
    let commit = svsm.report("commit", 1, 1, 6);
    svsm.deliver(&commit).unwrap();
    let (_, told) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    assert_eq!((told.epoch, told.counter), (1, 6));
}

#[test]
fn waiting_boots_are_bounded_and_never_displace_the_recorded_one() {
    let (kbs, _) = serve(LedgerMode::Boot);
    let (mut running, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = running.report("open", 1, 1, 5);
    running.deliver(&open).unwrap();
    let (mut oldest, _) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    for _ in 0..64 {
        Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    }
    let late = oldest.report("open", 1, 2, 6);
    refused(
        &oldest.deliver(&late).unwrap_err(),
        401,
        "no boot that may report",
    );
    let commit = running.report("commit", 1, 1, 6);
    running.deliver(&commit).unwrap();
}

#[test]
fn audit_log_says_what_happened_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut setup = setup(&[(DEFAULT, sample_volume(LedgerMode::Boot))]);
    setup.audit = Audit::open(&path).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    setup.log = Log::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let kbs = Running::with(setup).unwrap();
    let (mut svsm, release) = Svsm::boot(&kbs.url(), DEFAULT).unwrap();
    let open = svsm.report("open", 1, 1, 5);
    svsm.deliver(&open).unwrap();
    Client::new(&kbs.url()).resource();

    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["challenge", "attested", "released", "reported", "refused"]
    );
    assert_eq!(events[2]["volume"], DEFAULT);
    assert_eq!(events[3]["epoch"], 1);
    assert_eq!(events[4]["code"], "bad-request");
    let log = lines.lock().unwrap().join("\n");
    assert!(log.contains("volume default/sample/test: open reported: epoch 1, counter 5"));
    let key = *release.session_key.0;
    for secret in [
        SECRET.to_owned(),
        BASE64_STANDARD.encode(&*release.secret.0),
        BASE64_STANDARD.encode(key),
        hex::encode(key),
    ] {
        assert!(!text.contains(&secret) && !log.contains(&secret));
    }
}

#[test]
fn exchange_of_another_version_is_refused_by_name() {
    let (kbs, _) = serve(LedgerMode::Off);
    let request = json!({"version": "0.4.0", "tee": "sample",
        "extra-params": "{\"svsm\":\"0.3.0\"}"});
    let answer = Client::new(&kbs.url()).post("/auth", &request.to_string());
    refused(
        &answer,
        401,
        "exchange \"0.3.0\" is not supported, only 0.2.0 is",
    );
}
