//! The KBS attestation protocol, version 0.4.0, over HTTP.
//!
//! Three requests make one exchange: `/kbs/v0/auth` for the challenge, `/kbs/v0/attest` with the
//! evidence, and the resource. A cookie connects them; each exchange has its own cookie jar, so
//! exchanges cannot mix.
//!
//! The protected header of the JWE is passed on as the server wrote it and never serialised again: its
//! ASCII bytes are the additional authenticated data of the cipher (RFC 7516, section 5.1, step 14).

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use kbs_types::{Attestation, CompositeEvidence, ErrorInformation, RuntimeData, TeePubKey};
use libaproxy::v0_1::{AttestationRequest, Decryption, EcPublicKey, Evidence, Param, Tee, Token};
use libaproxy::{Base64, Text};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::{Backend, BackendError, Exchange, Released};

const PROTOCOL_VERSION: &str = "0.4.0";
const PATH_AUTH: &str = "/kbs/v0/auth";
const PATH_ATTEST: &str = "/kbs/v0/attest";
const PATH_RESOURCE: &str = "/kbs/v0/resource/default/sample/test";

const CURVE: &str = "P-521";
const ALG: &str = "ECDH-ES+A256KW";
const ENC: &str = "A256GCM";

/// Longest answer of the server. Token and JWE have to fit one message to the SVSM together.
const MAX_ANSWER: u64 = 24 * 1024;

/// Longest challenge in bytes; servers send 16 or 32.
const MAX_CHALLENGE: usize = 256;

/// Which server is at the other end; they differ in the evidence they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `kbs-test`: SNP reports are sent raw, sample evidence may carry a measurement.
    KbsTest,
    /// Any KBS of protocol 0.4.0. Evidence of version 0.1.0 lacks the binding such servers expect, so
    /// they refuse it; their words reach the log.
    Kbs,
}

/// How long the server may take.
///
/// An SVSM waits 10 s for the challenge and 60 s for the decision, which takes two requests. The
/// defaults stay below, so that it hears the cause and not just silence.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// For a connection.
    pub connect: Duration,
    /// For the challenge, the connection included.
    pub challenge: Duration,
    /// For each of the later requests: the server may have to fetch certificates to verify evidence.
    pub decision: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            challenge: Duration::from_secs(8),
            decision: Duration::from_secs(25),
        }
    }
}

/// Why a URL cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// Not a URL.
    #[error("not a URL: give something like http://127.0.0.1:8080")]
    Malformed,
    /// A scheme other than http.
    #[error("scheme {0} is not supported by this version: give an http:// URL")]
    Scheme(String),
    /// More than scheme, host, port and path.
    #[error("a server's URL has no query: give something like http://127.0.0.1:8080")]
    Query,
}

/// A KBS at some URL.
pub struct Kbs {
    /// Without a trailing slash.
    url: String,
    flavour: Flavour,
    limits: ServerLimits,
}

impl Kbs {
    /// The server at `url`, which must be an `http` URL without a query.
    pub fn new(url: &str, flavour: Flavour, limits: ServerLimits) -> Result<Self, UrlError> {
        let parsed: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some(other) => return Err(UrlError::Scheme(other.to_owned())),
            None => return Err(UrlError::Malformed),
        }
        if parsed.host().is_none_or(str::is_empty) {
            return Err(UrlError::Malformed);
        }
        if parsed.query().is_some() || url.contains('#') {
            return Err(UrlError::Query);
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            flavour,
            limits,
        })
    }

    /// A client with an empty cookie jar.
    fn client(&self) -> Client {
        let config = Agent::config_builder()
            .timeout_connect(Some(self.limits.connect))
            .http_status_as_error(false)
            // A redirect would take the evidence to a server nobody named.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The server is the one on the command line, whatever the environment says.
            .proxy(None)
            .build();
        Client {
            agent: config.new_agent(),
            url: self.url.clone(),
            limits: self.limits,
        }
    }
}

impl Backend for Kbs {
    fn negotiate(&self, tee: Tee) -> Result<Box<dyn Exchange>, BackendError> {
        let client = self.client();
        let request = json!({
            "version": PROTOCOL_VERSION,
            "tee": tee.name(),
            "extra-params": "",
        });
        let challenge: kbs_types::Challenge = client.post(PATH_AUTH, &request)?;
        let bytes = BASE64_STANDARD
            .decode(&challenge.nonce)
            .ok()
            .filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_CHALLENGE)
            .ok_or_else(|| invalid(PATH_AUTH, "the nonce is not base64 of 1 to 256 bytes"))?;
        Ok(Box::new(KbsExchange {
            client,
            flavour: self.flavour,
            nonce: challenge.nonce,
            challenge: bytes,
        }))
    }
}

struct KbsExchange {
    client: Client,
    flavour: Flavour,
    /// As the server sent it; it wants the same characters back.
    nonce: String,
    challenge: Vec<u8>,
}

