//! The SVSM kernel.
//!
//! A library that also builds and tests on the host; `main.rs` is the bare-metal
//! binary around it. Unsafe code lives in [`arch`], [`mm`], [`platform`] and
//! `drivers::virtio::hal` only. Imports point down, in the order of the modules
//! below from last to first.

#![cfg_attr(target_os = "svsm", no_std)]
#![deny(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod entropy;
pub mod exec;
pub mod time;

pub mod arch;
pub mod mm;
pub mod platform;

pub mod block;
pub mod drivers;

#[cfg(feature = "cocoonfs")]
pub mod persistence;

#[cfg(feature = "attest")]
pub mod attest;

#[cfg(feature = "cocoonfs")]
pub mod ledger;

#[cfg(feature = "bench")]
pub mod bench;

pub mod protocols;
pub mod services;

#[cfg(feature = "guestlink")]
pub mod guestlink;

pub mod boot;
pub mod console;
pub mod fatal;
#[cfg(all(feature = "selftest", target_os = "svsm"))]
pub mod selftest;
