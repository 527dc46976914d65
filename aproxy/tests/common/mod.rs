//! A proxy in this process, and an SVSM that talks to it.
#![allow(dead_code, reason = "every test program uses its own part")]

pub mod client;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aproxy::backend::kbs::{Flavour, Kbs, ServerLimits};
use aproxy::peer::PeerLimits;
use aproxy::server::{self, Log};
use aproxy::transport::unix::UnixTransport;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kbs_test::jwe::{self, Jwe};
use libaproxy::frame::{decode, encode, payload_len};
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, EcPublicKey, Evidence, NegotiationRequest,
    NegotiationResponse, Param, Tee,
};
use libaproxy::v0_2::VolumeName;
use libaproxy::{HEADER_LEN, Version};
use p521::SecretKey;
use p521::elliptic_curve::Generate;
use p521::elliptic_curve::sec1::ToSec1Point;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha512};

/// Long enough that only a hang exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The resource that is asked for unless a test says otherwise.
const DEFAULT: &str = "default/sample/test";

/// Lines of a log, to be waited for.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    pub fn push(&self, line: &str) {
        self.0.0.lock().unwrap().push(line.to_owned());
        self.0.1.notify_all();
    }

    /// Waits until `count` lines contain `words` and returns them. The log may come after the answer.
    #[track_caller]
    pub fn expect(&self, words: &str, count: usize) -> Vec<String> {
        let matching = |lines: &Vec<String>| -> Vec<String> {
            let hits = lines.iter().filter(|line| line.contains(words));
            hits.cloned().collect()
        };
        let lines = self.0.0.lock().unwrap();
        let wait = self
            .0
            .1
            .wait_timeout_while(lines, PATIENCE, |lines| matching(lines).len() < count);
        let lines = wait.unwrap().0;
        let hits = matching(&lines);
        assert_eq!(hits.len(), count, "{words:?} in {lines:#?}");
        hits
    }
}

pub struct Proxy {
    path: PathBuf,
    pub lines: Lines,
    _dir: tempfile::TempDir,
}

impl Proxy {
    /// A proxy for the server at `url` whose limits are short enough for tests.
    pub fn start(url: &str) -> Self {
        let peer = PeerLimits {
            message: Duration::from_millis(500),
            evidence: Duration::from_secs(2),
            quiet: Duration::from_millis(50),
        };
        let server = ServerLimits {
            connect: Duration::from_secs(2),
            challenge: Duration::from_secs(2),
            decision: Duration::from_secs(3),
            report: Duration::from_secs(3),
        };
        Self::with_limits(url, Flavour::KbsTest, peer, server)
    }

    /// A proxy whose limits no loaded machine exceeds by accident.
    pub fn patient(url: &str) -> Self {
        Self::of_flavour(url, Flavour::KbsTest)
    }

    /// The same for a server of that kind.
    pub fn of_flavour(url: &str, flavour: Flavour) -> Self {
        Self::with_limits(url, flavour, PeerLimits::default(), ServerLimits::default())
    }

    /// The same for another resource than the usual one.
    pub fn for_resource(url: &str, flavour: Flavour, resource: &str) -> Self {
        let limits = (PeerLimits::default(), ServerLimits::default());
        Self::with_roots(url, flavour, resource, limits, None)
    }

    /// A proxy for an https server that trusts the certificates in `roots`.
    pub fn trusting(url: &str, roots: &[u8]) -> Self {
        let limits = (PeerLimits::default(), ServerLimits::default());
        Self::with_roots(url, Flavour::KbsTest, DEFAULT, limits, Some(roots))
    }

    fn with_limits(url: &str, flavour: Flavour, peer: PeerLimits, server: ServerLimits) -> Self {
        Self::with_roots(url, flavour, DEFAULT, (peer, server), None)
    }

    fn with_roots(
        url: &str,
        flavour: Flavour,
        resource: &str,
        (peer, server): (PeerLimits, ServerLimits),
        roots: Option<&[u8]>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let transport = UnixTransport::bind(&path, false).unwrap();
        let resource = VolumeName::new(resource).unwrap();
        let backend = Kbs::new(url, flavour, resource, roots, server).unwrap();
        let lines = Lines::default();
        let sink = lines.clone();
        let log: Log = Arc::new(move |line| sink.push(line));
        std::thread::spawn(move || server::run(&transport, Arc::new(backend), peer, log));
        Self {
            path,
            lines,
            _dir: dir,
        }
    }

