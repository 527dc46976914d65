//! The machine's RAM: whole pages, ascending, no two ranges touch or overlap.
//!
//! Built from what the host reports, in any order. What the host reports as something
//! else than RAM is never RAM, whatever other entries say.

use crate::PAGE_SIZE;
use bootinfo::{MAX_MEMORY_RANGES, PhysRange};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Most entries a host may report.
pub const MAX_ENTRIES: usize = 256;

/// Physical addresses end here on any x86-64 CPU (52 bits).
const ADDRESS_END: u64 = 1 << 52;

/// `hvm_memmap_table_entry` (Xen, "x86/HVM direct boot ABI").
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PvhEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<PvhEntry>() == PVH_ENTRY_SIZE);

/// Size of one entry of a PVH memory map in bytes.
pub const PVH_ENTRY_SIZE: usize = 24;

/// `XEN_HVM_MEMMAP_TYPE_RAM`.
const PVH_RAM: u32 = 1;

/// `IGVM_VHS_MEMORY_MAP_ENTRY` (IGVM file format).
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IgvmEntry {
    first_page: u64,
    pages: u64,
    kind: u16,
    flags: u16,
    reserved: u32,
}

const _: () = assert!(size_of::<IgvmEntry>() == IGVM_ENTRY_SIZE);

/// Size of one entry of an IGVM memory map in bytes.
pub const IGVM_ENTRY_SIZE: usize = 24;

/// `MemoryMapEntryType::MEMORY`.
const IGVM_MEMORY: u16 = 0;

/// Why a memory map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryMapError {
    /// The table has no whole number of entries, or too many.
    #[error("memory map is {0} bytes long")]
    Length(usize),
    /// An entry reaches past the physical address space.
    #[error("memory map entry at {start:#x} with {size:#x} bytes is out of range")]
    Entry {
        /// Start of the entry in bytes.
        start: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// More separate ranges of RAM than [`MAX_MEMORY_RANGES`].
    #[error("memory map has more than {MAX_MEMORY_RANGES} ranges of RAM")]
    Fragmented,
    /// No RAM at all.
    #[error("memory map has no RAM")]
    Empty,
}

/// The machine's RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    ranges: [PhysRange; MAX_MEMORY_RANGES],
    count: usize,
}

impl MemoryMap {
    /// Reads the memory map of a PVH boot (`hvm_start_info.memmap_paddr`).
    pub fn from_pvh(table: &[u8]) -> Result<Self, MemoryMapError> {
        Self::build(table, PVH_ENTRY_SIZE, |bytes| {
            let entry = PvhEntry::read_from_bytes(bytes).ok()?;
            Some((entry.address, entry.size, entry.kind == PVH_RAM))
        })
    }

    /// Reads the memory map that an IGVM loader deposits: ends with an entry of no
    /// pages, or with the area.
    pub fn from_igvm(area: &[u8]) -> Result<Self, MemoryMapError> {
        let used = area
            .chunks_exact(IGVM_ENTRY_SIZE)
            .take_while(|bytes| IgvmEntry::read_from_bytes(bytes).is_ok_and(|e| e.pages != 0))
            .count();
        Self::build(&area[..used * IGVM_ENTRY_SIZE], IGVM_ENTRY_SIZE, |bytes| {
            let entry = IgvmEntry::read_from_bytes(bytes).ok()?;
            // Saturated values fail the range check.
            Some((
                entry.first_page.saturating_mul(PAGE_SIZE),
                entry.pages.saturating_mul(PAGE_SIZE),
                entry.kind == IGVM_MEMORY,
            ))
        })
    }

    /// Two passes: first all RAM is added, then everything else is cut out of it.
    fn build(
        table: &[u8],
        entry_size: usize,
        parse: impl Fn(&[u8]) -> Option<(u64, u64, bool)>,
    ) -> Result<Self, MemoryMapError> {
        if !table.len().is_multiple_of(entry_size) || table.len() / entry_size > MAX_ENTRIES {
            return Err(MemoryMapError::Length(table.len()));
        }
        let mut map = Self {
            ranges: [PhysRange::default(); MAX_MEMORY_RANGES],
            count: 0,
        };
        for ram_pass in [true, false] {
            for bytes in table.chunks_exact(entry_size) {
                let (start, size, ram) = parse(bytes).ok_or(MemoryMapError::Length(table.len()))?;
                let end = start
                    .checked_add(size)
                    .filter(|end| *end <= ADDRESS_END)
                    .ok_or(MemoryMapError::Entry { start, size })?;
                match (ram_pass, ram) {
                    (true, true) => map.add(start, end)?,
                    (false, false) => map.cut(start, end)?,
                    _ => {}
                }
            }
        }
        if map.count == 0 {
            return Err(MemoryMapError::Empty);
        }
        Ok(map)
    }

