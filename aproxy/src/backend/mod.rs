//! Attestation servers.
//!
//! A [`Backend`] speaks one attestation protocol. It knows nothing about the SVSM's side of the proxy
//! but the types of the messages, and keeps no state between two exchanges.

use std::time::Duration;

use libaproxy::v0_2::{
    Authentication, Code, Curves, Evidence, Jwe, Nonce, PublicKey, Sealed, Tee, Token,
};
use libaproxy::{Text, Version};
use thiserror::Error;

pub mod kbs;
mod trustee;

/// An attestation server that can be asked for many exchanges, also at the same time.
pub trait Backend: Send + Sync + 'static {
    /// Begins an exchange with an SVSM that speaks `version`: asks the server for a challenge to
    /// evidence of `tee`.
    fn begin(&self, tee: Tee, version: Version) -> Result<Box<dyn Exchange>, BackendError>;
}

/// One exchange with the server, after the challenge.
pub trait Exchange {
    /// The challenge as the server sent it.
    fn nonce(&self) -> &Nonce;

    /// Curves the server can encrypt to.
    fn curves(&self) -> &Curves;

    /// Submits evidence that is bound to `key`, and fetches the secret.
    fn attest(&mut self, evidence: &Evidence, key: &PublicKey) -> Result<Released, BackendError>;

    /// Forwards a report about the volume whose secret was fetched.
    fn report(&mut self, report: &Sealed) -> Result<Sealed, BackendError>;
}

/// An encrypted secret and what belongs to it.
#[derive(Debug)]
pub struct Released {
    /// The secret.
    pub jwe: Jwe,
    /// The server's token.
    pub token: Token,
    /// The server's signature over the exchange. A server that gives one takes reports.
    pub authentication: Option<Authentication>,
}

/// Why the server gave no secret. Words of the server are [`Text`], so safe to show.
#[derive(Debug, Error)]
pub enum BackendError {
    /// No connection, or it broke.
    #[error("cannot reach the attestation server at {url} ({cause}): is it running?")]
    Unreachable {
        /// As given on the command line.
        url: String,
        /// What the HTTP client said.
        cause: Text,
    },
    /// No complete answer in time.
    #[error("the attestation server did not answer {path} within {} s", .limit.as_secs())]
    Timeout {
        /// The request.
        path: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// A refusal in the form of the protocol.
    #[error("the attestation server refused {path} ({status} {kind}): {detail}")]
    Refused {
        /// The request.
        path: &'static str,
        /// HTTP status code.
        status: u16,
        /// Kind of error.
        kind: Text,
        /// The server's own code for it; kbs-test gives one.
        code: Option<Code>,
        /// The server's sentence.
        detail: Text,
    },
    /// A status other than success, without an explanation of the protocol's form.
    #[error("the attestation server answered {path} with status {status}")]
    Status {
        /// The request.
        path: &'static str,
        /// HTTP status code.
        status: u16,
    },
    /// Success, but with an answer that makes no sense.
    #[error("the answer of the attestation server to {path} is invalid: {cause}")]
    Invalid {
        /// The request.
        path: &'static str,
        /// What is wrong with it.
        cause: Text,
    },
    /// The evidence cannot be put into the form the server reads.
    #[error("the evidence cannot be converted for the attestation server: {0}")]
    Evidence(&'static str),
}

impl BackendError {
    /// The error in the terms of protocol 0.2.0.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => Code::ServerUnreachable,
            Self::Refused {
                code: Some(code), ..
            } => code.clone(),
            Self::Refused { path, status, .. } | Self::Status { path, status } => {
                match (*path, status) {
                    (kbs::PATH_ATTEST, 401) => Code::EvidenceRefused,
                    (kbs::PATH_REPORT, 409) => Code::Ledger,
                    _ => Code::ServerError,
                }
            }
            Self::Invalid { .. } => Code::ServerError,
            Self::Evidence(_) => Code::BadRequest,
        }
    }

    /// Whether the same request may succeed if it is repeated at once.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } | Self::Status { status, .. } => {
                matches!(status, 502..=504)
            }
            _ => false,
        }
    }
}
