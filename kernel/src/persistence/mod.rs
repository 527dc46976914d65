//! State that survives reboots: files on a CocoonFs image on a block device.
//!
//! The disk belongs to the host. CocoonFs encrypts and authenticates all that is on
//! it under a key from attestation, and its journal makes every transaction happen as
//! a whole or not at all; this module finds the image, gives it a device, randomness
//! and locks, and gives services files. No I/O happens but through
//! [`crate::block::BlockDevice`]. Whoever rolls the whole disk back to an earlier
//! state is found out by [`freshness`], with the word of a server.
//!
//! The boot sequence calls [`open_first`] and, for the demonstration,
//! [`boot_counter::count_boot`]; services are given a [`Volume`].
#![forbid(unsafe_code)]

pub mod boot_counter;
mod discovery;
mod files;
pub mod freshness;
mod header;
mod key;
mod memory;
pub mod nvblkdev;
mod read_ahead;
mod rng;
pub mod sync;
mod update_counter;
mod volume;
mod write_queue;

pub use discovery::{FormatPolicy, MAX_FORMAT_BYTES, open_first};
pub use files::{FileData, FileId, Namespace, Space, Transaction, Volume, VolumeError, file_data};
pub use key::{KeyError, MIN_KEY_BYTES, VolumeKey};
pub use memory::MemoryVolume;
pub use volume::CocoonVolume;
