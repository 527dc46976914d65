//! Boot images: composed, written, read back, measured.
//!
//! A [`BootImage`](boot_image::BootImage) is what lies in memory when stage2 starts:
//! parameter page, stage2, kernel. [`pvh`] and [`igvm_file`] write the same image in
//! the two formats that hosts load. [`measure`] computes the launch digest of a
//! finished IGVM file, and [`flatten`] turns such a file into one that a host without
//! IGVM support boots, so that the very file can be tested there.
//!
//! The same inputs always give the same bytes: nothing here asks for time, paths or
//! randomness.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod boot_image;
pub mod elf_file;
pub mod features;
pub mod flatten;
pub mod igvm_file;
pub mod igvm_reader;
pub mod initial_set;
pub mod measure;
pub mod platform;
pub mod pvh;
pub mod section;
pub mod trusted_keys;

/// Size of a page in bytes.
pub const PAGE_SIZE: u64 = stage2::PAGE_SIZE;