    /// The ranges of RAM.
    pub fn ranges(&self) -> &[PhysRange] {
        &self.ranges[..self.count]
    }

    /// Adds the whole pages inside `start..end`, merged with what they touch.
    fn add(&mut self, start: u64, end: u64) -> Result<(), MemoryMapError> {
        let mut start = start.next_multiple_of(PAGE_SIZE);
        let mut end = end - end % PAGE_SIZE;
        if start >= end {
            return Ok(());
        }
        // `first..last` are the ranges that touch the new one.
        let first = self.ranges().partition_point(|r| r.end() < start);
        let last = self.ranges().partition_point(|r| r.start <= end);
        if first < last {
            start = start.min(self.ranges[first].start);
            end = end.max(self.ranges[last - 1].end());
        }
        self.replace(first, last, &[range(start, end)])
    }

    /// Removes every page that `start..end` touches.
    fn cut(&mut self, start: u64, end: u64) -> Result<(), MemoryMapError> {
        if start >= end {
            return Ok(());
        }
        let start = start - start % PAGE_SIZE;
        let end = end.next_multiple_of(PAGE_SIZE);
        let first = self.ranges().partition_point(|r| r.end() <= start);
        let last = self.ranges().partition_point(|r| r.start < end);
        if first >= last {
            return Ok(());
        }
        let below = range(self.ranges[first].start, start);
        let above = range(end, self.ranges[last - 1].end());
        match (below.size, above.size) {
            (0, 0) => self.replace(first, last, &[]),
            (_, 0) => self.replace(first, last, &[below]),
            (0, _) => self.replace(first, last, &[above]),
            _ => self.replace(first, last, &[below, above]),
        }
    }

    /// Replaces the ranges `first..last` by `new`.
    fn replace(
        &mut self,
        first: usize,
        last: usize,
        new: &[PhysRange],
    ) -> Result<(), MemoryMapError> {
        let count = self.count - (last - first) + new.len();
        if count > MAX_MEMORY_RANGES {
            return Err(MemoryMapError::Fragmented);
        }
        self.ranges.copy_within(last..self.count, first + new.len());
        self.ranges[first..first + new.len()].copy_from_slice(new);
        self.count = count;
        Ok(())
    }
}

