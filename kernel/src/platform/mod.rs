//! What differs between an ordinary VM and a confidential one.
//!
//! Everything above asks a [`Platform`] and never which one it is.

#![allow(unsafe_code)]

mod native;
pub mod tsc;

use crate::arch::rng::CpuRandom;
use crate::entropy::{Entropy, EntropyError, TestedSource};
use crate::mm::{MemoryError, PAGE_SIZE};
use crate::time::Clock;
use alloc::vec::Vec;
use bootinfo::{BootInfo, PhysRange};
use core::sync::atomic::{AtomicU64, Ordering};

/// Port I/O, by whatever way the platform has.
pub trait PortIo: Sync {
    /// Reads a byte.
    fn read8(&self, port: u16) -> u8;
    /// Writes a byte.
    fn write8(&self, port: u16, value: u8);
    /// Writes 16 bits.
    fn write16(&self, port: u16, value: u16);
    /// Writes 32 bits.
    fn write32(&self, port: u16, value: u32);
}

/// How the kernel ended; the numbers go to the debug-exit device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitCode {
    /// The boot sequence came to its end.
    Complete = 0x10,
    /// A stop for a reason that the log names.
    Fatal = 0x11,
    /// A bug: a panic or an exception.
    Panic = 0x12,
}

/// Hardware that can prove what runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceSource {
    /// There is none; evidence is a sample.
    None,
}

/// An environment that the kernel runs in.
pub trait Platform: Sync {
    /// Name in the log.
    fn name(&self) -> &'static str;

    /// Port I/O.
    fn ports(&self) -> &dyn PortIo;

    /// Makes memory visible to the host, contents lost.
    fn share_with_host(&self, range: PhysRange) -> Result<(), MemoryError> {
        PAGES_CONVERTED.fetch_add(range.size.div_ceil(PAGE_SIZE as u64), Ordering::Relaxed);
        self.convert_to_shared(range)
    }

    /// What [`share_with_host`](Self::share_with_host) takes here; nobody else calls it.
    fn convert_to_shared(&self, range: PhysRange) -> Result<(), MemoryError>;

    /// Registers of the virtio-mmio slots, where the host lists none itself.
    fn virtio_slots(&self) -> Vec<PhysRange>;

    /// What proves to others what runs here.
    fn evidence_source(&self) -> EvidenceSource;

    /// Starts the clock.
    fn start_clock(&self) -> Result<&'static dyn Clock, tsc::ClockError>;

    /// Ends the VM, telling the host why.
    fn exit(&self, code: ExitCode) -> !;
}

static PAGES_CONVERTED: AtomicU64 = AtomicU64::new(0);

/// Pages that were made visible to the host since the start.
pub fn pages_converted() -> u64 {
    PAGES_CONVERTED.load(Ordering::Relaxed)
}

/// The platform that the loader found, or none for one that this kernel does not
/// know.
pub fn select(info: &BootInfo) -> Option<&'static dyn Platform> {
    match info.platform {
        bootinfo::platform::NATIVE => Some(&native::NATIVE),
        _ => None,
    }
}

/// Starts the random source of the CPU.
pub fn start_entropy() -> Result<(impl Entropy + 'static, &'static str), EntropyError> {
    let source = CpuRandom::detect().ok_or(EntropyError::NoSource)?;
    Ok((TestedSource::start(source)?, source.name()))
}
