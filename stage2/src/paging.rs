//! Builds x86-64 page tables (AMD64 Architecture Programmer's Manual, volume 2,
//! section 5.3) in frames of memory that is not active yet.
//!
//! Pages are 4 KiB. No mapping is both writable and executable, and none is ever
//! replaced: mapping an address twice is an error.

use crate::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One table: 512 entries.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Table([u64; 512]);

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What a mapping allows besides reading. There is no "write and execute".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

/// Why a mapping cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PagingError {
    /// All frames are used up.
    #[error("out of memory for page tables")]
    OutOfTables,
    /// The virtual address is mapped already.
    #[error("virtual address {0:#x} is mapped twice")]
    Twice(u64),
    /// An address is not page-aligned, not canonical, or out of range.
    #[error("cannot map {virt:#x} to {phys:#x}")]
    Address {
        /// Virtual address.
        virt: u64,
        /// Physical address.
        phys: u64,
    },
}

/// Page tables under construction. The first frame is the root.
pub struct Builder<'a> {
    frames: &'a mut [Table],
    /// Physical address of the first frame.
    base: u64,
    used: usize,
}

impl<'a> Builder<'a> {
    /// Starts with an empty root table. `base` is the physical address of `frames`.
    pub fn new(frames: &'a mut [Table], base: u64) -> Result<Self, PagingError> {
        let mut builder = Self {
            frames,
            base,
            used: 0,
        };
        builder.take()?;
        Ok(builder)
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.base
    }

    /// Frames in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Maps `size` bytes, rounded up to whole pages.
    pub fn map(
        &mut self,
        virt: u64,
        phys: u64,
        size: u64,
        access: Access,
    ) -> Result<(), PagingError> {
        let wrong = PagingError::Address { virt, phys };
        let last = size.checked_sub(1).ok_or(wrong)?;
        let ends = (
            virt.checked_add(last).ok_or(wrong)?,
            phys.checked_add(last).ok_or(wrong)?,
        );
        if !virt.is_multiple_of(PAGE_SIZE)
            || phys & !ADDRESS_MASK != 0
            || ends.1 & !(ADDRESS_MASK | (PAGE_SIZE - 1)) != 0
            || !canonical(virt)
            || !canonical(ends.0)
        {
            return Err(wrong);
        }
        for offset in (0..size).step_by(PAGE_SIZE as usize) {
            self.map_page(virt + offset, phys + offset, access)?;
        }
        Ok(())
    }

    /// Maps one page whose addresses were checked.
    fn map_page(&mut self, virt: u64, phys: u64, access: Access) -> Result<(), PagingError> {
        let mut table = 0;
        for level in (1..=3).rev() {
            let entry = self.frames[table].0[index(virt, level)];
            table = if entry & PRESENT == 0 {
                let next = self.take()?;
                // Rights are decided in the last level alone.
                self.frames[table].0[index(virt, level)] =
                    (self.base + next as u64 * PAGE_SIZE) | PRESENT | WRITABLE | ACCESSED;
                next
            } else {
                ((entry & ADDRESS_MASK) - self.base) as usize / PAGE_SIZE as usize
            };
        }
        let entry = &mut self.frames[table].0[index(virt, 0)];
        if *entry & PRESENT != 0 {
            return Err(PagingError::Twice(virt));
        }
        // Accessed and dirty are set from the start: the CPU never has to write here.
        *entry = phys
            | PRESENT
            | ACCESSED
            | match access {
                Access::Read => NO_EXECUTE,
                Access::Write => NO_EXECUTE | WRITABLE | DIRTY,
                Access::Execute => 0,
            };
        Ok(())
    }

    /// Takes the next frame and clears it.
    fn take(&mut self) -> Result<usize, PagingError> {
        let frame = self
            .frames
            .get_mut(self.used)
            .ok_or(PagingError::OutOfTables)?;
        frame.0.fill(0);
        self.used += 1;
        Ok(self.used - 1)
    }
}

/// Index into the table of a level; level 0 maps pages.
const fn index(virt: u64, level: u32) -> usize {
    (virt >> (12 + 9 * level)) as usize & 511
}

