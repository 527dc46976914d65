//! The certificate table that a host hands out with a report.
//!
//! Layout: GHCB specification (AMD 56421), section 4.1.8.1: entries of GUID, offset and length, ended
//! by one of zeros, then the certificates. The host made it, so nothing in it is believed.

use thiserror::Error;

/// Largest table that is read, in bytes.
pub const MAX_TABLE: usize = 32 * 1024;

/// Size of an entry in bytes: GUID, offset, length.
const ENTRY: usize = 24;

/// Most entries that are read.
const MAX_ENTRIES: usize = 16;

/// Kinds of certificates, as they stand in the table: GUIDs in the byte order of UEFI.
const VCEK: [u8; 16] = guid(0x63da758d, 0xe664, 0x4564, 0xadc5_f4b93be8accd);
const VLEK: [u8; 16] = guid(0xa8074bc2, 0xa25a, 0x483e, 0xaae6_39c045a0b8a1);
const ASK: [u8; 16] = guid(0x4ab7b379, 0xbbac, 0x4fe4, 0xa02f_05aef327c782);
const ARK: [u8; 16] = guid(0xc0b406a4, 0xa803, 0x4952, 0x9743_3fb6014cd0ae);

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// Why a table cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// More than [`MAX_TABLE`].
    #[error("the certificate table has {0} bytes, at most {MAX_TABLE} are read")]
    TooLarge(usize),
    /// The entries do not end, or there are more than [`MAX_ENTRIES`].
    #[error("the certificate table has no end")]
    Unterminated,
    /// An entry points outside the table.
    #[error("the certificate table has an entry of {length} bytes at {offset}, beyond its end")]
    Bounds {
        /// Where the entry says its data begins.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// Two certificates of one kind.
    #[error("the certificate table has two certificates of the same kind")]
    Twice,
}

/// The certificates of a table, in DER (or PEM, which some hosts store).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertTable {
    /// The chip's key.
    pub vcek: Option<Vec<u8>>,
    /// The key that a cloud provider loaded in its place.
    pub vlek: Option<Vec<u8>>,
    /// AMD's intermediate key.
    pub ask: Option<Vec<u8>>,
    /// AMD's root key.
    pub ark: Option<Vec<u8>>,
}

impl CertTable {
    /// Reads a table. Entries of other kinds are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        if bytes.len() > MAX_TABLE {
            return Err(TableError::TooLarge(bytes.len()));
        }
        let mut table = Self::default();
        for entry in bytes.chunks(ENTRY).take(MAX_ENTRIES) {
            let Some((kind, rest)) = entry.split_first_chunk::<16>() else {
                return Err(TableError::Unterminated);
            };
            let Some((offset, length)) = rest.split_first_chunk::<4>() else {
                return Err(TableError::Unterminated);
            };
            let Ok(length) = <[u8; 4]>::try_from(length) else {
                return Err(TableError::Unterminated);
            };
            let (offset, length) = (u32::from_le_bytes(*offset), u32::from_le_bytes(length));
            if *kind == [0; 16] {
                return Ok(table);
            }
            let start = offset as usize;
            let data = start
                .checked_add(length as usize)
                .and_then(|end| bytes.get(start..end))
                .ok_or(TableError::Bounds { offset, length })?;
            table.put(kind, data)?;
        }
        Err(TableError::Unterminated)
    }

    fn put(&mut self, kind: &[u8; 16], data: &[u8]) -> Result<(), TableError> {
        let place = match *kind {
            VCEK => &mut self.vcek,
            VLEK => &mut self.vlek,
            ASK => &mut self.ask,
            ARK => &mut self.ark,
            _ => return Ok(()),
        };
        match place.replace(data.to_vec()) {
            None => Ok(()),
            Some(_) => Err(TableError::Twice),
        }
    }

    /// Writes a table.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries: Vec<_> = [
            (VCEK, &self.vcek),
            (VLEK, &self.vlek),
            (ASK, &self.ask),
            (ARK, &self.ark),
        ]
        .into_iter()
        .filter_map(|(kind, data)| Some((kind, data.as_deref()?)))
        .collect();
        let mut offset = ENTRY * (entries.len() + 1);
        let mut bytes = Vec::new();
        for (kind, data) in &entries {
            bytes.extend(kind);
            bytes.extend((offset as u32).to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            offset += data.len();
        }
        bytes.extend([0; ENTRY]);
        bytes.extend(entries.iter().flat_map(|(_, data)| *data));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> CertTable {
        CertTable {
            vcek: Some(vec![1; 5]),
            vlek: None,
            ask: Some(vec![2; 7]),
            ark: Some(vec![3]),
        }
    }

    #[test]
    fn table_is_read_as_it_was_written() {
        let bytes = table().to_bytes();
        assert_eq!(bytes.len(), 4 * 24 + 13);
        assert_eq!(CertTable::parse(&bytes), Ok(table()));
        assert_eq!(CertTable::parse(&[0; 24]), Ok(CertTable::default()));
    }

    #[test]
    fn guid_of_a_vcek_has_its_published_bytes() {
        assert_eq!(hex::encode(VCEK), "8d75da6364e66445adc5f4b93be8accd");
    }

    #[test]
    fn entries_beyond_the_end_are_refused() {
        for (offset, length) in [(0u32, 110u32), (u32::MAX, u32::MAX), (110, 0), (109, 1)] {
            let mut bytes = table().to_bytes();
            bytes[16..20].copy_from_slice(&offset.to_le_bytes());
            bytes[20..24].copy_from_slice(&length.to_le_bytes());
            let e = CertTable::parse(&bytes).unwrap_err();
            assert_eq!(e, TableError::Bounds { offset, length });
        }
    }

    #[test]
    fn table_without_an_end_is_refused() {
        for bytes in [&[][..], &[1; 23], &[0; 23]] {
            assert_eq!(CertTable::parse(bytes), Err(TableError::Unterminated));
        }
        let endless = [[9; 16].as_slice(), &[0; 8]]
            .concat()
            .repeat(MAX_ENTRIES + 1);
        assert_eq!(CertTable::parse(&endless), Err(TableError::Unterminated));
        let large = vec![0; MAX_TABLE + 1];
        assert_eq!(
            CertTable::parse(&large),
            Err(TableError::TooLarge(MAX_TABLE + 1))
        );
    }

    #[test]
    fn second_certificate_of_a_kind_is_refused() {
        let mut bytes = table().to_bytes();
        bytes.copy_within(0..16, 24);
        assert_eq!(CertTable::parse(&bytes), Err(TableError::Twice));
    }
}
