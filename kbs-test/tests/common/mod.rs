//! A KBS client, and an SVSM's side of exchange 0.2.0 made of `libaproxy` and public functions.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use kbs_test::jwe::{self, Jwe};
use kbs_test::static_key;
use libaproxy::v0_1::{Evidence, Tee};
use libaproxy::v0_2::{self, Nonce, PublicKey, Release, Transcript};
use p384::SecretKey;
use p384::elliptic_curve::Generate;
use p384::elliptic_curve::sec1::ToSec1Point;
use serde_json::{Value, json};
use sha2::{Digest, Sha384};

pub const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub const DEFAULT: &str = "default/sample/test";

pub type Answer = (u16, Value);

/// An HTTP client with a cookie jar of its own.
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .proxy(None)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("{url}/kbs/v0"),
        }
    }

    /// The same session with a server that has started again elsewhere.
    pub fn moved(mut self, url: &str, cookie: &str) -> Self {
        self = Self {
            base: format!("{url}/kbs/v0"),
            ..Self::new(url)
        };
        let uri = url.parse().unwrap();
        let cookie = ureq::Cookie::parse(cookie.to_owned(), &uri).unwrap();
        let mut jar = self.agent.cookie_jar_lock();
        jar.insert(cookie, &uri).unwrap();
        jar.release();
        self
    }

    /// The session cookie as a `Set-Cookie` value.
    pub fn cookie(&self) -> String {
        let jar = self.agent.cookie_jar_lock();
        let cookie = jar.iter().find(|c| c.name() == "kbs-session-id").unwrap();
        format!("kbs-session-id={}; Path=/kbs/v0", cookie.value())
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        let url = format!("{}{path}", self.base);
        answer(self.agent.post(url).send(body).unwrap())
    }

    /// The error where the server goes away instead of answering.
    pub fn try_post(&self, path: &str, body: &str) -> Result<Answer, ureq::Error> {
        let url = format!("{}{path}", self.base);
        self.agent.post(url).send(body).map(answer)
    }

    pub fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.base);
        answer(self.agent.get(url).call().unwrap())
    }

    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let url = format!("{}{path}", self.base);
        self.agent.get(url).call().map(answer)
    }

    pub fn auth(&self, tee: &str) -> String {
        self.auth_with(tee, "")["nonce"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn auth_with(&self, tee: &str, extra_params: &str) -> Value {
        let request = json!({"version": "0.4.0", "tee": tee, "extra-params": extra_params});
        let (status, body) = self.post("/auth", &request.to_string());
        assert_eq!(status, 200, "{body}");
        body
    }

    pub fn attest(&self, body: &Value) -> Answer {
        self.post("/attest", &body.to_string())
    }

    pub fn resource(&self) -> Answer {
        self.get("/resource/default/sample/test")
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap())
}

pub fn detail(answer: &Answer) -> &str {
    let uri = answer.1["type"].as_str().unwrap();
    assert!(uri.starts_with("https://github.com/confidential-containers/kbs/errors/"));
    answer.1["detail"].as_str().unwrap()
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.0, status, "{answer:?}");
    assert!(detail(answer).contains(words), "{answer:?}");
}

/// The SVSM of one boot.
pub struct Svsm {
    pub client: Client,
    key: SecretKey,
    nonce: Nonce,
    tee: Tee,
    evidence: Option<Evidence>,
    pub token: Option<String>,
    pub server_key: Option<Vec<u8>>,
    session_key: [u8; 32],
    seq: u64,
}

