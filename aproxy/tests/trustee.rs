//! An unmodified Trustee KBS of protocol 0.4.0 at the other end: one that holds to the contract of
//! the real one in all that a client can see, and the answers that a real one gave.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use aproxy::backend::kbs::Flavour;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::client::{anybody, attest};
use common::{Proxy, read_request};
use kbs_test::jws::{TYPE_SECRET, sign};
use kbs_test::static_key::StaticKey;
use kbs_test::tee_key::TeeKey;
use kbs_types::{Attestation, TeePubKey};
use libaproxy::v0_2::{Evidence, Tee};
use serde_json::{Value, json};
use sev::firmware::guest::AttestationReport;
use sha2::{Digest, Sha384};
use svsm::attest::{
    AttestError, EvidenceError, EvidenceSource, Proof, ReportData, SampleEvidence, ServerKey,
    TrustError, TrustPolicy, Version,
};

const SECRET: [u8; 32] = [0x5a; 32];
const PATH: &str = "vms/svsm/web-1";

/// An open session of the server.
#[derive(Default)]
struct Session {
    tee: String,
    nonce: String,
    key: Option<TeePubKey>,
}

/// A KBS with one resource. `sample` evidence is taken in attestation always, as the real one does;
/// `deny` is what its resource policy says.
struct Trustee {
    resource: Vec<u8>,
    deny: bool,
    sessions: HashMap<String, Session>,
}

/// Status, body and cookie of an answer.
type Answer = (u16, Value, Option<String>);

fn refused(kind: &str, detail: &str) -> Answer {
    let kind = format!("https://github.com/confidential-containers/kbs/errors/{kind}");
    (401, json!({"type": kind, "detail": detail}), None)
}

impl Trustee {
    fn answer(&mut self, line: &str, cookie: Option<&str>, body: &[u8]) -> Answer {
        if line.starts_with("POST /kbs/v0/auth ") {
            return self.auth(body);
        }
        let session = cookie.and_then(|id| self.sessions.get_mut(id));
        if line.starts_with("POST /kbs/v0/attest ") {
            let attested = session.and_then(|session| evaluate(session, body));
            return match attested {
                Some(token) => (200, json!({"token": token}), None),
                None => refused("AttestationError", "RCAR handshake Attest failed"),
            };
        }
        let Some(path) = line.strip_prefix("GET /kbs/v0/resource/") else {
            return refused("InvalidRequestPath", line);
        };
        let Some(key) = session.and_then(|session| session.key.clone()) else {
            return refused("TokenNotFound", "Attestation token not found");
        };
        if self.deny {
            return refused("PolicyDeny", "Request denied by the resource policy");
        }
        if !path.starts_with(&format!("{PATH} ")) {
            return refused("PluginInternalError", "Resource not found");
        }
        // The code of the real one has P-256 and P-521 only.
        let key = TeeKey::from_jwk(&key).expect("the key was checked");
        if !["P-256", "P-521"].contains(&key.curve().name()) {
            return refused("JweError", "Unsupported curve");
        }
        let jwe = kbs_test::jwe::seal(&key, &self.resource, &mut getrandom::SysRng);
        let jwe = serde_json::to_value(jwe.expect("it encrypts")).expect("it is JSON");
        (200, jwe, None)
    }

    fn auth(&mut self, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let (Some(tee), true) = (body["tee"].as_str(), body["extra-params"].is_string()) else {
            return refused("AttestationError", "RCAR handshake Auth failed");
        };
        if body["version"] != "0.4.0" {
            return refused("AttestationError", "RCAR handshake Auth failed");
        }
        let id = format!("{:032x}", self.sessions.len() + 1);
        let nonce = BASE64_STANDARD.encode(Sha384::digest(&id).split_at(32).0);
        let session = Session {
            tee: tee.to_owned(),
            nonce: nonce.clone(),
            key: None,
        };
        self.sessions.insert(id.clone(), session);
        let cookie = format!("kbs-session-id={id}; Expires=Fri, 01 Jan 2100 00:00:00 GMT");
        (
            200,
            json!({"nonce": nonce, "extra-params": ""}),
            Some(cookie),
        )
    }
}

