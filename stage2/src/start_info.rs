//! `hvm_start_info`, what a PVH boot hands over in EBX.
//!
//! Xen, "x86/HVM direct boot ABI"; only the memory map is used.

use crate::memory_map::{MAX_ENTRIES, PVH_ENTRY_SIZE};
use bootinfo::PhysRange;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// `XEN_HVM_START_MAGIC_VALUE`.
pub const MAGIC: u32 = 0x336e_c578;

/// The structure, as of version 1 (the first with a memory map).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// Size of [`StartInfo`] in bytes.
pub const SIZE: usize = 56;

const _: () = assert!(size_of::<StartInfo>() == SIZE);

/// Why a start-info structure cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartInfoError {
    /// Not started by the PVH protocol.
    #[error("no PVH start information (magic number {0:#x})")]
    Magic(u32),
    /// Too old to carry a memory map.
    #[error("PVH start information has version {0}, which has no memory map")]
    Version(u32),
    /// The structure is incomplete.
    #[error("PVH start information is cut off")]
    Length,
    /// No entries, or more than anyone needs.
    #[error("PVH memory map has {0} entries")]
    Entries(u32),
}

impl StartInfo {
    /// Reads the structure from memory.
    pub fn parse(bytes: &[u8]) -> Result<Self, StartInfoError> {
        let (info, _) = Self::read_from_prefix(bytes).map_err(|_| StartInfoError::Length)?;
        if info.magic != MAGIC {
            return Err(StartInfoError::Magic(info.magic));
        }
        if info.version < 1 {
            return Err(StartInfoError::Version(info.version));
        }
        Ok(info)
    }

    /// Where the memory map lies. The caller checks that it can reach it.
    pub fn memory_map(&self) -> Result<PhysRange, StartInfoError> {
        let entries = self.memory_map_entries;
        if entries == 0 || entries as usize > MAX_ENTRIES {
            return Err(StartInfoError::Entries(entries));
        }
        Ok(PhysRange {
            start: self.memory_map,
            size: u64::from(entries) * PVH_ENTRY_SIZE as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = 1;
        bytes[40..48].copy_from_slice(&0x8_1234_u64.to_le_bytes());
        bytes[48] = 5;
        bytes
    }

    #[test]
    fn memory_map_is_found() {
        let info = StartInfo::parse(&sample()).expect("a good structure");
        assert_eq!(
            info.memory_map(),
            Ok(PhysRange {
                start: 0x8_1234,
                size: 5 * 24
            })
        );
    }

    #[test]
    fn broken_structures_are_refused() {
        let mut bytes = sample();
        bytes[0] ^= 1;
        assert!(matches!(
            StartInfo::parse(&bytes),
            Err(StartInfoError::Magic(_))
        ));
        let mut bytes = sample();
        bytes[4] = 0;
        assert!(matches!(
            StartInfo::parse(&bytes),
            Err(StartInfoError::Version(0))
        ));
        assert!(matches!(
            StartInfo::parse(&sample()[..SIZE - 1]),
            Err(StartInfoError::Length)
        ));
        for count in [0_u32, MAX_ENTRIES as u32 + 1, u32::MAX] {
            let mut bytes = sample();
            bytes[48..52].copy_from_slice(&count.to_le_bytes());
            let info = StartInfo::parse(&bytes).expect("only the count is wrong");
            assert_eq!(info.memory_map(), Err(StartInfoError::Entries(count)));
        }
    }
}