impl Exchange for KbsExchange {
    fn challenge(&self) -> &[u8] {
        &self.challenge
    }

    fn params(&self) -> Vec<Param> {
        vec![Param::EcPublicKeyBytes, Param::Challenge]
    }

    fn attest(self: Box<Self>, request: &AttestationRequest) -> Result<Released, BackendError> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let body = Attestation {
            init_data: None,
            runtime_data: RuntimeData {
                nonce: self.nonce.clone(),
                tee_pubkey: TeePubKey::EC {
                    crv: CURVE.to_owned(),
                    alg: ALG.to_owned(),
                    x: BASE64_URL_SAFE_NO_PAD.encode(&request.key.x),
                    y: BASE64_URL_SAFE_NO_PAD.encode(&request.key.y),
                },
            },
            tee_evidence: CompositeEvidence {
                primary_evidence: primary_evidence(&request.evidence, self.flavour),
                additional_evidence: String::new(),
            },
        };
        let Answer { token } = self.client.post(PATH_ATTEST, &body)?;
        let jwe: Jwe = self.client.get(PATH_RESOURCE)?;
        jwe.release(token)
            .map_err(|cause| invalid(PATH_RESOURCE, cause))
    }
}

fn primary_evidence(evidence: &Evidence, flavour: Flavour) -> Value {
    match evidence {
        Evidence::Snp { report, certs_buf } => json!({
            "snp-report": BASE64_STANDARD.encode(report),
            "certs-buf": certs_buf.as_ref().map(|certs| BASE64_STANDARD.encode(certs)),
        }),
        Evidence::Sample {
            svn,
            report_data,
            measurement,
        } => {
            let mut value = json!({
                "svn": svn,
                "report_data": BASE64_STANDARD.encode(report_data),
            });
            if let (Flavour::KbsTest, Some(measurement)) = (flavour, measurement) {
                value["measurement"] = json!(measurement);
            }
            value
        }
    }
}

/// The resource, a flattened JWE (RFC 7516, section 7.2.2); each member unpadded base64url.
#[derive(Deserialize)]
struct Jwe {
    protected: String,
    encrypted_key: String,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    epk: Epk,
}

#[derive(Deserialize)]
struct Epk {
    crv: String,
    x: String,
    y: String,
}

impl Jwe {
    /// Takes the JWE apart for version 0.1.0, which has no names of algorithms: they must be the ones
    /// that version implies.
    fn release(self, token: String) -> Result<Released, &'static str> {
        let header = decode(&self.protected).ok_or("protected is not base64url")?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|_| "the protected header lacks alg, enc or an EC epk")?;
        if header.alg != ALG || header.enc != ENC || header.epk.crv != CURVE {
            return Err("the secret is not encrypted with ECDH-ES+A256KW, A256GCM and P-521");
        }
        Ok(Released {
            ciphertext: decode(&self.ciphertext).ok_or("ciphertext is not base64url")?,
            decryption: Decryption {
                epk: EcPublicKey {
                    x: decode(&header.epk.x).ok_or("epk.x is not base64url")?,
                    y: decode(&header.epk.y).ok_or("epk.y is not base64url")?,
                },
                wrapped_cek: decode(&self.encrypted_key).ok_or("encrypted_key is not base64url")?,
                aad: Base64(self.protected.into_bytes()),
                iv: decode(&self.iv).ok_or("iv is not base64url")?,
                tag: decode(&self.tag).ok_or("tag is not base64url")?,
            },
            token: Token::Jwt(token),
        })
    }
}

fn decode(text: &str) -> Option<Base64> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok().map(Base64)
}

/// HTTP with the cookies of one exchange.
struct Client {
    agent: Agent,
    url: String,
    limits: ServerLimits,
}

impl Client {
    fn post<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &impl serde::Serialize,
    ) -> Result<T, BackendError> {
        let request = self.agent.post(self.address(path));
        let answer = request
            .config()
            .timeout_global(Some(self.limit(path)))
            .build()
            .send_json(body);
        self.read(path, answer)
    }

    fn get<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, BackendError> {
        let request = self.agent.get(self.address(path));
        let answer = request
            .config()
            .timeout_global(Some(self.limit(path)))
            .build()
            .call();
        self.read(path, answer)
    }

    /// For one request with its complete answer.
    fn limit(&self, path: &'static str) -> Duration {
        match path {
            PATH_AUTH => self.limits.challenge,
            _ => self.limits.decision,
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &'static str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, BackendError> {
        let mut answer = answer.map_err(|e| self.failed(path, e))?;
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec();
        if !status.is_success() {
            // A refusal stays a refusal even if its explanation cannot be read.
            return Err(refusal(path, status.as_u16(), &body.unwrap_or_default()));
        }
        let body = body.map_err(|e| self.failed(path, e))?;
        serde_json::from_slice(&body).map_err(|e| invalid(path, &e.to_string()))
    }

    fn failed(&self, path: &'static str, error: ureq::Error) -> BackendError {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                self.unreachable("no connection in time")
            }
            ureq::Error::Timeout(_) => BackendError::Timeout {
                path,
                limit: self.limit(path),
            },
            ureq::Error::Io(e) => self.unreachable(&e.to_string()),
            ureq::Error::HostNotFound => self.unreachable("no such host"),
            ureq::Error::ConnectionFailed => self.unreachable("connection failed"),
            other => invalid(path, &other.to_string()),
        }
    }

    fn unreachable(&self, cause: &str) -> BackendError {
        BackendError::Unreachable {
            url: self.url.clone(),
            cause: Text::new(cause),
        }
    }
}

