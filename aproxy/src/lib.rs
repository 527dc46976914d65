//! Host proxy between an SVSM, which has no network, and an attestation server, which has.
//!
//! Always true in here:
//!
//! - the proxy is trusted by nobody: it sees evidence and an encrypted secret, never a plaintext one;
//! - whatever a peer or a server does ends one session, never the process;
//! - every message is bounded, and every wait has an end except the wait for a peer to begin;
//! - each session leaves one line in the log, with its outcome, cause and duration.
//!
//! [`transport`] accepts connections, [`peer`] cuts them into messages, [`session`] holds the
//! conversation with one SVSM, [`backend`] the one with the attestation server, and [`server`] runs
//! many of them at once.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod backend;
pub mod cli;
pub mod peer;
pub mod server;
pub mod session;
pub mod transport;