/// Whether bits 63 to 47 are all equal.
const fn canonical(virt: u64) -> bool {
    matches!((virt as i64) >> 47, 0 | -1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec;

    pub const BASE: u64 = 0x1230_0000;

    /// Walks the tables as the CPU does: physical address and rights, if mapped.
    pub fn walk(frames: &[Table], base: u64, virt: u64) -> Option<(u64, Access)> {
        let mut table = 0;
        for level in (1..=3).rev() {
            let entry = frames[table].0[index(virt, level)];
            assert_eq!(entry & NO_EXECUTE, 0, "only the last level restricts");
            if entry & PRESENT == 0 {
                return None;
            }
            table = ((entry & ADDRESS_MASK) - base) as usize / 4096;
        }
        let entry = frames[table].0[index(virt, 0)];
        let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE == 0) {
            (false, false) => Access::Read,
            (true, false) => Access::Write,
            (false, true) => Access::Execute,
            (true, true) => panic!("writable and executable"),
        };
        (entry & PRESENT != 0).then_some(((entry & ADDRESS_MASK) | virt & 0xfff, access))
    }

    #[test]
    fn mappings_translate_and_nothing_else_does() {
        let mut frames = vec![Table([u64::MAX; 512]); 16];
        let mut builder = Builder::new(&mut frames, BASE).expect("a root");
        let top = 0xffff_ffff_8000_0000;
        builder
            .map(top, 0x5000, 0x2001, Access::Execute)
            .expect("code");
        builder
            .map(top + 0x4000, 0x9000, 1, Access::Write)
            .expect("data");
        builder
            .map(0x10_1000, 0x10_1000, 0x1000, Access::Read)
            .expect("low");
        // Across the border of a last-level table.
        builder
            .map(top + 0x1f_f000, 0x2_0000, 0x2000, Access::Read)
            .expect("border");
        let used = builder.used();
        let at = |virt| walk(&frames[..used], BASE, virt);
        assert_eq!(at(top + 0x2fff), Some((0x7fff, Access::Execute)));
        assert_eq!(at(top + 0x3000), None);
        assert_eq!(at(top + 0x4010), Some((0x9010, Access::Write)));
        assert_eq!(at(0x10_1234), Some((0x10_1234, Access::Read)));
        assert_eq!(at(0x10_2000), None);
        assert_eq!(at(top + 0x20_0000), Some((0x2_1000, Access::Read)));
        assert_eq!(at(0), None);
        // Root, three tables per half, and one more behind the border.
        assert_eq!(used, 1 + 3 + 3 + 1);
    }

    #[test]
    fn mapping_twice_is_refused() {
        let mut frames = vec![Table([0; 512]); 8];
        let mut builder = Builder::new(&mut frames, BASE).expect("a root");
        builder
            .map(0x1000, 0x1000, 0x1000, Access::Read)
            .expect("once");
        assert_eq!(
            builder.map(0, 0, 0x2000, Access::Write),
            Err(PagingError::Twice(0x1000))
        );
    }

    #[test]
    fn running_out_of_frames_is_an_error() {
        assert!(matches!(
            Builder::new(&mut [], BASE),
            Err(PagingError::OutOfTables)
        ));
        let mut frames = vec![Table([0; 512]); 3];
        let mut builder = Builder::new(&mut frames, BASE).expect("a root");
        assert_eq!(
            builder.map(0, 0, 0x1000, Access::Read),
            Err(PagingError::OutOfTables)
        );
    }

    #[test]
    fn impossible_addresses_are_refused() {
        let mut frames = vec![Table([0; 512]); 8];
        let mut builder = Builder::new(&mut frames, BASE).expect("a root");
        for (virt, phys, size) in [
            (0x1001, 0, 0x1000),
            (0, 0x1001, 0x1000),
            (0, 1 << 52, 0x1000),
            (0, (1 << 52) - 0x1000, 0x2000),
            (1 << 47, 0, 0x1000),
            ((1 << 47) - 0x1000, 0, 0x2000),
            (0xffff_ffff_ffff_f000, 0, 0x1001),
            (0, 0, 0),
            (0, 0, u64::MAX),
        ] {
            assert_eq!(
                builder.map(virt, phys, size, Access::Read),
                Err(PagingError::Address { virt, phys })
            );
        }
        assert_eq!(builder.used(), 1);
    }
}