fn refusal(path: &'static str, status: u16, body: &[u8]) -> BackendError {
    match serde_json::from_slice::<ErrorInformation>(body) {
        Ok(information) => BackendError::Refused {
            path,
            status,
            kind: Text::new(
                information
                    .error_type
                    .rsplit('/')
                    .next()
                    .unwrap_or_default(),
            ),
            detail: Text::new(&information.detail),
        },
        Err(_) => BackendError::Status { path, status },
    }
}

fn invalid(path: &'static str, cause: &str) -> BackendError {
    BackendError::Invalid {
        path,
        cause: Text::new(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(url: &str) -> Result<String, UrlError> {
        Kbs::new(url, Flavour::KbsTest, ServerLimits::default()).map(|kbs| kbs.url)
    }

    #[test]
    fn url_is_checked_at_start() {
        assert_eq!(
            url("http://127.0.0.1:8080/").unwrap(),
            "http://127.0.0.1:8080"
        );
        assert_eq!(url("http://[::1]:1/p").unwrap(), "http://[::1]:1/p");
        assert_eq!(url("https://h"), Err(UrlError::Scheme("https".into())));
        for bad in ["", "127.0.0.1:8080", "/path", "http://", "http://h h"] {
            assert_eq!(url(bad), Err(UrlError::Malformed), "{bad}");
        }
        assert_eq!(url("http://h/?q=1"), Err(UrlError::Query));
        assert_eq!(url("http://h/#f"), Err(UrlError::Query));
    }

    #[test]
    fn evidence_has_the_form_the_server_reads() {
        let snp = Evidence::Snp {
            report: vec![3, 0, 0, 0].into(),
            certs_buf: None,
        };
        assert_eq!(
            primary_evidence(&snp, Flavour::KbsTest),
            json!({"snp-report": "AwAAAA==", "certs-buf": null})
        );
        let sample = Evidence::Sample {
            svn: "1".into(),
            report_data: vec![1, 2].into(),
            measurement: Some("ab".into()),
        };
        assert_eq!(
            primary_evidence(&sample, Flavour::KbsTest),
            json!({"svn": "1", "report_data": "AQI=", "measurement": "ab"})
        );
        assert_eq!(
            primary_evidence(&sample, Flavour::Kbs),
            json!({"svn": "1", "report_data": "AQI="})
        );
    }

    fn jwe(header: &str) -> Jwe {
        Jwe {
            protected: BASE64_URL_SAFE_NO_PAD.encode(header),
            encrypted_key: "AQ".into(),
            iv: "Ag".into(),
            ciphertext: "Aw".into(),
            tag: "BA".into(),
        }
    }

    #[test]
    fn protected_header_is_passed_on_as_it_came() {
        let header = r#"{ "epk":{"y":"Ag","x":"AQ","kty":"EC","crv":"P-521"},
            "zip":"?", "enc":"A256GCM","alg":"ECDH-ES+A256KW"}"#;
        let released = jwe(header).release("t".into()).unwrap();
        let protected = BASE64_URL_SAFE_NO_PAD.encode(header);
        assert_eq!(&*released.decryption.aad, protected.as_bytes());
        assert_eq!(*released.decryption.epk.x, [1]);
        assert_eq!(*released.decryption.epk.y, [2]);
    }

    #[test]
    fn other_algorithms_are_refused() {
        let good = r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-521","kty":"EC","x":"AQ","y":"Ag"}}"#;
        assert!(jwe(good).release(String::new()).is_ok());
        for (from, to) in [
            ("ECDH-ES+A256KW", "RSA-OAEP"),
            ("A256GCM", "A128GCM"),
            ("P-521", "P-256"),
            ("epk", "other"),
            ("\"AQ\"", "\"A+\""),
        ] {
            assert!(jwe(&good.replace(from, to)).release(String::new()).is_err());
        }
    }

    #[test]
    fn refusal_is_told_in_the_words_of_the_server() {
        let body = br#"{"type":"https://example.org/errors/PolicyDeny","detail":"no\nway"}"#;
        assert_eq!(
            refusal(PATH_AUTH, 401, body).to_string(),
            "the attestation server refused /kbs/v0/auth (401 PolicyDeny): no?way"
        );
        assert_eq!(
            refusal(PATH_AUTH, 500, b"<html>").to_string(),
            "the attestation server answered /kbs/v0/auth with status 500"
        );
    }
}
