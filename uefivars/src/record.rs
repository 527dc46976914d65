//! The record of one non-volatile variable, as it is stored.
//!
//! A record says all about its variable: which one it is, too. The index it is stored
//! under means nothing but the place in the enumeration, so a record can not end up
//! under the wrong name, whatever happens to indices. All numbers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `SVUV` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | flags: bit 0 = owner present, others 0 |
//! | 8 | 4 | attributes |
//! | 12 | 16 | time stamp, `EFI_TIME`; zero without authentication |
//! | 28 | 16 | namespace, `EFI_GUID` |
//! | 44 | 4 | size of the name in bytes |
//! | 48 | 4 | size of the value in bytes |
//! | 52 | 32 | owner, if present |
//! | | | name, UTF-16LE without a terminating zero |
//! | | | value |
//!
//! A record ends where its value ends.

use alloc::vec::Vec;

use uguid::Guid;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::name::Name;
use crate::variable::{Key, MAX_DATA, Owner, Variable};
use crate::{Attributes, EfiTime, Status, bytes, rules};

/// Size of the fixed part of a record, in bytes.
pub const HEADER: usize = size_of::<Header>();

const MAGIC: [u8; 4] = *b"SVUV";
const VERSION: u16 = 1;
const OWNER_PRESENT: u16 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U16,
    flags: U16,
    attributes: U32,
    time: EfiTime,
    guid: [u8; 16],
    name_bytes: U32,
    data_bytes: U32,
}

const _: () = assert!(HEADER == 52);

/// Why bytes are not the record of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it ends inside its header")]
    ShortHeader,
    #[error("its magic number is wrong")]
    Magic,
    #[error("version {0} is not known")]
    Version(u16),
    #[error("flags {0:#06x} are not known")]
    Flags(u16),
    #[error("it has {actual} bytes where its header says {expected}")]
    Length { expected: u64, actual: usize },
    #[error("the name is empty, too long or has a zero inside")]
    Name,
    #[error("attributes {0:#x} are not those of a stored variable")]
    Attributes(u32),
    #[error("the value is empty or too large")]
    Data,
    #[error("the time stamp is none, or is one of a variable without authentication")]
    Time,
    #[error("an owner is missing or too many")]
    Owner,
    #[error("it is a variable that is never stored")]
    NotStored,
    #[error("the value is none that this variable can have")]
    Value,
    #[error("out of memory")]
    OutOfMemory,
}

/// Writes the record of a variable.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn encode(variable: &Variable) -> Result<Vec<u8>, Status> {
    let name_bytes = variable.key.name.units().len() * 2;
    let owner = variable.owner.as_ref().map_or(&[][..], |owner| owner);
    let size = |len: usize| u32::try_from(len).map_err(|_| Status::OUT_OF_RESOURCES);
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        flags: if owner.is_empty() { 0 } else { OWNER_PRESENT }.into(),
        attributes: variable.attributes.0.into(),
        time: variable.time,
        guid: variable.key.guid.to_bytes(),
        name_bytes: size(name_bytes)?.into(),
        data_bytes: size(variable.data.len())?.into(),
    };
    let mut record = bytes::with_capacity(HEADER + owner.len() + name_bytes + variable.data.len())?;
    record.extend_from_slice(header.as_bytes());
    record.extend_from_slice(owner);
    record.extend(variable.key.name.le_bytes());
    record.extend_from_slice(&variable.data);
    Ok(record)
}

/// Reads the record of a variable, and lets nothing through that [`encode`] would not
/// have written for a variable that the service accepts.
///
/// # Errors
/// What is wrong with it.
pub fn decode(record: &[u8]) -> Result<Variable, RecordError> {
    let (header, rest) = Header::ref_from_prefix(record).map_err(|_| RecordError::ShortHeader)?;
    if header.magic != MAGIC {
        return Err(RecordError::Magic);
    }
    if header.version.get() != VERSION {
        return Err(RecordError::Version(header.version.get()));
    }
    let flags = header.flags.get();
    if flags & !OWNER_PRESENT != 0 {
        return Err(RecordError::Flags(flags));
    }
    let owner_bytes = if flags & OWNER_PRESENT == 0 {
        0
    } else {
        size_of::<Owner>()
    };
    let name_bytes = header.name_bytes.get() as usize;
    let data_bytes = header.data_bytes.get() as usize;
    let expected = [HEADER, owner_bytes, name_bytes, data_bytes]
        .into_iter()
        .map(|len| len as u64)
        .sum();
    if record.len() as u64 != expected {
        return Err(RecordError::Length {
            expected,
            actual: record.len(),
        });
    }
    let (owner, rest) = rest.split_at(owner_bytes);
    let (name, data) = rest.split_at(name_bytes);

    let name = Name::from_bytes(name).map_err(|status| match status {
        Status::OUT_OF_RESOURCES => RecordError::OutOfMemory,
        _ => RecordError::Name,
    })?;
    if data.is_empty() || data.len() > MAX_DATA {
        return Err(RecordError::Data);
    }
    let variable = Variable {
        key: Key {
            guid: Guid::from_bytes(header.guid),
            name,
        },
        attributes: Attributes(header.attributes.get()),
        time: header.time,
        data: bytes::copy(data).map_err(|_| RecordError::OutOfMemory)?,
        owner: owner.first_chunk().copied(),
    };
    rules::check_stored(&variable)?;
    Ok(variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guids;

    fn variable() -> Variable {
        Variable::plain(guids::GLOBAL, "Boot0001", Attributes(7), b"value").unwrap()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let plain = variable();
        assert_eq!(decode(&encode(&plain).unwrap()).unwrap(), plain);
        let owned = Variable {
            attributes: Attributes(0x27),
            time: EfiTime::new(2026, 2, 3, 4, 5, 6),
            owner: Some([7; 32]),
            key: Key::new(guids::SECURE_BOOT_ENABLE, "Private").unwrap(),
            ..variable()
        };
        assert_eq!(decode(&encode(&owned).unwrap()).unwrap(), owned);
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let mut record = encode(&variable()).unwrap();
        for len in 0..record.len() {
            assert!(decode(&record[..len]).is_err(), "{len}");
        }
        record.push(0);
        assert!(matches!(decode(&record), Err(RecordError::Length { .. })));
    }

    #[test]
    fn each_damage_has_its_own_message() {
        let good = encode(&variable()).unwrap();
        let damaged = |offset: usize, value: u8| {
            let mut record = good.clone();
            record[offset] = value;
            decode(&record).unwrap_err()
        };
        assert_eq!(damaged(0, b'X'), RecordError::Magic);
        assert_eq!(damaged(4, 2), RecordError::Version(2));
        assert_eq!(damaged(6, 2), RecordError::Flags(2));
        assert_eq!(damaged(8, 6), RecordError::Attributes(6));
        assert_eq!(damaged(8, 0x47), RecordError::Attributes(0x47));
        assert_eq!(damaged(12, 1), RecordError::Time);
        assert_eq!(damaged(8, 0x27), RecordError::Owner);
        assert_eq!(damaged(52, 0), RecordError::Name);
        for offset in [44, 48] {
            assert!(matches!(damaged(offset, 0xff), RecordError::Length { .. }));
        }
    }

    #[test]
    fn sizes_that_overflow_a_sum_are_refused() {
        let mut record = encode(&variable()).unwrap();
        record[44..52].fill(0xff);
        assert!(matches!(decode(&record), Err(RecordError::Length { .. })));
    }
}
