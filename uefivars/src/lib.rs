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
pub mod memory;
pub mod name;
pub mod record;
pub mod rules;
pub mod siglist;
mod status;
pub mod storage;
mod time;
pub mod variable;

pub use attributes::Attributes;
pub use status::Status;
pub use time::EfiTime;
pub use uguid::{Guid, guid};
