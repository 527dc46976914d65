//! The attestation client of the kernel, through the proxy, to a real kbs-test and to a server that
//! answers as a Trustee did.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use aproxy::backend::kbs::Flavour;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{Lines, Proxy};
use kbs_test::log::Log;
use kbs_test::server::{Running, Setup};
use kbs_test::snp::Roots;
use kbs_test::store::Store;
use kbs_test::tls::Tls;
use kbs_test::volume::{LedgerMode, Policy, Volume};
use serde_json::{Value, json};
use sha2::{Digest, Sha384};
use svsm::attest::{
    AttestError, Attestation, Client, Identity, Ledger, ReportError, SampleEvidence, ServerKey,
    Timeouts, TrustError, TrustPolicy, Version, VolumeState,
};
use svsm::drivers::stream::ByteStream;
use svsm::entropy::{Entropy, EntropyError};
use svsm::exec::block_on;
use svsm::time::Clock;

const SECRET: [u8; 32] = [0x5a; 32];
const IDENTITY: Identity = Identity([0x1d; 32]);

/// The line as the kernel has it: bytes, now or not.
struct Line(UnixStream);

impl ByteStream for Line {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        self.0.read(buffer).unwrap_or(0)
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        self.0.write(data).unwrap_or(0)
    }
}

struct Watch(Instant);

impl Clock for Watch {
    fn now(&self) -> Duration {
        std::thread::yield_now();
        self.0.elapsed()
    }
}

/// A private key, right-aligned, or fresh ones.
struct Source(Option<Vec<u8>>);

impl Entropy for Source {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        match &self.0 {
            None => getrandom::fill(buffer).map_err(|_| EntropyError::Exhausted),
            Some(key) => {
                buffer.fill(0);
                let start = buffer.len() - key.len();
                buffer[start..].copy_from_slice(key);
                Ok(())
            }
        }
    }
}

fn attest(
    proxy: &Proxy,
    key: Option<Vec<u8>>,
    policy: &TrustPolicy,
) -> Result<Attestation<'static, Line>, AttestError> {
    let stream = proxy.connect().stream;
    stream.set_nonblocking(true).unwrap();
    let client = Client {
        clock: Box::leak(Box::new(Watch(Instant::now()))),
        evidence: &SampleEvidence::default(),
        entropy: &Source(key),
        policy,
        timeouts: Timeouts::default(),
    };
    block_on(client.attest(Line(stream)))
}

fn anybody() -> TrustPolicy {
    TrustPolicy::trust_on_first_use()
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
        let done = attest(&proxy, None, &policy).unwrap();
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
    let error = attest(&proxy, None, &TrustPolicy::pinned(vec![ours])).unwrap_err();
    assert!(matches!(
        error,
        AttestError::Trust(TrustError::NotPinned(_))
    ));
}

#[test]
fn reports_reach_the_ledger() {
    let (kbs, _) = kbs(LedgerMode::Commit);
    let proxy = Proxy::patient(&kbs.url());
    let done = attest(&proxy, None, &anybody()).unwrap();
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
    let next = attest(&proxy, None, &anybody()).unwrap();
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

/// A Trustee that gave the answers of `vector`: it takes the requests of one exchange, in order.
fn trustee(vector: &Value) -> (String, std::thread::JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let data: Value =
        serde_json::from_str(vector["runtime_data_canonical"].as_str().unwrap()).unwrap();
    let answers = [
        json!({"nonce": data["nonce"], "extra-params": ""}),
        json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.AA"}),
        vector["jwe"].clone(),
    ];
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            requests.push(read_request(&stream));
            let body = answer.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nSet-Cookie: kbs-session-id=42\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
        requests
    });
    (url, thread)
}

fn read_request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        reader.read_line(&mut head).unwrap();
        let line = head[start..].to_ascii_lowercase();
        if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn resource_of_an_unmodified_trustee_decrypts() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!(
        "../../libaproxy/tests/vectors/trustee-jwe.json"
    ))
    .unwrap();
    // The proxy offers P-521 and P-256, and the client prefers P-521.
    let vector = &vectors[1];
    assert_eq!(vector["curve"], "P-521");
    let (url, server) = trustee(vector);
    let proxy = Proxy::of_flavour(&url, Flavour::Kbs);
    let d = vector["d"].as_str().unwrap().trim_start_matches("0x");
    let done = attest(&proxy, Some(hex::decode(d).unwrap()), &anybody()).unwrap();
    assert_eq!(done.version, Version::V0_2_0);
    assert_eq!(hex::encode(done.secret.root_key()), vector["plaintext"]);
    assert!(done.server.is_none() && done.ledger.is_none() && done.reporter.is_none());

    let requests = server.join().unwrap();
    let (head, body) = &requests[0];
    assert!(head.starts_with("POST /kbs/v0/auth "));
    assert_eq!(body["extra-params"], "");
    let (head, body) = &requests[1];
    assert!(head.starts_with("POST /kbs/v0/attest "));
    assert!(head.to_lowercase().contains("cookie: kbs-session-id=42"));
    // What a Trustee does with it: hash the runtime data in canonical form.
    let mut bound = body["runtime-data"].clone();
    bound["additional-evidence"] = json!("");
    let canonical = serde_json::to_string(&bound).unwrap();
    assert_eq!(canonical, vector["runtime_data_canonical"]);
    let report_data = BASE64_STANDARD.encode(Sha384::digest(canonical));
    let evidence = &body["tee-evidence"]["primary_evidence"];
    assert_eq!(*evidence, json!({"svn": "1", "report_data": report_data}));
    let (head, _) = &requests[2];
    assert!(head.starts_with("GET /kbs/v0/resource/default/sample/test "));
}

#[test]
fn pins_refuse_the_plain_secret_of_an_unmodified_trustee() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!(
        "../../libaproxy/tests/vectors/trustee-jwe.json"
    ))
    .unwrap();
    let (url, _server) = trustee(&vectors[1]);
    let proxy = Proxy::of_flavour(&url, Flavour::Kbs);
    let d = vectors[1]["d"].as_str().unwrap().trim_start_matches("0x");
    let (_, ours) = kbs(LedgerMode::Off);
    let pinned = TrustPolicy::pinned(vec![ours]);
    let error = attest(&proxy, Some(hex::decode(d).unwrap()), &pinned).unwrap_err();
    assert_eq!(error, AttestError::Trust(TrustError::Unauthenticated));
}

#[test]
fn plain_kbs_protocol_works_with_kbs_test_too() {
    let (kbs, _) = kbs(LedgerMode::Off);
    let proxy = Proxy::of_flavour(&kbs.url(), Flavour::Kbs);
    let done = attest(&proxy, None, &anybody()).unwrap();
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
    let error = attest(&proxy, None, &anybody()).unwrap_err();
    let AttestError::Denied(failure) = &error else {
        panic!("{error}");
    };
    assert_eq!(failure.code.name(), "evidence-refused", "{error}");
    let gone = "http://127.0.0.1:1";
    let error = attest(&Proxy::start(gone), None, &anybody()).unwrap_err();
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
    let done = attest(&proxy, None, &anybody()).unwrap();
    assert_eq!(done.secret.root_key(), SECRET);
    block_on(done.reporter.unwrap().open(IDENTITY, 1, 1)).unwrap();

    let other = std::fs::read(vectors.join("milan-vcek.pem")).unwrap();
    let proxy = Proxy::trusting(&kbs.url(), &other);
    let error = attest(&proxy, None, &anybody()).unwrap_err().to_string();
    assert!(
        error.contains("cannot reach the attestation server"),
        "{error}"
    );
    assert!(error.contains("certificate"), "{error}");
}
