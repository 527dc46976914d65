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
//! | 1 | SVSM | [`NegotiationRequest`](v0_1::NegotiationRequest) |
//! | 2 | proxy | [`NegotiationResponse`](v0_1::NegotiationResponse) or [`Failure`](v0_1::Failure) |
//! | 3 | SVSM | [`AttestationRequest`](v0_1::AttestationRequest) |
//! | 4 | proxy | [`AttestationResponse`](v0_1::AttestationResponse) |
//!
//! A message is JSON behind an 8-byte little-endian length ([`frame`]).
//!
//! # Versions
//!
//! The messages of a protocol version live in a module of their own, here [`v0_1`].
//! Members a peer does not know are ignored by every version, so a later version is
//! offered in additional members of the first request and accepted in additional
//! members of the first answer: a 0.1.0 peer sees neither and goes on as before.
//! [`requested_version`] reads the version of a first request without looking at the
//! rest of it, [`v0_1::NegotiationResponse::version`] is where the answer names
//! another one.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod bytes;
pub mod frame;
mod text;
pub mod v0_1;
mod version;

pub use bytes::Base64;
pub use frame::{HEADER_LEN, MAX_MESSAGE, MessageError};
pub use text::{MAX_TEXT, Text};
pub use version::{UnsupportedVersion, Version, requested_version};