    pub fn connect(&self) -> Svsm {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Svsm { stream }
    }
}

/// The SVSM's end of the line.
pub struct Svsm {
    pub stream: UnixStream,
}

impl Svsm {
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends text as one message, whether or not it is JSON.
    pub fn send_text(&mut self, text: &str) {
        self.send_raw(&(text.len() as u64).to_le_bytes());
        self.send_raw(text.as_bytes());
    }

    pub fn send<M: Serialize>(&mut self, message: &M) {
        self.send_raw(&encode(message).unwrap());
    }

    pub fn receive<M: DeserializeOwned>(&mut self) -> M {
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header).unwrap();
        let mut json = vec![0; payload_len(header).unwrap()];
        self.stream.read_exact(&mut json).unwrap();
        decode(&json).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&json)))
    }

    /// The `error` member of the next message.
    pub fn receive_error(&mut self) -> String {
        let answer: Value = self.receive();
        answer["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn expect_eof(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }

    pub fn negotiate(&mut self, tee: Tee) -> NegotiationResponse {
        self.send(&NegotiationRequest {
            version: Version::V0_1_0,
            tee,
        });
        self.receive()
    }

    /// A whole session with sample evidence: the decrypted secret, or the error.
    pub fn attest(&mut self, measurement: Option<&str>) -> Result<Vec<u8>, String> {
        let negotiation = self.negotiate(Tee::Sample);
        let key = Key::new();
        self.send(&key.sample_request(&negotiation, measurement));
        let answer: AttestationResponse = self.receive();
        match answer.success {
            true => Ok(key.decrypt(answer)),
            false => Err(answer.error.unwrap().to_string()),
        }
    }
}

/// The SVSM's ephemeral key.
pub struct Key(pub SecretKey);

impl Key {
    pub fn new() -> Self {
        Self(SecretKey::try_generate_from_rng(&mut getrandom::SysRng).unwrap())
    }

    pub fn public(&self) -> EcPublicKey {
        let sec1 = self.0.public_key().to_sec1_point(false);
        let (x, y) = sec1.as_bytes()[1..].split_at(66);
        EcPublicKey {
            x: x.into(),
            y: y.into(),
        }
    }

    pub fn report_data(&self, negotiation: &NegotiationResponse) -> Vec<u8> {
        let key = self.public();
        let mut hash = Sha512::new();
        for param in &negotiation.params {
            match param {
                Param::EcPublicKeyBytes => hash.update([&key.x[..], &key.y[..]].concat()),
                Param::Challenge => hash.update(&*negotiation.challenge),
            }
        }
        hash.finalize().to_vec()
    }

    pub fn request(
        &self,
        negotiation: &NegotiationResponse,
        evidence: Evidence,
    ) -> AttestationRequest {
        AttestationRequest {
            tee: evidence.tee(),
            evidence,
            challenge: negotiation.challenge.clone(),
            key: self.public(),
        }
    }

    pub fn sample_request(
        &self,
        negotiation: &NegotiationResponse,
        measurement: Option<&str>,
    ) -> AttestationRequest {
        let evidence = Evidence::Sample {
            svn: "1".into(),
            report_data: self.report_data(negotiation).into(),
            measurement: measurement.map(Into::into),
        };
        self.request(negotiation, evidence)
    }

    /// Decrypts the secret with the parts as they arrived; the AAD is not computed anew.
    pub fn decrypt(&self, answer: AttestationResponse) -> Vec<u8> {
        let parts = answer.decryption.unwrap();
        let jwe = Jwe {
            protected: String::from_utf8(parts.aad.0).unwrap(),
            encrypted_key: BASE64_URL_SAFE_NO_PAD.encode(&parts.wrapped_cek),
            iv: BASE64_URL_SAFE_NO_PAD.encode(&parts.iv),
            ciphertext: BASE64_URL_SAFE_NO_PAD.encode(answer.secret.unwrap()),
            tag: BASE64_URL_SAFE_NO_PAD.encode(&parts.tag),
        };
        jwe::open(&self.0, &jwe).unwrap().to_vec()
    }
}

/// Reads an HTTP request: its head with the empty line, and its body.
pub fn read_request(stream: &TcpStream) -> (String, Vec<u8>) {
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
    (head, body)
}