impl Svsm {
    /// Asks for a challenge of exchange 0.2.0.
    pub fn start(url: &str, tee: Tee) -> Self {
        let client = Client::new(url);
        let answer = client.auth_with(tee.name(), r#"{"svsm":"0.2.0"}"#);
        let extra: Value = serde_json::from_str(answer["extra-params"].as_str().unwrap()).unwrap();
        assert_eq!(
            extra,
            json!({"svsm": "0.2.0", "curves": ["P-384", "P-521", "P-256"]})
        );
        Self {
            client,
            key: SecretKey::try_generate_from_rng(&mut getrandom::SysRng).unwrap(),
            nonce: Nonce::new(answer["nonce"].as_str().unwrap()).unwrap(),
            tee,
            evidence: None,
            token: None,
            server_key: None,
            session_key: [0; 32],
            seq: 0,
        }
    }

    pub fn public(&self) -> PublicKey {
        let sec1 = self.key.public_key().to_sec1_point(false);
        let (x, y) = sec1.as_bytes()[1..].split_at(48);
        PublicKey {
            crv: v0_2::Curve::P384,
            x: x.into(),
            y: y.into(),
        }
    }

    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// What the evidence has to carry.
    pub fn digest(&self) -> [u8; 48] {
        Sha384::digest(v0_2::runtime_data(&self.nonce, &self.public())).into()
    }

    /// Sends this evidence.
    pub fn send(&mut self, evidence: Evidence) -> Answer {
        let primary = match &evidence {
            Evidence::Snp { report, certs_buf } => json!({
                "snp-report": BASE64_STANDARD.encode(report),
                "certs-buf": certs_buf.as_ref().map(|c| BASE64_STANDARD.encode(c)),
            }),
            Evidence::Sample {
                report_data,
                measurement,
                ..
            } => {
                let mut json =
                    json!({"svn": "1", "report_data": BASE64_STANDARD.encode(report_data)});
                if let Some(measurement) = measurement {
                    json["measurement"] = (**measurement).into();
                }
                json
            }
        };
        let key = self.public();
        let answer = self.client.attest(&json!({
            "runtime-data": {"nonce": &*self.nonce, "tee-pubkey": {"kty": "EC", "crv": "P-384",
                "alg": "ECDH-ES+A256KW", "x": BASE64_URL_SAFE_NO_PAD.encode(&key.x),
                "y": BASE64_URL_SAFE_NO_PAD.encode(&key.y)}},
            "tee-evidence": {"primary_evidence": primary, "additional_evidence": ""}}));
        self.evidence = Some(evidence);
        self.token = answer.1["token"].as_str().map(str::to_owned);
        answer
    }

    pub fn send_sample(&mut self, measurement: Option<&str>) -> Answer {
        let evidence = Evidence::Sample {
            svn: "1".into(),
            report_data: self.digest().to_vec().into(),
            measurement: measurement.map(Into::into),
        };
        self.send(evidence)
    }

    /// Fetches the resource, verifies and decrypts it.
    pub fn fetch(&mut self, volume: &str) -> Result<Release, Answer> {
        let answer = self.client.get(&format!("/resource/{volume}"));
        match answer.0 {
            200 => Ok(self.open(&answer.1)),
            _ => Err(answer),
        }
    }

    fn open(&mut self, body: &Value) -> Release {
        let sealed: Jwe = serde_json::from_value(body.clone()).unwrap();
        let parts: v0_2::Jwe = serde_json::from_value(body.clone()).unwrap();
        let release = Release::parse(&jwe::open(&self.key, &sealed).unwrap()).unwrap();
        let mut digest = Sha384::new();
        let evidence = self.evidence.as_ref().unwrap();
        v0_2::evidence_digest_input(evidence, |bytes| digest.update(bytes));
        let mut signed = Vec::new();
        Transcript {
            tee: self.tee,
            nonce: &self.nonce,
            key: &self.public(),
            evidence_digest: &digest.finalize().into(),
            volume: &release.volume,
            jwe: &parts.parts().unwrap(),
        }
        .feed(|bytes| signed.extend(bytes));
        let decode = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        let key = decode(&body["svsm"]["key"]);
        let signature = decode(&body["svsm"]["signature"]);
        assert_eq!(static_key::verify(&key, &signed, &signature), Ok(true));
        self.server_key = Some(key);
        self.session_key = *release.session_key.0;
        release
    }

    /// A whole boot up to the secret, with sample evidence.
    pub fn boot(url: &str, volume: &str) -> Result<(Self, Release), Answer> {
        let mut svsm = Self::start(url, Tee::Sample);
        let answer = svsm.send_sample(None);
        if answer.0 != 200 {
            return Err(answer);
        }
        let release = svsm.fetch(volume)?;
        Ok((svsm, release))
    }

    /// The body of the next report.
    pub fn report(&mut self, kind: &str, disk: u8, epoch: u64, counter: u64) -> String {
        self.seq += 1;
        let identity = BASE64_STANDARD.encode([disk; 32]);
        json!({"seq": self.seq, "identity": identity, "state": "formatted", "epoch": epoch,
            "counter": counter, "kind": kind})
        .to_string()
    }

    /// A report as it travels.
    pub fn seal(&self, body: &str) -> String {
        let key = kbs_test::ledger::SessionKey::new(self.session_key);
        let mac = key.authenticate_report(body.as_bytes());
        let (body, mac) = (BASE64_STANDARD.encode(body), BASE64_STANDARD.encode(mac));
        json!({"body": body, "mac": mac}).to_string()
    }

    /// Sends a report and verifies its acknowledgement.
    pub fn deliver(&self, body: &str) -> Result<Value, Answer> {
        let answer = self.client.post("/svsm/report", &self.seal(body));
        if answer.0 != 200 {
            return Err(answer);
        }
        let decode = |name: &str| BASE64_STANDARD.decode(answer.1[name].as_str().unwrap());
        let (ack, mac) = (decode("body").unwrap(), decode("mac").unwrap());
        let key = kbs_test::ledger::SessionKey::new(self.session_key);
        assert_eq!(key.authenticate_ack(&ack), mac);
        Ok(serde_json::from_slice(&ack).unwrap())
    }
}