/// What a Trustee makes of evidence: a token, or nothing. The hash over the runtime data is its own.
fn evaluate(session: &mut Session, body: &[u8]) -> Option<String> {
    let request: Attestation = serde_json::from_slice(body).ok()?;
    // Its attestation takes any JWK of a known form.
    let key = serde_json::to_value(&request.runtime_data.tee_pubkey).ok()?;
    let bound = json!({
        "additional-evidence": request.tee_evidence.additional_evidence,
        "nonce": request.runtime_data.nonce,
        "tee-pubkey": key,
    });
    // Members sorted, no spaces; nothing in it has to be escaped (RFC 8785).
    let digest = Sha384::digest(serde_json::to_string(&bound).ok()?);
    let evidence = &request.tee_evidence.primary_evidence;
    let report_data = match session.tee.as_str() {
        "sample" => {
            let members = evidence.as_object()?;
            let known = ["svn", "report_data"];
            known
                .iter()
                .all(|name| members.contains_key(*name))
                .then_some(())?;
            BASE64_STANDARD
                .decode(evidence["report_data"].as_str()?)
                .ok()?
        }
        "snp" => {
            let report = evidence["attestation_report"].clone();
            let report: AttestationReport = serde_json::from_value(report).ok()?;
            let (digest, rest) = report.report_data.split_at(48);
            rest.iter().all(|&byte| byte == 0).then_some(())?;
            digest.to_vec()
        }
        _ => return None,
    };
    if request.runtime_data.nonce != session.nonce || report_data != digest[..] {
        return None;
    }
    session.key = Some(request.runtime_data.tee_pubkey);
    Some("eyJhbGciOiJFUzI1NiJ9.e30.AA".to_owned())
}

/// A running server, and what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(resource: &[u8], deny: bool) -> Self {
        let mut trustee = Trustee {
            resource: resource.to_vec(),
            deny,
            sessions: HashMap::new(),
        };
        Self::answering(move |line, cookie, body| trustee.answer(line, cookie, body))
    }

    fn answering(
        mut answer: impl FnMut(&str, Option<&str>, &[u8]) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (head, body) = read_request(&stream);
                assert!(!body.contains(&b'\n'), "JSON with white space");
                let line = head.lines().next().unwrap_or_default().to_owned();
                let cookie = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    let cookie = name.eq_ignore_ascii_case("cookie").then_some(value)?;
                    cookie.strip_prefix("kbs-session-id=")
                });
                log.lock().unwrap().push(line.clone());
                let (status, body, cookie) = answer(&line, cookie, &body);
                let cookie = cookie.map_or_else(String::new, |c| format!("set-cookie: {c}\r\n"));
                let body = body.to_string();
                // Errors have no content type, and a proxy must not want one.
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{cookie}connection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    fn proxy(&self, resource: &str) -> Proxy {
        Proxy::for_resource(&self.url, Flavour::Kbs, resource)
    }
}

fn sample() -> SampleEvidence {
    SampleEvidence::default()
}

/// A report in the form of SNP's, for a Milan CPU, that nobody signed.
struct UnsignedReport;

impl EvidenceSource for UnsignedReport {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn evidence(&self, bound: &ReportData) -> Result<Evidence, EvidenceError> {
        let mut report = vec![0; 1184];
        report[0] = 3;
        report[0x08..0x10].copy_from_slice(&0x30000u64.to_le_bytes());
        report[0x34] = 1;
        report[0x50..0x90].copy_from_slice(bound.padded());
        report[0x188..0x18b].copy_from_slice(&[0x19, 0x01, 0x01]);
        report[0x1a0..0x1e0].fill(0xc1);
        Ok(Evidence::Snp {
            report: report.into(),
            certs_buf: None,
        })
    }
}

#[test]
fn evidence_of_either_kind_earns_the_resource() {
    let server = Server::start(&SECRET, false);
    let proxy = server.proxy(PATH);
    let kinds: [&dyn EvidenceSource; 2] = [&sample(), &UnsignedReport];
    for kind in kinds {
        let done = attest(&proxy, kind, None, &anybody()).unwrap();
        assert_eq!(done.version, Version::V0_2_0);
        assert_eq!(done.secret.root_key(), SECRET);
        assert!(done.server.is_none() && done.ledger.is_none() && done.reporter.is_none());
    }
    let exchange = [
        "POST /kbs/v0/auth HTTP/1.1",
        "POST /kbs/v0/attest HTTP/1.1",
        "GET /kbs/v0/resource/vms/svsm/web-1 HTTP/1.1",
    ];
    assert_eq!(
        *server.asked.lock().unwrap(),
        [exchange, exchange].concat(),
        "each request once"
    );
}

