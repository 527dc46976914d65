//! SVSM calls over a serial line, for the native platform, which has no lower VMPL for a
//! guest to call from.
//!
//! Always true in here: neither end trusts the other or the line. A frame is bounded
//! before anything is made room for, is taken only when both its checksums fit, and
//! whatever is no frame is skipped. The checksums find noise and lost bytes, not
//! attackers: to the SVSM a frame is what a guest's registers and memory are, input of an
//! adversary.
//!
//! The library without features is what the kernel needs and has no use for `std`; the
//! feature `std` adds the client's end, `variables` what it asks the UEFI variable
//! service, and `tool` the program `guestlink`.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod client;
pub mod frame;
pub mod message;
pub mod receiver;
#[cfg(feature = "std")]
pub mod tpm_calls;
#[cfg(feature = "variables")]
pub mod variables;

pub use frame::{Frame, FrameError, HEADER_LEN, Kind, MAX_BODY};
pub use message::{Answer, Call, Change, MAX_REGION, Refusal, Registers};
pub use receiver::Receiver;
