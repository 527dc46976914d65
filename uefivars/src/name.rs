//! Variable names: UCS-2 code units, none of them zero, at least one.

use alloc::vec::Vec;
use core::fmt;

use crate::Status;
use crate::bytes;

/// Size of the longest name, with its terminating zero, in bytes.
pub const MAX_BYTES: usize = 1024;

/// The name of a variable, without the terminating zero.
#[derive(PartialEq, Eq)]
pub struct Name(Vec<u16>);

impl Name {
    /// Copies a name.
    ///
    /// # Errors
    /// `EFI_INVALID_PARAMETER` for one that is empty, too long or has a zero inside,
    /// `EFI_OUT_OF_RESOURCES`.
    pub fn new(units: &[u16]) -> Result<Self, Status> {
        if units.is_empty() || units.len() * 2 + 2 > MAX_BYTES || units.contains(&0) {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(Self(bytes::copy(units)?))
    }

    /// Encodes text as a name.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn from_text(text: &str) -> Result<Self, Status> {
        let mut units = Vec::new();
        for unit in text.encode_utf16() {
            bytes::push(&mut units, unit)?;
        }
        Self::new(&units)
    }

    /// Decodes UTF-16LE with its terminating zero at the end.
    ///
    /// # Errors
    /// As [`Name::new`]; a missing or early zero is `EFI_INVALID_PARAMETER`.
    pub fn from_terminated(raw: &[u8]) -> Result<Self, Status> {
        match raw.split_last_chunk::<2>() {
            Some((name, [0, 0])) => Self::from_bytes(name),
            _ => Err(Status::INVALID_PARAMETER),
        }
    }

    /// Decodes UTF-16LE without a terminating zero.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn from_bytes(raw: &[u8]) -> Result<Self, Status> {
        let (units, []) = raw.as_chunks::<2>() else {
            return Err(Status::INVALID_PARAMETER);
        };
        if raw.is_empty() || raw.len() + 2 > MAX_BYTES || units.contains(&[0, 0]) {
            return Err(Status::INVALID_PARAMETER);
        }
        let mut name = Vec::new();
        name.try_reserve_exact(units.len())
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        name.extend(units.iter().map(|unit| u16::from_le_bytes(*unit)));
        Ok(Self(name))
    }

    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// The UTF-16LE bytes, without the terminating zero.
    pub fn le_bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|unit| unit.to_le_bytes())
    }

    /// Size with the terminating zero, in bytes.
    pub fn size(&self) -> usize {
        self.0.len() * 2 + 2
    }

    /// Whether this is the name that `text` spells.
    pub fn is(&self, text: &str) -> bool {
        text.encode_utf16().eq(self.0.iter().copied())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in char::decode_utf16(self.0.iter().copied()) {
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            // A guest chose the name; it does not get to steer a terminal.
            if c.is_control() {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminated_names_without_zeros_inside_are_names() {
        assert!(Name::from_terminated(b"P\0K\0\0\0").unwrap().is("PK"));
        for bad in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"P\0",
            b"P\0K\0",
            b"P\0\0\0K\0\0\0",
            b"P\0K\0\0",
            &[1; MAX_BYTES + 2],
        ] {
            assert_eq!(Name::from_terminated(bad), Err(Status::INVALID_PARAMETER));
        }
        let mut longest = [0x41; MAX_BYTES];
        longest[MAX_BYTES - 2..].fill(0);
        assert_eq!(Name::from_terminated(&longest).unwrap().size(), MAX_BYTES);
    }

    #[test]
    fn control_characters_do_not_reach_a_log() {
        extern crate std;
        let name = Name::from_text("a\x1b[2Jb").unwrap();
        assert_eq!(std::format!("{name}"), "a\\u{1b}[2Jb");
    }
}
