//! The loader: from the first instruction of the boot image to the kernel in long
//! mode.
//!
//! This library is all that decides: what the machine's memory is, where the SVSM
//! lives in it, how the kernel is laid out and mapped. It is safe code over slices and
//! is tested on the host. The binary around it (entry code, access to physical memory,
//! the jump) is the only place with unsafe code.
//!
//! Everything that the host supplies - memory map, its address, its length - is
//! checked here before it is used.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod image;
pub mod load;
pub mod memory_map;
pub mod paging;
pub mod region;
pub mod start_info;

/// Size of a page in bytes.
pub const PAGE_SIZE: u64 = 4096;
