//! The KBS attestation protocol, version 0.4.0, over HTTP.
//!
//! Three requests make one exchange: `/kbs/v0/auth` for the challenge, `/kbs/v0/attest` with the
//! evidence, and the resource. A cookie connects them; each exchange has its own cookie jar, so
//! exchanges cannot mix. Reports, which kbs-test takes, follow under the same cookie.
//!
//! The protected header of the JWE is passed on as the server wrote it and never serialised again: its
//! ASCII bytes are the additional authenticated data of the cipher (RFC 7516, section 5.1, step 14).
//!
//! Requests that change nothing when they come twice are repeated while the server is away, within
//! the time the first one had. Evidence is sent once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use kbs_types::{Attestation, CompositeEvidence, RuntimeData, TeePubKey};
use libaproxy::v0_2::{
    Authentication, Code, Curve, Curves, Evidence, Jwe, Nonce, PublicKey, Sealed, Tee, Token,
    VolumeName,
};
use libaproxy::{Text, Version};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::trustee;
use super::{Backend, BackendError, Exchange, Released};

const PROTOCOL_VERSION: &str = "0.4.0";
const PATH_AUTH: &str = "/kbs/v0/auth";
pub(super) const PATH_ATTEST: &str = "/kbs/v0/attest";
pub(super) const PATH_RESOURCE: &str = "/kbs/v0/resource";
pub(super) const PATH_REPORT: &str = "/kbs/v0/svsm/report";

const ALG: &str = "ECDH-ES+A256KW";

/// Longest answer of the server. Token and JWE have to fit one message to the SVSM together.
const MAX_ANSWER: u64 = 24 * 1024;

/// How often a request that changes nothing is sent.
const TRIES: u32 = 4;

/// Pause before the first repetition; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Which server is at the other end; they differ in the evidence they read and in what they know
/// beyond the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `kbs-test`: SNP reports are sent raw, sample evidence may carry a measurement, and the server
    /// can sign and takes reports.
    KbsTest,
    /// Any KBS of protocol 0.4.0, such as Trustee: evidence in Trustee's JSON form, P-521 and P-256.
    Kbs,
}

/// How long the server may take.
///
/// An SVSM waits 10 s for the challenge, 60 s for the decision, which takes two requests, and 30 s for
/// the answer to a report. The
/// defaults stay below, so that it hears the cause and not just silence.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// For a connection.
    pub connect: Duration,
    /// For the challenge, the connection included.
    pub challenge: Duration,
    /// For each of the later requests: the server may have to fetch certificates to verify evidence.
    pub decision: Duration,
    /// For a report.
    pub report: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            challenge: Duration::from_secs(8),
            decision: Duration::from_secs(25),
            report: Duration::from_secs(20),
        }
    }
}

/// Why a server cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServerError {
    /// Not a URL.
    #[error("not a URL: give something like http://127.0.0.1:8080")]
    Malformed,
    /// A scheme that is not spoken.
    #[error("scheme {0} is not supported: give an http:// or https:// URL")]
    Scheme(String),
    /// More than scheme, host, port and path.
    #[error("a server's URL has no query: give something like http://127.0.0.1:8080")]
    Query,
    /// TLS, and nothing to verify the server with.
    #[error("an https:// URL needs --ca FILE with the certificates to trust, in PEM form")]
    NoRoots,
    /// Certificates, and no TLS.
    #[error("--ca has no use with an http:// URL: give an https:// URL")]
    NoTls,
    /// Not certificates.
    #[error("the file for --ca has no certificate in PEM form")]
    Pem,
}

/// A KBS at some URL.
pub struct Kbs {
    /// Without a trailing slash.
    url: String,
    flavour: Flavour,
    resource: VolumeName,
    limits: ServerLimits,
    tls: Option<TlsConfig>,
}

