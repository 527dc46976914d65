//! What goes over the line: a header of [`HEADER_LEN`] bytes, then the body.
//!
//! | offset | size | header field |
//! |---|---|---|
//! | 0 | 4 | magic number and version: [`MAGIC`] |
//! | 4 | 1 | kind |
//! | 5 | 3 | zero |
//! | 8 | 4 | sequence number; an answer has that of its question |
//! | 12 | 4 | length of the body in bytes, at most [`MAX_BODY`] |
//! | 16 | 4 | CRC-32 of the body |
//! | 20 | 4 | CRC-32 of the 20 bytes before |
//!
//! All numbers are little endian. The CRC is that of IEEE 802.3.

use alloc::vec::Vec;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of every frame; the last one is the version.
pub const MAGIC: [u8; 4] = [0xfb, b'G', b'L', 1];

/// Length of a header in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Longest body in bytes: a region of 64 KiB and what is said about it.
pub const MAX_BODY: usize = 64 * 1024 + 512;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Asks whether anybody is there; changes nothing, so it may be repeated.
    Hello = 1,
    /// An SVSM call.
    Call = 2,
    /// Asks the SVSM to stop serving.
    Shutdown = 3,
    /// Answer to [`Kind::Hello`] and [`Kind::Shutdown`], without a body.
    Done = 0x81,
    /// Answer to [`Kind::Call`]: the call was served, with whatever result.
    Answer = 0x82,
    /// A frame that was not served; the body is one byte, a [`crate::Refusal`].
    Refused = 0x83,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Call,
            3 => Self::Shutdown,
            0x81 => Self::Done,
            0x82 => Self::Answer,
            0x83 => Self::Refused,
            _ => return None,
        })
    }
}

/// Why bytes are no frame, or a frame cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than [`MAX_BODY`].
    #[error("body of {0} bytes, the limit is {MAX_BODY}")]
    TooLong(usize),
    /// The allocator has no room for it.
    #[error("not enough memory for a frame")]
    NoMemory,
}

/// The header as it lies in memory and on the line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    magic: [u8; 4],
    kind: u8,
    zero: [u8; 3],
    sequence: U32,
    length: U32,
    body_crc: U32,
    header_crc: U32,
}

const _: () = assert!(HEADER_LEN == 24);

/// Bytes of the header that its own checksum covers.
const COVERED: usize = HEADER_LEN - 4;

impl Header {
    fn new(kind: Kind, sequence: u32, body: &[u8]) -> Result<Self, FrameError> {
        let too_long = FrameError::TooLong(body.len());
        if body.len() > MAX_BODY {
            return Err(too_long);
        }
        let mut header = Self {
            magic: MAGIC,
            kind: kind as u8,
            zero: [0; 3],
            sequence: sequence.into(),
            length: u32::try_from(body.len()).map_err(|_| too_long)?.into(),
            body_crc: crc32fast::hash(body).into(),
            header_crc: 0.into(),
        };
        header.header_crc = header.crc().into();
        Ok(header)
    }

    fn crc(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..COVERED])
    }

    /// The header in `bytes`, if it is one and its body is acceptable.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let header = Self::read_from_bytes(bytes).ok()?;
        let plausible = header.magic == MAGIC
            && header.zero == [0; 3]
            && header.length.get() as usize <= MAX_BODY
            && header.header_crc.get() == header.crc();
        plausible.then_some(header)
    }

    pub(crate) fn body_len(&self) -> usize {
        self.length.get() as usize
    }

    pub(crate) fn fits(&self, body: &[u8]) -> bool {
        self.body_crc.get() == crc32fast::hash(body)
    }

    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.sequence.get()
    }
}

/// A frame that has arrived; both its checksums fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The number of its [`Kind`], which the receiver may not know.
    pub kind: u8,
    /// Its sequence number.
    pub sequence: u32,
    /// Its body.
    pub body: &'a [u8],
}

/// Appends a frame to `out`.
///
/// # Errors
/// [`FrameError`]; `out` is then as it was.
pub fn encode(kind: Kind, sequence: u32, body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let header = Header::new(kind, sequence, body)?;
    out.try_reserve(HEADER_LEN + body.len())
        .map_err(|_| FrameError::NoMemory)?;
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut frame = Vec::new();
        encode(Kind::Call, 0x0403_0201, b"body", &mut frame).unwrap();
        assert_eq!(
            frame[..20],
            [
                0xfb, b'G', b'L', 1, 2, 0, 0, 0, 1, 2, 3, 4, 4, 0, 0, 0, 0xb2, 0x0b, 0xa8, 0xdb
            ]
        );
        assert_eq!(&frame[HEADER_LEN..], b"body");
    }

    #[test]
    fn a_body_beyond_the_limit_is_not_sent() {
        let mut out = Vec::new();
        let body = vec![0; MAX_BODY + 1];
        assert_eq!(
            encode(Kind::Call, 0, &body, &mut out),
            Err(FrameError::TooLong(MAX_BODY + 1))
        );
        assert!(out.is_empty());
        assert_eq!(encode(Kind::Call, 0, &body[1..], &mut out), Ok(()));
    }

    #[test]
    fn kinds_have_one_number_each() {
        for number in 0..=u8::MAX {
            if let Some(kind) = Kind::from_number(number) {
                assert_eq!(kind as u8, number);
            }
        }
    }
}
