//! Device registers mapped for good.

use super::paging::Access;
use super::{MemoryError, PAGE_SIZE, with_memory};
use bootinfo::PhysRange;
use core::ptr::NonNull;

/// A mapped window of device registers.
#[derive(Clone, Copy, Debug)]
pub struct MmioWindow {
    physical: PhysRange,
    start: NonNull<u8>,
}

// SAFETY: device registers belong to no thread; the window is only an address.
unsafe impl Send for MmioWindow {}

impl MmioWindow {
    /// Maps `physical`, which must not be RAM. The mapping stays for ever.
    pub fn map(physical: PhysRange) -> Result<Self, MemoryError> {
        let page = PAGE_SIZE as u64;
        let first = physical.start / page * page;
        let end = physical
            .start
            .checked_add(physical.size)
            .and_then(|end| end.checked_next_multiple_of(page))
            .filter(|&end| end <= 1 << 52 && end - first <= 1 << 24)
            .ok_or(MemoryError::BadAddress)?;
        let pages = PhysRange {
            start: first,
            size: end - first,
        };
        with_memory(|memory| {
            if memory.info.memory().iter().any(|ram| ram.overlaps(&pages)) {
                return Err(MemoryError::BadAddress);
            }
            let base = memory.next_mmio;
            for offset in (0..pages.size).step_by(PAGE_SIZE) {
                memory.tables.map(
                    &mut memory.frames,
                    base + offset,
                    first + offset,
                    Access::Device,
                )?;
            }
            // One unmapped page between windows.
            memory.next_mmio = base + pages.size + page;
            let start = (base + (physical.start - first)) as *mut u8;
            Ok(Self {
                physical,
                start: NonNull::new(start).ok_or(MemoryError::BadAddress)?,
            })
        })
    }

    /// The physical addresses of the window.
    pub const fn physical(&self) -> PhysRange {
        self.physical
    }

    /// Where it is mapped.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Reads the 32-bit register at `offset`, or none outside the window.
    pub fn read32(&self, offset: u64) -> Option<u32> {
        if !offset.is_multiple_of(4) || offset >= self.physical.size.saturating_sub(3) {
            return None;
        }
        // SAFETY: inside the mapping, aligned, and reads of registers that are
        // looked at this way have no effect on memory.
        Some(unsafe {
            self.start
                .add(offset as usize)
                .cast::<u32>()
                .as_ptr()
                .read_volatile()
        })
    }
}
