//! A small, honest key broker server (KBS) for development, CI and demos.
//!
//! It serves the KBS attestation protocol 0.4.0 and releases one secret to whoever attests. Always
//! true in here:
//!
//! - the secret leaves only as a JWE for the key that the evidence of the same session binds;
//! - a challenge is good for one attempt, a session for one release, and both for five minutes;
//! - everything a client sends is bounded in size and time, and a refusal names its cause;
//! - nothing is shared between sessions but the configuration.
//!
//! The binary is a thin wrapper around [`cli`] and [`server`]; tests run the same code in their own
//! process with [`server::Running`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod api;
pub mod audit;
pub mod binding;
pub mod claims;
pub mod cli;
pub mod config;
pub mod error;
pub mod evidence;
pub mod fault;
pub mod jwe;
pub mod jws;
pub mod ledger;
pub mod log;
pub mod release;
pub mod requests;
pub mod server;
pub mod session;
pub mod snp;
pub mod static_key;
pub mod store;
pub mod tee_key;
pub mod tls;
mod token;
pub mod transcript;
pub mod volume;