/// `start..end`, empty where they cross.
const fn range(start: u64, end: u64) -> PhysRange {
    PhysRange {
        start,
        size: end.saturating_sub(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn pvh(entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut table = Vec::new();
        for (address, size, kind) in entries {
            table.extend(address.to_le_bytes());
            table.extend(size.to_le_bytes());
            table.extend(kind.to_le_bytes());
            table.extend([0; 4]);
        }
        table
    }

    fn igvm(entries: &[(u64, u64, u16)]) -> Vec<u8> {
        let mut table = Vec::new();
        for (page, pages, kind) in entries {
            table.extend(page.to_le_bytes());
            table.extend(pages.to_le_bytes());
            table.extend(kind.to_le_bytes());
            table.extend([0; 6]);
        }
        table
    }

    fn ranges(map: Result<MemoryMap, MemoryMapError>) -> Vec<(u64, u64)> {
        let map = map.expect("a usable map");
        map.ranges().iter().map(|r| (r.start, r.end())).collect()
    }

    #[test]
    fn entries_are_sorted_and_merged() {
        let table = pvh(&[
            (0x10_0000, 0x10_0000, 1),
            (0, 0xa_0000, 1),
            (0x18_0000, 0x20_0000, 1),
            (0x1_0000_0000, 0x1000_0000, 1),
        ]);
        assert_eq!(
            ranges(MemoryMap::from_pvh(&table)),
            [
                (0, 0xa_0000),
                (0x10_0000, 0x38_0000),
                (0x1_0000_0000, 0x1_1000_0000)
            ]
        );
    }

    #[test]
    fn ram_is_whole_pages_only() {
        let table = pvh(&[(1, 0x9_fc00, 1), (0x20_0001, 0xffe, 1), (0x30_0000, 0, 1)]);
        assert_eq!(ranges(MemoryMap::from_pvh(&table)), [(0x1000, 0x9_f000)]);
    }

    #[test]
    fn what_is_not_ram_is_cut_out() {
        let table = pvh(&[
            (0x8_0fff, 2, 2),
            (0xf_0000, 0x2_0000, 2),
            (0, 0x10_0000, 1),
            (0x10_0000, 0x10_0000, 1),
            (0x1f_ffff, 1, 3),
            (0x40_0000, 0x1000, 1),
            (0x40_0000, 0x1000, 2),
        ]);
        assert_eq!(
            ranges(MemoryMap::from_pvh(&table)),
            [(0, 0x8_0000), (0x8_2000, 0xf_0000), (0x11_0000, 0x1f_f000)]
        );
    }

    #[test]
    fn igvm_map_ends_at_the_empty_entry() {
        let mut table = igvm(&[(0, 0xa0, 0), (0x100, 0x100, 0), (0xf0, 0x10, 1), (0, 0, 0)]);
        table.extend(igvm(&[(0x1000, 1, 0)]));
        table.extend([0xff; 7]);
        assert_eq!(
            ranges(MemoryMap::from_igvm(&table)),
            [(0, 0xa_0000), (0x10_0000, 0x20_0000)]
        );
    }

    #[test]
    fn igvm_map_may_fill_its_area() {
        let table = igvm(&[(0, 1, 0); 170]);
        assert_eq!(ranges(MemoryMap::from_igvm(&table)), [(0, 0x1000)]);
    }

    #[test]
    fn hostile_entries_are_refused() {
        for (start, size) in [
            (u64::MAX, 1),
            (0, u64::MAX),
            (0x1000, u64::MAX - 0xfff),
            (ADDRESS_END, 1),
        ] {
            for kind in [1, 2] {
                let table = pvh(&[(0, 0x1000, 1), (start, size, kind)]);
                assert_eq!(
                    MemoryMap::from_pvh(&table),
                    Err(MemoryMapError::Entry { start, size })
                );
            }
        }
        let table = igvm(&[(u64::MAX, 1, 0)]);
        assert!(MemoryMap::from_igvm(&table).is_err());
        let table = igvm(&[(1, u64::MAX, 0)]);
        assert!(MemoryMap::from_igvm(&table).is_err());
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let table = pvh(&[(0, 0x1000, 1)]);
        assert_eq!(
            MemoryMap::from_pvh(&table[..23]),
            Err(MemoryMapError::Length(23))
        );
        let table = pvh(&[(0, 0x1000, 1); MAX_ENTRIES + 1]);
        assert_eq!(
            MemoryMap::from_pvh(&table),
            Err(MemoryMapError::Length(table.len()))
        );
        assert_eq!(MemoryMap::from_pvh(&[]), Err(MemoryMapError::Empty));
        assert_eq!(MemoryMap::from_igvm(&[]), Err(MemoryMapError::Empty));
        let table = pvh(&[(0, 0x1000, 2)]);
        assert_eq!(MemoryMap::from_pvh(&table), Err(MemoryMapError::Empty));
    }

    #[test]
    fn too_many_separate_ranges_are_refused() {
        let entries: Vec<_> = (0..=MAX_MEMORY_RANGES as u64)
            .map(|i| (i * 0x2000, 0x1000, 1))
            .collect();
        assert_eq!(
            MemoryMap::from_pvh(&pvh(&entries)),
            Err(MemoryMapError::Fragmented)
        );
        let map = MemoryMap::from_pvh(&pvh(&entries[1..])).expect("64 ranges fit");
        assert_eq!(map.ranges().len(), MAX_MEMORY_RANGES);
        // A cut that splits one range needs one more place.
        let mut entries: Vec<_> = (1..=MAX_MEMORY_RANGES as u64)
            .map(|i| (i * 0x4000, 0x3000, 1))
            .collect();
        entries.push((0x5000, 0x1000, 2));
        assert_eq!(
            MemoryMap::from_pvh(&pvh(&entries)),
            Err(MemoryMapError::Fragmented)
        );
    }

    /// Compares with a page-by-page model, over many small random maps.
    #[test]
    fn map_agrees_with_a_page_by_page_model() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..2000 {
            let entries: Vec<_> = (0..8)
                .map(|_| {
                    (
                        random(40) * 0x800,
                        random(20) * 0x800,
                        1 + (random(3) == 0) as u32,
                    )
                })
                .collect();
            let inside = |page: u64, kind: u32| {
                entries.iter().any(|(start, size, entry_kind)| {
                    let (page_start, page_end) = (page * 0x1000, (page + 1) * 0x1000);
                    kind == *entry_kind
                        && *size != 0
                        && if kind == 1 {
                            *start <= page_start && start + size >= page_end
                        } else {
                            *start < page_end && start + size > page_start
                        }
                })
            };
            let expected: Vec<u64> = (0..64)
                .filter(|p| inside(*p, 1) && !inside(*p, 2))
                .collect();
            let found: Vec<u64> = match MemoryMap::from_pvh(&pvh(&entries)) {
                Ok(map) => {
                    assert!(map.ranges().windows(2).all(|w| w[0].end() <= w[1].start));
                    map.ranges()
                        .iter()
                        .flat_map(|r| r.start / 0x1000..r.end() / 0x1000)
                        .collect()
                }
                Err(error) => {
                    assert_eq!(error, MemoryMapError::Empty);
                    Vec::new()
                }
            };
            assert_eq!(found, expected, "{entries:x?}");
        }
    }
}
