//! Where the host says the virtio-mmio slots for the SVSM are.
//!
//! A QEMU that keeps slots for an SVSM (machine option `x-svsm-virtio-mmio=on`) lists
//! them in the fw_cfg file [`FILE`]: a row of records, each a 64-bit type and a 64-bit
//! size, both little endian, and then that many bytes. The record of a slot holds the
//! 64-bit address of its registers. The host may list what it likes: an address is
//! mapped only where there is no RAM, and what lies there has to look like a device.

use alloc::vec::Vec;
use bootinfo::PhysRange;

/// Name of the file in fw_cfg.
pub const FILE: &str = "etc/hardware-info";

/// Longest file that is read, in bytes; a record of a slot has 24.
pub const FILE_LIMIT: usize = 4096;

/// Most slots that are looked at.
const MAX_SLOTS: usize = 32;

/// Type of the record of a slot.
const SLOT_RECORD: u64 = 0x1000;

/// Size of the registers of a slot in bytes, configuration space included.
const SLOT_SIZE: u64 = 512;

/// The slots that `file` lists; what follows a broken record is left out.
pub fn slots(mut file: &[u8]) -> Vec<PhysRange> {
    let mut slots = Vec::new();
    while let Some((kind, data, rest)) = next_record(file) {
        if kind == SLOT_RECORD
            && let Ok(address) = data.try_into().map(u64::from_le_bytes)
            && slots.len() < MAX_SLOTS
        {
            slots.push(PhysRange {
                start: address,
                size: SLOT_SIZE,
            });
        }
        file = rest;
    }
    slots
}

/// Type, data, and what follows the record.
fn next_record(file: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (kind, file) = file.split_first_chunk()?;
    let (size, file) = file.split_first_chunk()?;
    let size = usize::try_from(u64::from_le_bytes(*size)).ok()?;
    let (data, rest) = file.split_at_checked(size)?;
    Some((u64::from_le_bytes(*kind), data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u64, data: &[u8]) -> Vec<u8> {
        let size = data.len() as u64;
        [&kind.to_le_bytes()[..], &size.to_le_bytes(), data].concat()
    }

    fn addresses(file: &[u8]) -> Vec<u64> {
        slots(file).iter().map(|slot| slot.start).collect()
    }

    #[test]
    fn slots_are_found_between_other_records() {
        let file = [
            record(1, &[0; 40]),
            record(SLOT_RECORD, &0xfef0_0000u64.to_le_bytes()),
            record(2, b""),
            record(SLOT_RECORD, &0xfef0_1000u64.to_le_bytes()),
        ]
        .concat();
        assert_eq!(addresses(&file), [0xfef0_0000, 0xfef0_1000]);
    }

    #[test]
    fn broken_records_end_the_list() {
        let good = record(SLOT_RECORD, &7u64.to_le_bytes());
        let oversized = [SLOT_RECORD.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
        assert_eq!(
            addresses(&[good.clone(), oversized, good.clone()].concat()),
            [7]
        );
        assert_eq!(addresses(&good[..23]), [0; 0]);
        assert_eq!(addresses(&record(SLOT_RECORD, &[0; 4])), [0; 0]);
    }

    #[test]
    fn list_is_bounded() {
        let many = record(SLOT_RECORD, &[0; 8]).repeat(1000);
        assert_eq!(slots(&many).len(), MAX_SLOTS);
    }
}
