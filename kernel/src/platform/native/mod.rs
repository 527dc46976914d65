//! An ordinary VM under stock QEMU, machine `microvm`: no isolation at all.

mod calibrate;

use super::{EvidenceSource, ExitCode, Platform, PortIo, tsc};
use crate::arch::{cpu, port};
use crate::mm::MemoryError;
use crate::time::Clock;
use alloc::vec::Vec;
use bootinfo::PhysRange;

/// Port of QEMU's debug-exit device; ignored where there is none.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// The virtio-mmio slots of `microvm`: up to 24, side by side.
const VIRTIO_SLOTS: u64 = 24;
const VIRTIO_BASE: u64 = 0xfeb0_0000;
const VIRTIO_SLOT_SIZE: u64 = 512;

pub(super) static NATIVE: Native = Native;

pub(super) struct Native;

impl PortIo for Native {
    fn read8(&self, port: u16) -> u8 {
        // SAFETY: the drivers use ports of devices without access to memory.
        unsafe { port::inb(port) }
    }

    fn write8(&self, port: u16, value: u8) {
        // SAFETY: as in `read8`.
        unsafe { port::outb(port, value) };
    }

    fn write16(&self, port: u16, value: u16) {
        // SAFETY: as in `read8`.
        unsafe { port::outw(port, value) };
    }

    fn write32(&self, port: u16, value: u32) {
        // SAFETY: as in `read8`.
        unsafe { port::outl(port, value) };
    }
}

impl Platform for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn ports(&self) -> &dyn PortIo {
        self
    }

    fn convert_to_shared(&self, _range: PhysRange) -> Result<(), MemoryError> {
        // The host sees all memory of an ordinary VM.
        Ok(())
    }

    fn virtio_slots(&self) -> Vec<PhysRange> {
        (0..VIRTIO_SLOTS)
            .map(|slot| PhysRange {
                start: VIRTIO_BASE + slot * VIRTIO_SLOT_SIZE,
                size: VIRTIO_SLOT_SIZE,
            })
            .collect()
    }

    fn evidence_source(&self) -> EvidenceSource {
        EvidenceSource::None
    }

    fn start_clock(&self) -> Result<&'static dyn Clock, tsc::ClockError> {
        let frequency = tsc::frequency_from_cpuid()
            .or_else(|| calibrate::against_pit(self))
            .or_else(|| calibrate::against_rtc(self))
            .ok_or(tsc::ClockError::NoReference)?;
        tsc::start(frequency)
    }

    fn exit(&self, code: ExitCode) -> ! {
        self.write32(DEBUG_EXIT_PORT, code as u32);
        cpu::triple_fault()
    }
}
