//! The KBS protocol over real HTTP, from the client's side.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use common::{Client, SECRET, refused};
use kbs_test::binding::key_and_nonce;
use kbs_test::config::{Config, Measurement, Policy};
use kbs_test::jwe::{self, Jwe};
use kbs_test::log::Log;
use kbs_test::server::{Running, Setup};
use kbs_test::snp::Roots;
use kbs_test::snp::test_root::TestRoot;
use kbs_test::store::StoreError;
use kbs_test::tee_key::TeeKey;
use p521::SecretKey;
use p521::elliptic_curve::Generate;
use p521::elliptic_curve::sec1::ToSec1Point;
use serde_json::{Value, json};

struct Kbs {
    server: Running,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Kbs {
    fn start(policy: Policy) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let config = Config {
            policy,
            secret: SECRET.parse().unwrap(),
        };
        let log = Log::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let server = Running::start(config, log).unwrap();
        Self { server, lines }
    }

    fn with(setup: Result<Setup, StoreError>) -> Self {
        let server = Running::with(setup.unwrap()).unwrap();
        let lines = Arc::default();
        Self { server, lines }
    }

    fn with_sample() -> Self {
        Self::start(Policy {
            allow_sample: true,
            ..Policy::default()
        })
    }

    fn logged(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn client(&self) -> Client {
        Client::new(&self.server.url())
    }
}

fn test_root() -> TestRoot {
    let ark = include_str!("vectors/test-root-ark.key.pem");
    let ask = include_str!("vectors/test-root-ask.key.pem");
    TestRoot::from_pem(ark, ask).unwrap()
}

fn new_key() -> SecretKey {
    SecretKey::try_generate_from_rng(&mut getrandom::SysRng).unwrap()
}

fn jwk(key: &SecretKey) -> Value {
    let sec1 = key.public_key().to_sec1_point(false);
    let (x, y) = sec1.as_bytes()[1..].split_at(66);
    json!({"kty": "EC", "crv": "P-521", "alg": "ECDH-ES+A256KW",
        "x": BASE64_URL_SAFE_NO_PAD.encode(x), "y": BASE64_URL_SAFE_NO_PAD.encode(y)})
}

fn bound_report_data(key: &SecretKey, nonce: &str) -> [u8; 64] {
    let key = TeeKey::from_jwk(&serde_json::from_value(jwk(key)).unwrap()).unwrap();
    key_and_nonce(&key, &BASE64_STANDARD.decode(nonce).unwrap())
}

fn attestation(key: &SecretKey, nonce: &str, evidence: Value) -> Value {
    json!({"init-data": null,
        "runtime-data": {"nonce": nonce, "tee-pubkey": jwk(key)},
        "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}})
}

fn sample(key: &SecretKey, nonce: &str, measurement: Option<&str>) -> Value {
    let data = BASE64_STANDARD.encode(bound_report_data(key, nonce));
    let mut evidence = json!({"svn": "1", "report_data": data});
    if let Some(m) = measurement {
        evidence["measurement"] = m.into();
    }
    attestation(key, nonce, evidence)
}

#[test]
fn secret_is_released_once_to_the_attested_key() {
    let kbs = Kbs::with_sample();
    let (client, key) = (kbs.client(), new_key());
    let nonce = client.auth("sample");
    let (status, body) = client.attest(&sample(&key, &nonce, None));
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["token"].as_str().unwrap().split('.').count(), 3);

    let (status, body) = client.resource();
    assert_eq!(status, 200, "{body}");
    let jwe: Jwe = serde_json::from_value(body).unwrap();
    assert_eq!(hex::encode(&*jwe::open(&key, &jwe).unwrap()), SECRET);

    refused(&client.resource(), 401, "no such session");
    let log = kbs.logged();
    assert!(log.contains("session 1: attested, tee sample, measurement none"));
    assert!(log.contains("session 1: resource default/sample/test released"));
    assert!(!log.contains(&SECRET[..16]));
}

#[test]
fn other_launch_measurement_is_refused_and_printed() {
    let (expected, found) = ("ef".repeat(48), "9e".repeat(48));
    let kbs = Kbs::start(Policy {
        measurement: Some(expected.parse().unwrap()),
        allow_sample: true,
    });
    let (client, key) = (kbs.client(), new_key());
    let nonce = client.auth("sample");
    let answer = client.attest(&sample(&key, &nonce, Some(&found)));
    refused(&answer, 401, "launch measurement not as expected");
    assert!(kbs.logged().contains(&format!(
        "launch measurement not as expected\nexpected:\"{expected}\"\nfound:\"{found}\"\n"
    )));
    refused(&client.resource(), 401, "no such session");

    let nonce = client.auth("sample");
    let (status, _) = client.attest(&sample(&key, &nonce, Some(&expected)));
    assert_eq!(status, 200);
}

#[test]
fn sample_evidence_is_refused_unless_allowed() {
    let kbs = Kbs::start(Policy::default());
    let (client, key) = (kbs.client(), new_key());
    let nonce = client.auth("sample");
    let answer = client.attest(&sample(&key, &nonce, None));
    refused(&answer, 401, "start kbs-test with --allow-sample");
}

#[test]
fn snp_evidence_has_to_lead_to_a_trusted_root() {
    let (measurement, key) = ([7; 48], new_key());
    let root = test_root();
    let vcek = root.issue().unwrap();
    let config = Config {
        policy: Policy {
            measurement: Some(Measurement(measurement)),
            ..Policy::default()
        },
        secret: SECRET.parse().unwrap(),
    };
    let evidence = |nonce: &str| {
        let raw = vcek.report(&bound_report_data(&key, nonce), &measurement);
        json!({"snp-report": BASE64_STANDARD.encode(raw),
            "certs-buf": BASE64_STANDARD.encode(vcek.table.to_bytes())})
    };

    let amd = Kbs::with(Setup::in_memory(
        &config,
        Roots::amd().unwrap(),
        Log::new(|_| ()),
    ));
    let client = amd.client();
    let nonce = client.auth("snp");
    let answer = client.attest(&attestation(&key, &nonce, evidence(&nonce)));
    refused(
        &answer,
        401,
        "ARK-Test as its issuer, which is no root that this server trusts",
    );
    assert_eq!(answer.1["code"], "evidence-refused");

    let roots = Roots::only(root.ark());
    let kbs = Kbs::with(Setup::in_memory(&config, roots, Log::new(|_| ())));
    let client = kbs.client();
    let nonce = client.auth("snp");
    let (status, body) = client.attest(&attestation(&key, &nonce, evidence(&nonce)));
    assert_eq!(status, 200, "{body}");
    let jwe: Jwe = serde_json::from_value(client.resource().1).unwrap();
    assert_eq!(hex::encode(&*jwe::open(&key, &jwe).unwrap()), SECRET);
}

#[test]
fn evidence_of_one_session_is_worth_nothing_in_another() {
    let kbs = Kbs::with_sample();
    let (one, two, key) = (kbs.client(), kbs.client(), new_key());
    let nonce_one = one.auth("sample");
    let nonce_two = two.auth("sample");
    assert_ne!(nonce_one, nonce_two);

    let answer = two.attest(&sample(&key, &nonce_one, None));
    refused(&answer, 401, "not the challenge of this session");

    // The other session is untouched by the failure, and its key is its own.
    let other_key = new_key();
    let mut stolen = sample(&key, &nonce_one, None);
    stolen["runtime-data"]["tee-pubkey"] = jwk(&other_key);
    refused(&one.attest(&stolen), 401, "REPORT_DATA does not bind");
}

#[test]
fn challenge_is_good_for_one_attempt() {
    let kbs = Kbs::with_sample();
    let (client, key) = (kbs.client(), new_key());
    let nonce = client.auth("sample");
    refused(&client.post("/attest", "{}"), 400, "missing field");
    let answer = client.attest(&sample(&key, &nonce, None));
    refused(&answer, 401, "no such session");

    let nonce = client.auth("sample");
    assert_eq!(client.attest(&sample(&key, &nonce, None)).0, 200);
    let answer = client.attest(&sample(&key, &nonce, None));
    refused(&answer, 401, "was used before");
}

#[test]
fn resource_needs_an_attested_session() {
    let kbs = Kbs::with_sample();
    let client = kbs.client();
    refused(&client.resource(), 401, "no kbs-session-id cookie");
    client.auth("sample");
    refused(&client.resource(), 401, "is not attested");
    refused(
        &client.get("/resource/other/one/here"),
        401,
        "is not attested",
    );
}

#[test]
fn only_the_registered_resource_exists() {
    let kbs = Kbs::with_sample();
    let (client, key) = (kbs.client(), new_key());
    let nonce = client.auth("sample");
    assert_eq!(client.attest(&sample(&key, &nonce, None)).0, 200);
    let answer = client.get("/resource/default/sample/other");
    refused(&answer, 404, "default/sample/other is not registered");
    refused(
        &client.get("/resource/default/%ff/test"),
        404,
        "no such path",
    );
    assert_eq!(
        client.resource().0,
        200,
        "a wrong path does not end the session"
    );
}

#[test]
fn unsupported_keys_are_refused_by_name() {
    let kbs = Kbs::with_sample();
    let (client, key) = (kbs.client(), new_key());
    let rsa = json!({"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AQAB", "e": "AQAB"});
    let mut p384 = jwk(&key);
    p384["crv"] = "P-384".into();
    let mut other = jwk(&key);
    other["crv"] = "secp256k1".into();
    for (jwk, words) in [
        (rsa, "of type RSA"),
        (p384, "coordinate x is not 48 bytes"),
        (other, "curve secp256k1"),
    ] {
        let nonce = client.auth("sample");
        let mut body = sample(&key, &nonce, None);
        body["runtime-data"]["tee-pubkey"] = jwk;
        refused(&client.attest(&body), 401, words);
    }
}

#[test]
fn unchecked_extras_are_refused() {
    let kbs = Kbs::with_sample();
    let (client, key) = (kbs.client(), new_key());
    let mut body = sample(&key, &client.auth("sample"), None);
    body["init-data"] = json!({"format": "toml", "body": ""});
    refused(&client.attest(&body), 401, "init-data is not supported");
    let mut body = sample(&key, &client.auth("sample"), None);
    body["tee-evidence"]["additional_evidence"] = "{}".into();
    refused(
        &client.attest(&body),
        401,
        "additional evidence is not supported",
    );
}

#[test]
fn invalid_requests_are_named() {
    let kbs = Kbs::with_sample();
    let client = kbs.client();
    for bad in ["", "{", "[]", "null", "{\"version\":4}", "\u{0}"] {
        refused(&client.post("/auth", bad), 400, "the request is not valid");
    }
    let old = r#"{"version":"0.3.0","tee":{"some":"thing"}}"#;
    refused(&client.post("/auth", old), 401, "protocol version 0.3.0");
    let tdx = r#"{"version":"0.4.0","tee":"tdx","extra-params":""}"#;
    refused(&client.post("/auth", tdx), 401, "tee tdx is not supported");
    let unknown = r#"{"version":"0.4.0","tee":"toaster","extra-params":""}"#;
    refused(&client.post("/auth", unknown), 400, "toaster");
    refused(
        &client.post("/attest", "{}"),
        401,
        "no kbs-session-id cookie",
    );
    refused(&client.get("/auth"), 405, "method not allowed");
    refused(&client.get("/nothing"), 404, "no such path");
    let large = format!("\"{}\"", "x".repeat(70_000));
    refused(
        &client.post("/auth", &large),
        413,
        "larger than 65536 bytes",
    );
}

#[test]
fn many_clients_at_once_each_get_their_own_answer() {
    let kbs = Kbs::with_sample();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (client, key) = (kbs.client(), new_key());
                let nonce = client.auth("sample");
                assert_eq!(client.attest(&sample(&key, &nonce, None)).0, 200);
                let jwe: Jwe = serde_json::from_value(client.resource().1).unwrap();
                assert_eq!(hex::encode(&*jwe::open(&key, &jwe).unwrap()), SECRET);
            });
        }
    });
}

#[test]
fn silent_client_is_cut_off_and_holds_up_nobody() {
    let kbs = Kbs::with_sample();
    let address = kbs.server.url().replace("http://", "");
    let mut silent = TcpStream::connect(address).unwrap();
    silent
        .write_all(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    kbs.client().auth("sample");
    silent
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut rest = Vec::new();
    silent
        .read_to_end(&mut rest)
        .expect("the server closes the connection");
}
