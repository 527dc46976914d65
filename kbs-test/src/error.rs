//! Why a request was refused, and how the protocol says so.
//!
//! The protocol's answer to a failed request is an `ErrorInformation` object: `type` is a URI that
//! ends in the kind of error, `detail` a sentence. The status codes are those of the KBS attestation
//! protocol, section "HTTP Integration": 401 for what concerns attestation, 404 for what does not
//! exist; the general HTTP ones (400, 405, 408, 413, 503) for what never reached it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kbs_types::ErrorInformation;
use thiserror::Error;

use crate::evidence::EvidenceError;
use crate::session::SessionError;
use crate::tee_key::KeyError;

/// Everything that can go wrong with one request.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The body is not what this endpoint takes.
    #[error("the request is not valid: {0}")]
    Request(String),
    /// Another protocol version than 0.4.0.
    #[error("protocol version {0} is not supported, only {version} is", version = crate::api::PROTOCOL_VERSION)]
    Version(String),
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
    /// The evidence does not earn the secret.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// No such resource.
    #[error("resource {0} is not registered, only {resource} is", resource = crate::api::RESOURCE)]
    Resource(String),
    /// No such path.
    #[error("no such path: this server has {auth}, {attest} and {resource}/<repository>/<type>/<tag>",
        auth = crate::api::PATH_AUTH, attest = crate::api::PATH_ATTEST, resource = crate::api::PATH_RESOURCE)]
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

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Session(SessionError::Full) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Version(_)
            | Self::Tee(_)
            | Self::Session(_)
            | Self::Nonce
            | Self::InitData
            | Self::AdditionalEvidence
            | Self::Key(_)
            | Self::Evidence(_) => StatusCode::UNAUTHORIZED,
            Self::Resource(_) | Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Last component of the `type` URI.
    fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "InvalidRequest",
            Self::Version(_) => "ProtocolVersion",
            Self::Session(SessionError::Full) => "TooManySessions",
            Self::Session(_) => "SessionError",
            Self::Tee(_)
            | Self::Nonce
            | Self::InitData
            | Self::AdditionalEvidence
            | Self::Key(_)
            | Self::Evidence(_) => "AttestationError",
            Self::Resource(_) => "ResourceNotFound",
            Self::Path => "InvalidRequestPath",
            Self::Method => "MethodNotAllowed",
            Self::TooLarge(_) => "PayloadTooLarge",
            Self::Timeout => "RequestTimeout",
            Self::Internal(_) => "InternalError",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorInformation {
            error_type: format!(
                "https://github.com/confidential-containers/kbs/errors/{}",
                self.kind()
            ),
            detail: self.to_string(),
        };
        (self.status(), Json(body)).into_response()
    }
}
