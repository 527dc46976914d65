//! Why a request was refused, and how the protocol says so.
//!
//! The protocol's answer to a failed request is an `ErrorInformation` object: `type` is a URI that
//! ends in the kind of error, `detail` a sentence. The status codes are those of the KBS attestation
//! protocol, section "HTTP Integration": 401 for what concerns attestation, 404 for what does not
//! exist; the general HTTP ones (400, 403, 405, 408, 409, 413, 503) for the rest. An additional member
//! `code` is for `aproxy`; other clients ignore it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thiserror::Error;

use crate::evidence::EvidenceError;
use crate::release::ReleaseError;
use crate::session::SessionError;
use crate::store::StoreError;
use crate::tee_key::KeyError;
use crate::volume::PolicyError;

/// Everything that can go wrong with one request.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The body is not what this endpoint takes.
    #[error("the request is not valid: {0}")]
    Request(String),
    /// Another protocol version than 0.4.0.
    #[error("protocol version {0} is not supported, only {version} is", version = crate::api::PROTOCOL_VERSION)]
    Version(String),
    /// Another exchange than this server knows.
    #[error("exchange {0:?} is not supported, only {version} is", version = crate::transcript::VERSION)]
    Exchange(String),
    /// A TEE that the server knows by name but cannot verify.
    #[error("evidence of tee {0} is not supported, only snp and sample are")]
    Tee(kbs_types::Tee),
    /// The session cookie does not lead to a usable session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// `runtime-data.nonce` is not the challenge of this session.
    #[error("the nonce is not the challenge of this session")]
    Nonce,
    /// `init-data` was sent; it would have to be compared to HOST_DATA.
    #[error("init-data is not supported: send null")]
    InitData,
    /// `additional_evidence` was sent.
    #[error("additional evidence is not supported: send an empty string")]
    AdditionalEvidence,
    /// The key of the TEE cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The evidence is not genuine, or of another session.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The evidence does not earn a secret.
    #[error(transparent)]
    Policy(PolicyError),
    /// The server has nothing to release.
    #[error("no volume is registered: see kbs-test register --help")]
    NoVolumes,
    /// No such resource.
    #[error("resource {0} is not registered")]
    Resource(String),
    /// A secret is not released, or a report not recorded.
    #[error(transparent)]
    Release(ReleaseError),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such path.
    #[error("no such path: this server has {auth}, {attest}, {report} and {resource}/<repository>/<type>/<tag>",
        auth = crate::api::PATH_AUTH, attest = crate::api::PATH_ATTEST,
        report = crate::api::PATH_REPORT, resource = crate::api::PATH_RESOURCE)]
    Path,
    /// The path exists, the method does not.
    #[error("method not allowed on this path")]
    Method,
    /// The body is larger than the server reads.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// The request took too long to arrive.
    #[error("the request was not complete in time")]
    Timeout,
    /// The operating system's random source or a cipher failed.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<ReleaseError> for ApiError {
    /// One cause has one name, wherever it was found.
    fn from(e: ReleaseError) -> Self {
        match e {
            ReleaseError::Policy(e) => Self::Policy(e),
            ReleaseError::Store(e) => Self::Store(e),
            ReleaseError::NoVolume(name) => Self::Resource(name),
            e => Self::Release(e),
        }
    }
}

/// How a cause is told: HTTP status, last component of the `type` URI, and the word that `aproxy`
/// hands on to the SVSM.
type Told = (StatusCode, &'static str, &'static str);

impl ApiError {
    fn told(&self) -> Told {
        use StatusCode as S;
        match self {
            Self::Request(_) => (S::BAD_REQUEST, "InvalidRequest", "bad-request"),
            Self::Version(_) | Self::Exchange(_) => {
                (S::UNAUTHORIZED, "ProtocolVersion", "bad-request")
            }
            Self::Session(SessionError::Full) => {
                (S::SERVICE_UNAVAILABLE, "TooManySessions", "server-error")
            }
            Self::Session(_) => (S::UNAUTHORIZED, "SessionError", "bad-request"),
            Self::Nonce => (S::UNAUTHORIZED, "AttestationError", "nonce"),
            Self::Policy(PolicyError::Measurement { .. }) => {
                (S::UNAUTHORIZED, "AttestationError", "measurement")
            }
            Self::Tee(_)
            | Self::InitData
            | Self::AdditionalEvidence
            | Self::Key(_)
            | Self::Evidence(_)
            | Self::Policy(_) => (S::UNAUTHORIZED, "AttestationError", "evidence-refused"),
            Self::NoVolumes | Self::Resource(_) => (S::NOT_FOUND, "ResourceNotFound", "no-volume"),
            Self::Release(e) => release_told(e),
            Self::Store(_) => (S::INTERNAL_SERVER_ERROR, "StorageError", "server-error"),
            Self::Path => (S::NOT_FOUND, "InvalidRequestPath", "bad-request"),
            Self::Method => (S::METHOD_NOT_ALLOWED, "MethodNotAllowed", "bad-request"),
            Self::TooLarge(_) => (S::PAYLOAD_TOO_LARGE, "PayloadTooLarge", "bad-request"),
            Self::Timeout => (S::REQUEST_TIMEOUT, "RequestTimeout", "bad-request"),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "InternalError", "server-error"),
        }
    }

    /// The word for the cause that `aproxy` hands on to the SVSM.
    pub(crate) fn code(&self) -> &'static str {
        self.told().2
    }
}

fn release_told(e: &ReleaseError) -> Told {
    use StatusCode as S;
    match e {
        ReleaseError::NotPrimed(_) => (S::FORBIDDEN, "NotPrimed", "not-primed"),
        ReleaseError::NeedsExchange(_) => (S::UNAUTHORIZED, "ProtocolVersion", "bad-request"),
        ReleaseError::NoReportSession | ReleaseError::Mac => {
            (S::UNAUTHORIZED, "SessionError", "ledger")
        }
        ReleaseError::Body(_) => (S::BAD_REQUEST, "InvalidRequest", "bad-request"),
        ReleaseError::Ledger(_) => (S::CONFLICT, "LedgerError", "ledger"),
        _ => (S::INTERNAL_SERVER_ERROR, "InternalError", "server-error"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, code) = self.told();
        // What went wrong with the database concerns its owner, who has the log.
        let detail = match &self {
            Self::Store(_) => "the server cannot read or store its state".to_owned(),
            other => other.to_string(),
        };
        let body = json!({
            "type": format!("https://github.com/confidential-containers/kbs/errors/{kind}"),
            "detail": detail,
            "code": code,
        });
        (status, Json(body)).into_response()
    }
}
