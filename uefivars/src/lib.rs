//! UEFI variable service for a Secure VM Service Module.
//!
//! Always true in here: what a guest sends is checked before it is used, takes bounded
//! time and memory, and never panics; what was answered with success is stored; a failed
//! write has changed nothing; and no key changes without the signature that the UEFI
//! specification asks for. There is no unsafe code, and no C.
//!
//! The adversary is the guest, in every phase of its boot: it chooses every byte of every
//! message. Storage may fail at any time, but it is trusted to give back what was
//! committed, all of a commit or nothing of it; the volume below sees to that.
//!
//! - [`Service`] is the service. [`Service::new`] reads the records, [`Service::power_on`]
//!   begins another boot, [`Service::communicate_buffer`] answers one MM buffer in place,
//!   [`Service::flags`] says what the services manifest says, [`Service::enroll`] puts the
//!   first keys in.
//! - [`storage::Storage`] is what the kernel provides: numbered records, and commits that
//!   are durable when they return. [`storage::Volatile`] is for a boot without a volume.
//! - `host` (feature `std`) has the formats of other tools; the tool `uefi-vars` uses them.
//!
//! ```
//! use uefivars::mm::{HEADER, Outcome};
//! use uefivars::storage::Volatile;
//! use uefivars::{Config, Service, guids};
//!
//! let mut service = Service::new(Volatile, Config::default())?;
//! // GetPayloadSize, function 11: function, status, and room for the size.
//! let mut buffer = guids::MM_VARIABLE.to_bytes().to_vec();
//! buffer.extend(24_u64.to_le_bytes());
//! buffer.extend(11_u64.to_le_bytes());
//! buffer.extend([0; 16]);
//! assert_eq!(service.communicate_buffer(&mut buffer), Ok(Outcome::Replied));
//! assert_eq!(buffer[HEADER + 16..], 65_496_u64.to_le_bytes());
//! # Ok::<(), uefivars::LoadError>(())
//! ```
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
pub mod initial;
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
pub use initial::InitialSet;
pub use service::{Config, Enrolled, Flags, Info, LoadError, Mode, Quota, Service};
pub use status::Status;
pub use time::EfiTime;
pub use uguid::{Guid, guid};
