//! The structure that stage2 hands to the kernel.
//!
//! It is the only thing the two programs share ([`loader`] is what stage2 shares with
//! the builder of the boot images). Layout is fixed (`repr(C)`, no padding) and
//! versioned: the kernel refuses any other magic, version or size.
//! All addresses are physical unless a name says `virt`.

#![no_std]
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub mod loader;
pub mod trusted_keys;

/// "SVSMBOOT", little endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SVSMBOOT");

/// Layout version of [`BootInfo`]; grows with every change.
pub const VERSION: u32 = 1;

/// Size of the SVSM's own memory in bytes; all other RAM belongs to the guest.
pub const SVSM_REGION_SIZE: u64 = 16 << 20;

/// Alignment of the SVSM's own memory in bytes (one large page).
pub const SVSM_REGION_ALIGN: u64 = 2 << 20;

/// Virtual address at which the kernel image is linked (see `kernel/kernel.lds`).
pub const KERNEL_VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

/// Virtual address of the direct map: physical address `p` inside the SVSM
/// region, past the kernel image, is mapped at `DIRECT_MAP_BASE + p`, writable and
/// never executable. The kernel image has no alias in it.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;

/// Most entries of the memory map that are handed on.
pub const MAX_MEMORY_RANGES: usize = 64;

/// Platform numbers of [`BootInfo::platform`].
pub mod platform {
    /// An ordinary VM, no isolation.
    pub const NATIVE: u32 = 0;
    /// AMD SEV-SNP.
    pub const SNP: u32 = 1;
}

/// A range of physical memory, in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysRange {
    pub start: u64,
    pub size: u64,
}

impl PhysRange {
    /// First address past the range; saturates.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether `other` lies wholly inside.
    pub const fn contains(&self, other: &PhysRange) -> bool {
        other.start >= self.start && other.end() <= self.end()
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(&self, other: &PhysRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// Handed by stage2 to the kernel's entry point.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Size of this structure in bytes.
    pub size: u32,
    /// One of [`platform`].
    pub platform: u32,
    /// Valid entries of `memory`.
    pub memory_count: u32,
    /// The SVSM's own memory.
    pub region: PhysRange,
    /// The part of `region` that holds the kernel image (at its start).
    pub kernel: PhysRange,
    /// The part of `region` that nothing uses yet: everything after the kernel
    /// image, the page tables and this structure.
    pub free: PhysRange,
    /// Root of the page tables that are active when the kernel is entered.
    pub page_table_root: u64,
    /// Where the loader's own image was mapped one to one so that it could switch
    /// page tables; the kernel unmaps it first of all.
    pub loader: PhysRange,
    /// All RAM of the machine, ascending, not overlapping; includes `region`.
    pub memory: [PhysRange; MAX_MEMORY_RANGES],
}

const _: () = assert!(size_of::<BootInfo>() == 0x460);

/// Why a [`BootInfo`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootInfoError {
    #[error("boot information has a wrong magic number")]
    Magic,
    #[error("boot information has version {0}, this kernel needs version {VERSION}")]
    Version(u32),
    #[error("boot information is {0} bytes long")]
    Size(u32),
    #[error("boot information is inconsistent: {0}")]
    Layout(&'static str),
}

impl BootInfo {
    /// Checks everything a kernel relies on.
    pub fn validate(&self) -> Result<(), BootInfoError> {
        use BootInfoError::Layout;
        if self.magic != MAGIC {
            return Err(BootInfoError::Magic);
        }
        if self.version != VERSION {
            return Err(BootInfoError::Version(self.version));
        }
        if self.size as usize != size_of::<Self>() {
            return Err(BootInfoError::Size(self.size));
        }
        if self.memory_count as usize > MAX_MEMORY_RANGES {
            return Err(Layout("too many memory ranges"));
        }
        if !self.region.contains(&self.kernel) || !self.region.contains(&self.free) {
            return Err(Layout("kernel or free memory outside the SVSM region"));
        }
        if self.kernel.overlaps(&self.free) {
            return Err(Layout("free memory overlaps the kernel image"));
        }
        let memory = self.memory();
        if !memory.iter().any(|range| range.contains(&self.region)) {
            return Err(Layout("SVSM region is not RAM"));
        }
        if memory.windows(2).any(|pair| pair[0].end() > pair[1].start) {
            return Err(Layout("memory map is not sorted"));
        }
        Ok(())
    }

    /// The valid part of the memory map.
    pub fn memory(&self) -> &[PhysRange] {
        &self.memory[..(self.memory_count as usize).min(MAX_MEMORY_RANGES)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BootInfo {
        let mut memory = [PhysRange::default(); MAX_MEMORY_RANGES];
        memory[0] = PhysRange {
            start: 0,
            size: 256 << 20,
        };
        let region = PhysRange {
            start: 240 << 20,
            size: SVSM_REGION_SIZE,
        };
        BootInfo {
            magic: MAGIC,
            version: VERSION,
            size: size_of::<BootInfo>() as u32,
            platform: platform::NATIVE,
            memory_count: 1,
            region,
            kernel: PhysRange {
                start: region.start,
                size: 1 << 20,
            },
            free: PhysRange {
                start: region.start + (1 << 20),
                size: 15 << 20,
            },
            page_table_root: region.start + (1 << 20),
            loader: PhysRange {
                start: 1 << 20,
                size: 1 << 20,
            },
            memory,
        }
    }

    #[test]
    fn sample_is_valid() {
        assert_eq!(sample().validate(), Ok(()));
    }

    #[test]
    fn every_broken_field_is_refused() {
        let broken: [fn(&mut BootInfo); 8] = [
            |b| b.magic ^= 1,
            |b| b.version += 1,
            |b| b.size -= 8,
            |b| b.memory_count = MAX_MEMORY_RANGES as u32 + 1,
            |b| b.kernel.start -= 4096,
            |b| b.free.start -= 4096,
            |b| b.memory_count = 0,
            |b| b.region.start = u64::MAX - 4096,
        ];
        for (index, breakage) in broken.iter().enumerate() {
            let mut info = sample();
            breakage(&mut info);
            assert!(info.validate().is_err(), "case {index}");
        }
    }
}
