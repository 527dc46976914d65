//! A TPM 2.0 (TCG TPM 2.0 Library, revision 1.59) in safe Rust.
//!
//! Always true in here:
//! - A command is a transaction: it runs on a copy of the state whose parts are shared until
//!   they are written to ([`state::State`]); the records of the parts it replaced are
//!   committed to [`storage::Storage`], and only then does the copy become the state and the
//!   answer "success". Anything else leaves the state as it was.
//! - A command's handles, authorizations and encrypted parameters are what its line in
//!   [`table`] says; the dispatcher ([`dispatch`]) checks them before the command's own code
//!   (`commands/`) runs.
//! - Every input is parsed by [`wire`], which raises the response code the specification
//!   gives for the field at fault.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(feature = "server")]
extern crate std;

mod approval;
pub mod archive;
mod attest;
mod auth;
mod capabilities;
#[cfg(feature = "client")]
pub mod client;
mod clock;
pub mod commands;
mod commit;
pub mod constants;
mod context;
pub mod crypto;
mod da;
pub mod dispatch;
mod entity;
pub mod environment;
mod manufacture;
mod nv;
mod objects;
mod params;
mod pcr;
mod policy;
pub mod rc;
pub mod records;
mod saved;
#[cfg(feature = "server")]
pub mod server;
mod sessions;
mod signing;
pub mod state;
pub mod storage;
pub mod table;
mod tpm;
pub mod wire;
mod x509;

pub use tpm::{Existing, Origin, PowerOnError, Tpm};
