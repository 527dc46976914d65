//! A set of records as one string of bytes: the state file of the host server, and what the
//! offline tool exports and imports.
//!
//! Layout, big-endian: `SVSMVTPM`, version (u32), number of records (u32); per record its
//! identifier (u32), size (u32) and bytes; the SHA-256 of all that came before.
//!
//! Always true: what [`decode`] accepts, [`encode`] gives back byte for byte.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::{
    crypto::{HashAlg, ct_eq, hash},
    storage::{RecordBytes, RecordId},
};

const MAGIC: &[u8; 8] = b"SVSMVTPM";
/// Version of the layout; the records have their own.
const VERSION: u32 = 1;
const DIGEST: usize = 32;
/// Larger than any state: a bound on what is read.
pub const MAX_SIZE: usize = 1 << 20;

/// Why bytes are not an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It does not begin as one.
    #[error("not a TPM state archive")]
    Magic,
    /// A later version made it.
    #[error("TPM state archive of version {0}; this program knows version 1")]
    Version(u32),
    /// Cut short, changed, or put together wrongly.
    #[error("TPM state archive is damaged")]
    Damaged,
}

/// The records as one string of bytes. They are put in the order of their identifiers.
#[must_use]
pub fn encode(records: &[(RecordId, RecordBytes)]) -> Zeroizing<Vec<u8>> {
    let mut order: Vec<_> = records.iter().collect();
    order.sort_by_key(|(id, _)| *id);
    let size = records
        .iter()
        .map(|(_, bytes)| 8 + bytes.len())
        .sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 8 + size + DIGEST));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    // Records are far fewer and smaller than u32 can count: they were read from handles of 24 bits.
    out.extend_from_slice(&(records.len() as u32).to_be_bytes());
    for (id, bytes) in order {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    let digest = hash(HashAlg::Sha256, &[&out]);
    out.extend_from_slice(&digest);
    out
}

/// The records of an archive, in the order of their identifiers.
///
/// # Errors
/// See [`ArchiveError`].
pub fn decode(archive: &[u8]) -> Result<Vec<(RecordId, RecordBytes)>, ArchiveError> {
    let rest = archive.strip_prefix(MAGIC).ok_or(ArchiveError::Magic)?;
    let (version, rest) = number(rest)?;
    if version != VERSION {
        return Err(ArchiveError::Version(version));
    }
    let (body, digest) = archive
        .split_at_checked(archive.len().saturating_sub(DIGEST))
        .ok_or(ArchiveError::Damaged)?;
    if !ct_eq(&hash(HashAlg::Sha256, &[body]), digest) {
        return Err(ArchiveError::Damaged);
    }
    let (count, rest) = number(rest)?;
    let mut rest = &rest[..rest
        .len()
        .checked_sub(DIGEST)
        .ok_or(ArchiveError::Damaged)?];
    let mut records = Vec::new();
    for _ in 0..count {
        let (id, after) = number(rest)?;
        let (size, after) = number(after)?;
        let (bytes, after) = after
            .split_at_checked(size as usize)
            .ok_or(ArchiveError::Damaged)?;
        if records.last().is_some_and(|(last, _)| *last >= id) {
            return Err(ArchiveError::Damaged);
        }
        records.push((id, RecordBytes::new(bytes.to_vec())));
        rest = after;
    }
    if rest.is_empty() {
        Ok(records)
    } else {
        Err(ArchiveError::Damaged)
    }
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), ArchiveError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(ArchiveError::Damaged)?;
    Ok((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn records() -> Vec<(RecordId, RecordBytes)> {
        vec![
            (1, RecordBytes::new(vec![1, 2, 3])),
            (7, RecordBytes::new(vec![])),
            (0x0100_0000, RecordBytes::new(vec![9; 300])),
        ]
    }

    #[test]
    fn records_come_back_in_order() {
        let mut shuffled = records();
        shuffled.reverse();
        assert_eq!(decode(&encode(&shuffled)).unwrap(), records());
        assert_eq!(decode(&encode(&[])).unwrap(), vec![]);
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let whole = encode(&records());
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x10;
            assert!(decode(&changed).is_err(), "byte {index}");
            assert!(decode(&whole[..index]).is_err(), "first {index} bytes");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(decode(&longer), Err(ArchiveError::Damaged));
    }

    #[test]
    fn repeated_records_are_refused() {
        let mut twice = records();
        twice.push(twice[0].clone());
        assert_eq!(decode(&encode(&twice)), Err(ArchiveError::Damaged));
    }
}
