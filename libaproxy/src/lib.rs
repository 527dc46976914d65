//! Messages and framing between an SVSM and its attestation proxy on the host.
//!
//! Always true in here: nothing is read or written, only bytes turned into messages
//! and back; no input makes anything panic; no length is believed before it was
//! compared with [`MAX_MESSAGE`]; text that came from a peer is printable, one line
//! and short ([`Text`]) before anybody can show it.
//!
//! # The conversation
//!
//! One connection carries two requests of the SVSM and the proxy's answer to each:
//!
//! | # | from | message |
//! |---|---|---|
//! | 1 | SVSM | `NegotiationRequest`: version and kind of evidence |
//! | 2 | proxy | `NegotiationResponse`: the challenge, or why there is none |
//! | 3 | SVSM | `AttestationRequest`: the evidence |
//! | 4 | proxy | `AttestationResponse`: the encrypted secret, or why there is none |
//!
//! From version 0.2.0 on, reports of the SVSM may follow on the same connection, each
//! with an answer. A message is JSON behind an 8-byte little-endian length ([`frame`]).
//!
//! # Versions
//!
//! The messages of a protocol version live in a module of their own: [`v0_1`], which is
//! what other SVSMs and proxies speak, and [`v0_2`]. This crate has the version of the
//! newest of them. An SVSM asks for a version in its first message; a proxy that does not
//! speak it answers with a [`v0_1::Failure`] or with another version's
//! `NegotiationResponse`, and whether to go on from there is the SVSM's decision.
//! [`requested_version`] reads the version of either without looking at the rest.
//! Members a peer does not know are ignored by every version.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod bytes;
pub mod frame;
mod text;
pub mod v0_1;
pub mod v0_2;
mod version;

pub use bytes::Base64;
pub use frame::{HEADER_LEN, MAX_MESSAGE, MessageError};
pub use text::{MAX_TEXT, Text};
pub use version::{UnsupportedVersion, Version, requested_version};
