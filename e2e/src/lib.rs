//! What the end-to-end tests are made of: images, servers, guests.
//!
//! Everything here is the real thing, started as its own process: the image tool,
//! the key broker, the proxy, QEMU through `scripts/launch_guest.sh`. What a test
//! plays itself are the hostile peers ([`hostile`], [`mitm`]). A process dies with the value
//! that stands for it, every wait has a time-out, and all files are in a directory
//! of the test's own, so tests run side by side.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod event_log;
pub mod guest;
pub mod hostile;
pub mod image;
pub mod initramfs;
pub mod ledger;
pub mod link;
pub mod linux;
pub mod message;
pub mod mitm;
pub mod process;
pub mod proofs;
pub mod servers;
pub mod setting;
pub mod tpm;
pub mod tree;
pub mod workload;

pub use guest::{Boot, Disk, Guest};
pub use ledger::Ledger;
pub use link::Serving;
pub use mitm::{Fate, Mitm, Step};
pub use servers::{Kbs, Proxy, Servers};
pub use setting::Setting;
pub use tpm::{TpmServer, TpmSocket};

/// A root key: 32 bytes, in hex, as `kbs-test --secret` and the image tool take it.
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Another root key.
pub const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";
