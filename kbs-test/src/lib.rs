//! A small, honest key broker server (KBS): it releases the secrets of volumes to SVSMs that prove what
//! they are, and keeps a ledger of their disks. Always true in here:
//!
//! - a secret leaves only as a JWE for the key that the evidence of the same session binds, and only if
//!   the volume's policy accepts that evidence;
//! - a challenge is good for one attempt, a session for one release, and both for five minutes;
//! - what a release uses up, and what a report changes, is on disk before the answer leaves;
//! - everything a client sends is bounded in size and time, and a refusal names its cause;
//! - no secret, key or cookie is printed or logged.
//!
//! From the outside in: [`server`] accepts connections, `api` and [`requests`] read them, [`evidence`] and
//! [`snp`] verify, [`volume`] and [`ledger`] decide, [`release`] carries it out in the [`store`]. The
//! binary is a thin wrapper around [`cli`]; tests run the same code in their own process with
//! [`server::Running`].
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