impl Kbs {
    /// The server at `url`, which must be an `http` or `https` URL without a query, from which the
    /// secret `resource` is fetched. `roots` are the certificates to trust, in PEM form; they are
    /// needed for `https`.
    pub fn new(
        url: &str,
        flavour: Flavour,
        resource: VolumeName,
        roots: Option<&[u8]>,
        limits: ServerLimits,
    ) -> Result<Self, ServerError> {
        let parsed: Uri = url.parse().map_err(|_| ServerError::Malformed)?;
        if parsed.host().is_none_or(str::is_empty) {
            return Err(ServerError::Malformed);
        }
        if parsed.query().is_some() || url.contains('#') {
            return Err(ServerError::Query);
        }
        let tls = match (parsed.scheme_str(), roots) {
            (Some("http"), None) => None,
            (Some("http"), Some(_)) => return Err(ServerError::NoTls),
            (Some("https"), Some(roots)) => Some(tls(roots)?),
            (Some("https"), None) => return Err(ServerError::NoRoots),
            (Some(other), _) => return Err(ServerError::Scheme(other.to_owned())),
            (None, _) => return Err(ServerError::Malformed),
        };
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            flavour,
            resource,
            limits,
            tls,
        })
    }

    /// A client with an empty cookie jar.
    fn client(&self) -> Client {
        let mut config = Agent::config_builder();
        if let Some(tls) = &self.tls {
            config = config.tls_config(tls.clone());
        }
        let config = config
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

/// Verification against `roots` and nothing else.
fn tls(roots: &[u8]) -> Result<TlsConfig, ServerError> {
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(roots)
        .map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Ok(certificate),
            _ => Err(ServerError::Pem),
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(ServerError::Pem);
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

impl Backend for Kbs {
    fn begin(&self, tee: Tee, version: Version) -> Result<Box<dyn Exchange>, BackendError> {
        let client = self.client();
        let offers = self.flavour == Flavour::KbsTest && version == Version::V0_2_0;
        let request = json!({
            "version": PROTOCOL_VERSION,
            "tee": tee.name(),
            "extra-params": if offers { r#"{"svsm":"0.2.0"}"# } else { "" },
        });
        let challenge: kbs_types::Challenge =
            client.repeat(|left| client.post(PATH_AUTH, &request, left), PATH_AUTH)?;
        let nonce =
            Nonce::new(&challenge.nonce).map_err(|error| invalid(PATH_AUTH, &error.to_string()))?;
        let curves = match self.flavour {
            Flavour::Kbs => Curves::new([Curve::P521, Curve::P256]),
            Flavour::KbsTest => offered(&challenge.extra_params),
        };
        Ok(Box::new(KbsExchange {
            client,
            flavour: self.flavour,
            resource: self.resource.clone(),
            nonce,
            curves,
        }))
    }
}

/// The curves in the extra parameters of a challenge: a JSON text in a string. A server that names
/// none is of version 0.1.0.
fn offered(extra_params: &Value) -> Curves {
    #[derive(Deserialize)]
    struct Extra {
        curves: Curves,
    }
    extra_params
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .map_or_else(|| Curves::new([Curve::P521]), |extra: Extra| extra.curves)
}

struct KbsExchange {
    client: Client,
    flavour: Flavour,
    resource: VolumeName,
    /// As the server sent it; it wants the same characters back.
    nonce: Nonce,
    curves: Curves,
}

/// The resource: a flattened JWE, and what kbs-test adds.
#[derive(Deserialize)]
struct Resource {
    #[serde(flatten)]
    jwe: Jwe,
    #[serde(default)]
    svsm: Option<Authentication>,
}

impl Exchange for KbsExchange {
    fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    fn curves(&self) -> &Curves {
        &self.curves
    }

    fn attest(&mut self, evidence: &Evidence, key: &PublicKey) -> Result<Released, BackendError> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let body = Attestation {
            init_data: None,
            runtime_data: RuntimeData {
                nonce: self.nonce.to_string(),
                tee_pubkey: TeePubKey::EC {
                    crv: key.crv.name().to_owned(),
                    alg: ALG.to_owned(),
                    x: BASE64_URL_SAFE_NO_PAD.encode(&key.x),
                    y: BASE64_URL_SAFE_NO_PAD.encode(&key.y),
                },
            },
            tee_evidence: CompositeEvidence {
                primary_evidence: primary_evidence(evidence, self.flavour)?,
                additional_evidence: String::new(),
            },
        };
        let client = &self.client;
        let limit = client.limits.decision;
        let Answer { token } = client.post(PATH_ATTEST, &body, limit)?;
        let resource: Resource =
            client.repeat(|left| client.resource(&self.resource, left), PATH_RESOURCE)?;
        Ok(Released {
            jwe: resource.jwe,
            token: Token::Jwt(token),
            authentication: resource.svsm,
        })
    }

    fn report(&mut self, report: &Sealed) -> Result<Sealed, BackendError> {
        let client = &self.client;
        client.repeat(|left| client.post(PATH_REPORT, report, left), PATH_REPORT)
    }
}

fn primary_evidence(evidence: &Evidence, flavour: Flavour) -> Result<Value, BackendError> {
    Ok(match (evidence, flavour) {
        (Evidence::Snp { report, certs_buf }, Flavour::KbsTest) => json!({
            "snp-report": BASE64_STANDARD.encode(report),
            "certs-buf": certs_buf.as_ref().map(|certs| BASE64_STANDARD.encode(certs)),
        }),
        (Evidence::Snp { report, certs_buf }, Flavour::Kbs) => {
            trustee::evidence(report, certs_buf.as_deref()).map_err(BackendError::Evidence)?
        }
        (
            Evidence::Sample {
                svn,
                report_data,
                measurement,
            },
            _,
        ) => {
            let mut value = json!({
                "svn": svn,
                "report_data": BASE64_STANDARD.encode(report_data),
            });
            if let (Flavour::KbsTest, Some(measurement)) = (flavour, measurement) {
                value["measurement"] = json!(measurement);
            }
            value
        }
    })
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
        limit: Duration,
    ) -> Result<T, BackendError> {
        // Without white space: the lists of numbers that certificates become would grow fivefold,
        // beyond what a server reads.
        let body = serde_json::to_vec(body)
            .map_err(|_| BackendError::Evidence("a request has no JSON form"))?;
        let answer = self
            .agent
            .post(self.address(path))
            .content_type("application/json")
            .config()
            .timeout_global(Some(limit))
            .build()
            .send(&body);
        self.read(path, answer)
    }

    fn resource<T: DeserializeOwned>(
        &self,
        name: &VolumeName,
        limit: Duration,
    ) -> Result<T, BackendError> {
        let address = format!("{}/{name}", self.address(PATH_RESOURCE));
        let answer = self
            .agent
            .get(address)
            .config()
            .timeout_global(Some(limit))
            .build()
            .call();
        self.read(PATH_RESOURCE, answer)
    }

    /// Sends a request that changes nothing when it comes twice, and repeats it while the server is
    /// away, all within the limit for `path`.
    fn repeat<T>(
        &self,
        send: impl Fn(Duration) -> Result<T, BackendError>,
        path: &'static str,
    ) -> Result<T, BackendError> {
        let end = Instant::now() + self.limit(path);
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let left = end.saturating_duration_since(Instant::now());
            match send(left) {
                Err(error) if error.is_passing() && left > 2 * pause => {}
                other => return other,
            }
            thread::sleep(pause);
            pause *= 2;
        }
        send(end.saturating_duration_since(Instant::now()).max(PAUSE))
    }

    /// For one request with its complete answer.
    fn limit(&self, path: &'static str) -> Duration {
        match path {
            PATH_AUTH => self.limits.challenge,
            PATH_REPORT => self.limits.report,
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

/// The body of an error: `ErrorInformation` of the protocol, and the code that kbs-test adds.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "type")]
    error_type: String,
    detail: String,
    #[serde(default)]
    code: Option<Code>,
}

fn refusal(path: &'static str, status: u16, body: &[u8]) -> BackendError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => BackendError::Refused {
            path,
            status,
            kind: Text::new(refusal.error_type.rsplit('/').next().unwrap_or_default()),
            code: refusal.code,
            detail: Text::new(&refusal.detail),
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

    fn with(url: &str, roots: Option<&[u8]>) -> Result<String, ServerError> {
        let resource = VolumeName::new("default/sample/test").unwrap();
        Kbs::new(
            url,
            Flavour::KbsTest,
            resource,
            roots,
            ServerLimits::default(),
        )
        .map(|kbs| kbs.url)
    }

    fn url(url: &str) -> Result<String, ServerError> {
        with(url, None)
    }

    #[test]
    fn url_is_checked_at_start() {
        assert_eq!(
            url("http://127.0.0.1:8080/").unwrap(),
            "http://127.0.0.1:8080"
        );
        assert_eq!(url("http://[::1]:1/p").unwrap(), "http://[::1]:1/p");
        assert_eq!(url("ftp://h"), Err(ServerError::Scheme("ftp".into())));
        for bad in ["", "127.0.0.1:8080", "/path", "http://", "http://h h"] {
            assert_eq!(url(bad), Err(ServerError::Malformed), "{bad}");
        }
        assert_eq!(url("http://h/?q=1"), Err(ServerError::Query));
        assert_eq!(url("http://h/#f"), Err(ServerError::Query));
    }

    #[test]
    fn tls_needs_certificates_and_certificates_need_tls() {
        assert_eq!(url("https://h"), Err(ServerError::NoRoots));
        assert_eq!(with("http://h", Some(b"")), Err(ServerError::NoTls));
        for bad in [&b""[..], b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA"] {
            assert_eq!(with("https://h", Some(bad)), Err(ServerError::Pem));
        }
    }

    #[test]
    fn evidence_has_the_form_the_server_reads() {
        let form = |evidence: &Evidence, flavour| primary_evidence(evidence, flavour).unwrap();
        let snp = Evidence::Snp {
            report: vec![3, 0, 0, 0].into(),
            certs_buf: None,
        };
        assert_eq!(
            form(&snp, Flavour::KbsTest),
            json!({"snp-report": "AwAAAA==", "certs-buf": null})
        );
        let short = primary_evidence(&snp, Flavour::Kbs).unwrap_err();
        assert_eq!(short.code(), Code::BadRequest);
        let sample = Evidence::Sample {
            svn: "1".into(),
            report_data: vec![1, 2].into(),
            measurement: Some("ab".into()),
        };
        assert_eq!(
            form(&sample, Flavour::KbsTest),
            json!({"svn": "1", "report_data": "AQI=", "measurement": "ab"})
        );
        assert_eq!(
            form(&sample, Flavour::Kbs),
            json!({"svn": "1", "report_data": "AQI="})
        );
    }

    #[test]
    fn server_without_curves_is_an_older_one() {
        let new = json!(r#"{"svsm":"0.2.0","curves":["P-384","X","P-256"]}"#);
        assert_eq!(offered(&new), Curves::new([Curve::P384, Curve::P256]));
        for old in [
            json!(""),
            json!(null),
            json!("{}"),
            json!({"curves": ["P-384"]}),
        ] {
            assert_eq!(offered(&old), Curves::new([Curve::P521]));
        }
    }

    #[test]
    fn errors_have_the_code_that_fits() {
        let body = |more: &str| format!(r#"{{"type":"x/Y","detail":"d"{more}}}"#).into_bytes();
        for (path, status, more, code) in [
            (
                PATH_ATTEST,
                401,
                r#","code":"measurement""#,
                Code::Measurement,
            ),
            (PATH_ATTEST, 401, "", Code::EvidenceRefused),
            (PATH_RESOURCE, 401, "", Code::ServerError),
            (PATH_REPORT, 409, "", Code::Ledger),
            (PATH_AUTH, 500, r#","code":null"#, Code::ServerError),
        ] {
            assert_eq!(refusal(path, status, &body(more)).code(), code);
        }
        assert_eq!(refusal(PATH_ATTEST, 401, b"").code(), Code::EvidenceRefused);
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