#[test]
fn resource_that_its_owner_signed_is_taken_with_a_pin() {
    let owner = StaticKey::generate().unwrap();
    let payload = json!({
        "secret": base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(SECRET),
        "volume": PATH,
        "generation": 4,
    });
    let resource = sign(&owner, TYPE_SECRET, payload.to_string().as_bytes());
    let server = Server::start(resource.as_bytes(), false);
    let key = ServerKey::from_der(owner.spki()).unwrap();
    let pinned = TrustPolicy::pinned(vec![key.clone()]);
    let done = attest(&server.proxy(PATH), &sample(), None, &pinned).unwrap();
    assert_eq!(done.secret.root_key(), SECRET);
    let signer = done.server.unwrap();
    assert_eq!(signer.proof, Proof::SignedSecret);
    assert_eq!(signer.fingerprint, key.fingerprint());
    assert_eq!(&*done.volume.unwrap().name, PATH);
}

#[test]
fn plain_resource_is_refused_with_a_pin() {
    let server = Server::start(&SECRET, false);
    let other = StaticKey::generate().unwrap();
    let pinned = TrustPolicy::pinned(vec![ServerKey::from_der(other.spki()).unwrap()]);
    let error = attest(&server.proxy(PATH), &sample(), None, &pinned).unwrap_err();
    assert_eq!(error, AttestError::Trust(TrustError::Unauthenticated));
}

#[test]
fn refusals_reach_the_client_in_the_words_of_the_server() {
    let server = Server::start(&SECRET, true);
    let error = attest(&server.proxy(PATH), &sample(), None, &anybody()).unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("(401 PolicyDeny): Request denied by the resource policy"),
        "{words}"
    );

    let server = Server::start(&SECRET, false);
    let error = attest(&server.proxy("a/b/c"), &sample(), None, &anybody()).unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("(401 PluginInternalError): Resource not found"),
        "{words}"
    );
}

#[test]
fn client_of_the_older_exchange_is_told_why_it_is_refused() {
    // It binds its evidence in another way than this server does.
    let server = Server::start(&SECRET, false);
    let error = server.proxy(PATH).connect().attest(None).unwrap_err();
    assert!(error.contains("RCAR handshake Attest failed"), "{error}");
}

/// The answers that a real one gave for the key `d` of `vector`.
fn recorded(vector: &Value) -> Server {
    let data = vector["runtime_data_canonical"].as_str().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let (nonce, jwe) = (data["nonce"].clone(), vector["jwe"].clone());
    let mut session = Session {
        tee: "sample".into(),
        nonce: nonce.as_str().unwrap().into(),
        key: None,
    };
    Server::answering(move |line, cookie, body| {
        if line.starts_with("POST /kbs/v0/auth ") {
            let challenge = json!({"nonce": nonce, "extra-params": ""});
            return (200, challenge, Some("kbs-session-id=42".into()));
        }
        assert_eq!(cookie, Some("42"));
        if line.starts_with("POST /kbs/v0/attest ") {
            let token = evaluate(&mut session, body).expect("the evidence is bound");
            return (200, json!({"token": token}), None);
        }
        (200, jwe.clone(), None)
    })
}

#[test]
fn resource_of_a_real_one_decrypts() {
    let vectors = include_str!("../../libaproxy/tests/vectors/trustee-jwe.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    // The proxy offers P-521 and P-256, and the client prefers P-521.
    let vector = vectors
        .iter()
        .find(|vector| vector["curve"] == "P-521")
        .unwrap();
    let d = vector["d"].as_str().unwrap().trim_start_matches("0x");
    let proxy = recorded(vector).proxy("default/sample/test");
    let key = Some(hex::decode(d).unwrap());
    let done = attest(&proxy, &sample(), key, &anybody()).unwrap();
    assert_eq!(hex::encode(done.secret.root_key()), vector["plaintext"]);
}
