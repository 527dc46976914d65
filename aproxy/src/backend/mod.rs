//! Attestation servers.
//!
//! A [`Backend`] speaks one attestation protocol. It knows nothing about the SVSM's side of the proxy
//! but the types of the messages, and keeps no state between two exchanges.

use std::time::Duration;

use libaproxy::v0_1::{AttestationRequest, Decryption, Param, Tee, Token};
use libaproxy::{Base64, Text};
use thiserror::Error;

pub mod kbs;

/// An attestation server that can be asked for many exchanges, also at the same time.
pub trait Backend: Send + Sync + 'static {
    /// Begins an exchange: asks the server for a challenge to evidence of `tee`.
    fn negotiate(&self, tee: Tee) -> Result<Box<dyn Exchange>, BackendError>;
}

/// One exchange with the server, after the challenge.
pub trait Exchange {
    /// The challenge, decoded.
    fn challenge(&self) -> &[u8];

    /// What REPORT_DATA has to cover, in this order.
    fn params(&self) -> Vec<Param>;

    /// Submits the evidence and fetches the secret.
    fn attest(self: Box<Self>, request: &AttestationRequest) -> Result<Released, BackendError>;
}

/// An encrypted secret and what belongs to it.
#[derive(Debug)]
pub struct Released {
    /// JWE ciphertext.
    pub ciphertext: Base64,
    /// The other parts of the JWE.
    pub decryption: Decryption,
    /// The server's token.
    pub token: Token,
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
}
