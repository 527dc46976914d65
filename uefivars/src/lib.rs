//! UEFI variable service for a Secure VM Service Module.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod attributes;
pub mod auth;
mod bytes;
pub mod guids;
#[cfg(feature = "std")]
pub mod host;
pub mod memory;
#[cfg(feature = "microsoft")]
pub mod microsoft;
pub mod mm;
pub mod name;
mod policy;
pub mod record;
pub mod rules;
mod service;
pub mod siglist;
mod status;
pub mod storage;
mod time;
pub mod variable;

pub use attributes::Attributes;
pub use service::{Config, Enrolled, Flags, Info, InitialSet, LoadError, Mode, Quota, Service};
pub use status::Status;
pub use time::EfiTime;
pub use uguid::{Guid, guid};
