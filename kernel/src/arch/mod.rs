//! x86-64: entry, descriptor tables, exceptions, CPU features.
//!
//! Everything here is about the one CPU that runs it. Interrupts stay off for the
//! whole life of the kernel: devices are polled, and an interrupt that arrives all
//! the same is counted and dropped.

#![allow(unsafe_code)]

pub mod backtrace;
pub mod cpu;
#[cfg(target_os = "svsm")]
pub mod entry;
pub mod exceptions;
pub mod image_data;
pub mod percpu;
pub mod port;
#[cfg(feature = "selftest")]
pub mod probe;
pub mod rng;
pub mod tables;
