//! Where the SVSM lives: the highest place below 4 GiB that is RAM, aligned, and not
//! in use by the boot image.
//!
//! High, so that the guest's low memory stays in one piece; below 4 GiB, because that
//! is what stage2 can reach.

use crate::memory_map::MemoryMap;
use bootinfo::loader::REACHABLE_END;
use bootinfo::{PhysRange, SVSM_REGION_ALIGN, SVSM_REGION_SIZE};

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {} MiB of free RAM below 4 GiB for the SVSM", SVSM_REGION_SIZE >> 20)]
pub struct NoRegion;

/// Chooses the SVSM region, which overlaps none of `in_use`.
pub fn choose(memory: &MemoryMap, in_use: &[PhysRange]) -> Result<PhysRange, NoRegion> {
    memory
        .ranges()
        .iter()
        .rev()
        .find_map(|ram| highest_inside(ram, in_use))
        .ok_or(NoRegion)
}

/// The highest place in one range of RAM.
fn highest_inside(ram: &PhysRange, in_use: &[PhysRange]) -> Option<PhysRange> {
    let mut end = ram.end().min(REACHABLE_END);
    loop {
        let start = end.checked_sub(SVSM_REGION_SIZE)?;
        let region = PhysRange {
            start: start - start % SVSM_REGION_ALIGN,
            size: SVSM_REGION_SIZE,
        };
        // Physical address zero is never handed out: it reads as "none".
        if region.start < ram.start || region.start == 0 {
            return None;
        }
        match in_use.iter().find(|used| used.overlaps(&region)) {
            // Each turn ends lower than the one before.
            Some(used) => end = used.start,
            None => return Some(region),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;
    const IMAGE: PhysRange = PhysRange {
        start: MIB,
        size: MIB,
    };

    fn memory(ranges: &[(u64, u64)]) -> MemoryMap {
        let mut table = Vec::new();
        for (start, end) in ranges {
            table.extend((start / 4096).to_le_bytes());
            table.extend(((end - start) / 4096).to_le_bytes());
            table.extend([0; 8]);
        }
        MemoryMap::from_igvm(&table).expect("a usable map")
    }

    fn start(ranges: &[(u64, u64)], in_use: &[PhysRange]) -> Option<u64> {
        let region = choose(&memory(ranges), in_use).ok()?;
        assert_eq!(region.size, SVSM_REGION_SIZE);
        Some(region.start)
    }

    #[test]
    fn highest_place_below_4_gib_is_taken() {
        assert_eq!(start(&[(0, 256 * MIB)], &[IMAGE]), Some(240 * MIB));
        assert_eq!(start(&[(0, 255 * MIB)], &[IMAGE]), Some(238 * MIB));
        assert_eq!(
            start(&[(0, 3072 * MIB), (4096 * MIB, 9000 * MIB)], &[IMAGE]),
            Some(3056 * MIB)
        );
        assert_eq!(start(&[(0, 9000 * MIB)], &[IMAGE]), Some(4080 * MIB));
    }

    #[test]
    fn image_in_use_is_avoided() {
        let high = PhysRange {
            start: 250 * MIB,
            size: MIB,
        };
        assert_eq!(start(&[(0, 256 * MIB)], &[IMAGE, high]), Some(234 * MIB));
        assert_eq!(start(&[(0, 256 * MIB)], &[high, IMAGE]), Some(234 * MIB));
        assert_eq!(
            start(&[(0, 64 * MIB), (240 * MIB, 256 * MIB)], &[IMAGE, high]),
            Some(48 * MIB)
        );
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert_eq!(start(&[(0, 17 * MIB)], &[IMAGE]), None);
        assert_eq!(start(&[(0, 16 * MIB)], &[]), None, "not at address zero");
        assert_eq!(start(&[(0, 18 * MIB)], &[IMAGE]), Some(2 * MIB));
        assert_eq!(start(&[(4096 * MIB, 8192 * MIB)], &[IMAGE]), None);
        assert_eq!(start(&[(3 * MIB, 19 * MIB)], &[IMAGE]), None);
    }
}
