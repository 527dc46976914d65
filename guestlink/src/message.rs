//! The bodies of frames: an SVSM call with the guest memory it may touch, and what came
//! of it.
//!
//! A call (all numbers little endian):
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | protocol |
//! | 4 | 4 | call |
//! | 8 | 32 | RCX, RDX, R8, R9 |
//! | 40 | 8 | guest-physical address of the region |
//! | 48 | 4 | size of the region in bytes, at most [`MAX_REGION`] |
//! | 52 | 4 | zero |
//! | 56 | | the first bytes of the region; the rest of it is zero |
//!
//! An answer:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | RAX: the result code |
//! | 8 | 32 | RCX, RDX, R8, R9 |
//! | 40 | 4 | number of changes, at most [`MAX_CHANGES`] |
//! | 44 | 4 | zero |
//! | 48 | | for each change: offset in the region and length, 4 bytes each, then the bytes |
//!
//! The region is all the guest memory there is for the call.

use alloc::vec::Vec;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest region in bytes.
pub const MAX_REGION: u32 = 64 * 1024;

/// Most changes in an answer.
pub const MAX_CHANGES: usize = 32;

/// The registers that carry arguments and results.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Registers {
    rcx: U64,
    rdx: U64,
    r8: U64,
    r9: U64,
}

impl Registers {
    /// These values, in the order of the calling convention.
    pub fn new([rcx, rdx, r8, r9]: [u64; 4]) -> Self {
        Self {
            rcx: rcx.into(),
            rdx: rdx.into(),
            r8: r8.into(),
            r9: r9.into(),
        }
    }

    /// RCX, RDX, R8, R9.
    pub fn values(&self) -> [u64; 4] {
        [self.rcx.get(), self.rdx.get(), self.r8.get(), self.r9.get()]
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CallHeader {
    protocol: U32,
    call: U32,
    registers: Registers,
    base: U64,
    size: U32,
    zero: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AnswerHeader {
    result: U64,
    registers: Registers,
    count: U32,
    zero: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ChangeHeader {
    offset: U32,
    length: U32,
}

const _: () = assert!(size_of::<CallHeader>() == 56);
const _: () = assert!(size_of::<AnswerHeader>() == 48);
// The longest body has room for every call and every answer.
const _: () = assert!(size_of::<CallHeader>() + MAX_REGION as usize <= crate::MAX_BODY);
const _: () = assert!(
    size_of::<AnswerHeader>() + MAX_CHANGES * size_of::<ChangeHeader>() + MAX_REGION as usize
        <= crate::MAX_BODY
);

/// Why the SVSM did not serve a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// Damaged on the way.
    #[error("the frame was damaged on the way")]
    Damaged = 1,
    /// Of a kind that is not asked of an SVSM.
    #[error("the SVSM does not take frames of this kind")]
    Kind = 2,
    /// The body does not have the form of its kind.
    #[error("the frame's body is malformed")]
    Malformed = 3,
    /// The SVSM has no memory for it.
    #[error("the SVSM has no memory for the frame")]
    NoMemory = 4,
}

impl Refusal {
    /// The refusal with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Damaged,
            2 => Self::Kind,
            3 => Self::Malformed,
            4 => Self::NoMemory,
            _ => return None,
        })
    }
}

/// Why a body is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MessageError {
    #[error("the body is too short")]
    Short,
    #[error("a field that must be zero is not")]
    NotZero,
    #[error("region of {0} bytes, the limit is {MAX_REGION}")]
    RegionSize(u32),
    #[error("more bytes of the region than it has")]
    RegionContents,
    #[error("the region reaches beyond the end of the address space")]
    RegionAddress,
    #[error("{0} changes, the limit is {MAX_CHANGES}")]
    TooManyChanges(u32),
    #[error("bytes behind the last change")]
    Trailing,
    #[error("not enough memory for a message")]
    NoMemory,
}

/// An SVSM call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The protocol (AMD 58019, section 3.2: bits 63:32 of RAX).
    pub protocol: u32,
    /// The call of that protocol (bits 31:0 of RAX).
    pub call: u32,
    /// The arguments.
    pub registers: Registers,
    /// Guest-physical address of the region.
    pub base: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Its first bytes; the rest is zero.
    pub contents: &'a [u8],
}

impl<'a> Call<'a> {
    fn check(&self) -> Result<(), MessageError> {
        if self.size > MAX_REGION {
            return Err(MessageError::RegionSize(self.size));
        }
        if self.contents.len() > self.size as usize {
            return Err(MessageError::RegionContents);
        }
        self.base
            .checked_add(u64::from(self.size))
            .map(drop)
            .ok_or(MessageError::RegionAddress)
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`MessageError`] when it is not one of a call.
    pub fn decode(body: &'a [u8]) -> Result<Self, MessageError> {
        let (header, contents) =
            CallHeader::read_from_prefix(body).map_err(|_| MessageError::Short)?;
        if header.zero != 0 {
            return Err(MessageError::NotZero);
        }
        let call = Self {
            protocol: header.protocol.get(),
            call: header.call.get(),
            registers: header.registers,
            base: header.base.get(),
            size: header.size.get(),
            contents,
        };
        call.check()?;
        Ok(call)
    }

    /// Writes the body of a frame.
    ///
    /// # Errors
    /// [`MessageError`] when the call does not keep the limits.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        self.check()?;
        let header = CallHeader {
            protocol: self.protocol.into(),
            call: self.call.into(),
            registers: self.registers,
            base: self.base.into(),
            size: self.size.into(),
            zero: 0.into(),
        };
        let mut body = Vec::new();
        append(&mut body, header.as_bytes())?;
        append(&mut body, self.contents)?;
        Ok(body)
    }
}

/// Bytes of the region that a call wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Where in the region, in bytes.
    pub offset: u32,
    /// What is there now.
    pub bytes: &'a [u8],
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// RAX: 0, or an SVSM result code.
    pub result: u64,
    /// The registers after the call.
    pub registers: Registers,
    /// What the call wrote into the region, in order.
    pub changes: Vec<Change<'a>>,
}

impl<'a> Answer<'a> {
    /// Reads the body of a frame that answers a call with a region of `region_size` bytes.
    ///
    /// # Errors
    /// [`MessageError`] when it is not one of such an answer.
    pub fn decode(body: &'a [u8], region_size: u32) -> Result<Self, MessageError> {
        let (header, mut rest) =
            AnswerHeader::read_from_prefix(body).map_err(|_| MessageError::Short)?;
        if header.zero != 0 {
            return Err(MessageError::NotZero);
        }
        let count = header.count.get();
        if count as usize > MAX_CHANGES {
            return Err(MessageError::TooManyChanges(count));
        }
        let mut changes = Vec::new();
        changes
            .try_reserve_exact(count as usize)
            .map_err(|_| MessageError::NoMemory)?;
        for _ in 0..count {
            let (header, behind) =
                ChangeHeader::read_from_prefix(rest).map_err(|_| MessageError::Short)?;
            let (offset, length) = (header.offset.get(), header.length.get());
            if offset
                .checked_add(length)
                .is_none_or(|end| end > region_size)
            {
                return Err(MessageError::RegionContents);
            }
            let (bytes, behind) = behind
                .split_at_checked(length as usize)
                .ok_or(MessageError::Short)?;
            changes.push(Change { offset, bytes });
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(MessageError::Trailing);
        }
        Ok(Self {
            result: header.result.get(),
            registers: header.registers,
            changes,
        })
    }

    /// Writes the body of a frame.
    ///
    /// # Errors
    /// [`MessageError`] when the answer does not keep the limits.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let count = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        if count as usize > MAX_CHANGES {
            return Err(MessageError::TooManyChanges(count));
        }
        let header = AnswerHeader {
            result: self.result.into(),
            registers: self.registers,
            count: count.into(),
            zero: 0.into(),
        };
        let mut body = Vec::new();
        append(&mut body, header.as_bytes())?;
        for change in &self.changes {
            let length =
                u32::try_from(change.bytes.len()).map_err(|_| MessageError::RegionContents)?;
            let header = ChangeHeader {
                offset: change.offset.into(),
                length: length.into(),
            };
            append(&mut body, header.as_bytes())?;
            append(&mut body, change.bytes)?;
        }
        Ok(body)
    }
}

fn append(body: &mut Vec<u8>, bytes: &[u8]) -> Result<(), MessageError> {
    body.try_reserve(bytes.len())
        .map_err(|_| MessageError::NoMemory)?;
    body.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const CALL: Call<'static> = Call {
        protocol: 2,
        call: 1,
        registers: Registers {
            rcx: U64::new(0x1000),
            rdx: U64::new(2),
            r8: U64::new(3),
            r9: U64::new(4),
        },
        base: 0x1000,
        size: 4096,
        contents: b"request",
    };

    #[test]
    fn a_call_comes_back_as_it_was_sent() {
        let body = CALL.encode().unwrap();
        assert_eq!(body.len(), 56 + 7);
        assert_eq!(Call::decode(&body), Ok(CALL));
        assert_eq!(CALL.registers.values(), [0x1000, 2, 3, 4]);
    }

    #[test]
    fn a_call_beyond_the_limits_is_refused_by_both_ends() {
        let bad = |change: fn(&mut Call<'static>), error: MessageError| {
            let mut call = CALL;
            change(&mut call);
            assert_eq!(call.encode(), Err(error));
            let mut body = CALL.encode().unwrap();
            body[40..48].copy_from_slice(&call.base.to_le_bytes());
            body[48..52].copy_from_slice(&call.size.to_le_bytes());
            assert_eq!(Call::decode(&body), Err(error));
        };
        bad(
            |call| call.size = MAX_REGION + 1,
            MessageError::RegionSize(MAX_REGION + 1),
        );
        bad(
            |call| call.size = u32::MAX,
            MessageError::RegionSize(u32::MAX),
        );
        bad(|call| call.size = 6, MessageError::RegionContents);
        bad(
            |call| call.base = u64::MAX - 4094,
            MessageError::RegionAddress,
        );
    }

    #[test]
    fn a_short_or_padded_call_is_refused() {
        let body = CALL.encode().unwrap();
        for length in 0..56 {
            assert_eq!(Call::decode(&body[..length]), Err(MessageError::Short));
        }
        let mut body = body;
        body[52] = 1;
        assert_eq!(Call::decode(&body), Err(MessageError::NotZero));
    }

    #[test]
    fn an_answer_comes_back_as_it_was_sent() {
        let answer = Answer {
            result: 0x8000_0005,
            registers: Registers::new([1, 2, 3, u64::MAX]),
            changes: vec![
                Change {
                    offset: 0,
                    bytes: b"ab",
                },
                Change {
                    offset: 4090,
                    bytes: b"at end",
                },
            ],
        };
        let body = answer.encode().unwrap();
        assert_eq!(Answer::decode(&body, 4096), Ok(answer));
        assert_eq!(
            Answer::decode(&body, 4095),
            Err(MessageError::RegionContents)
        );
        for length in 0..body.len() {
            assert!(Answer::decode(&body[..length], 4096).is_err());
        }
        let mut body = body;
        body.push(0);
        assert_eq!(Answer::decode(&body, 4096), Err(MessageError::Trailing));
    }

    #[test]
    fn an_answer_with_too_many_changes_is_refused_by_both_ends() {
        let answer = |count| Answer {
            result: 0,
            registers: Registers::default(),
            changes: vec![
                Change {
                    offset: 0,
                    bytes: b""
                };
                count
            ],
        };
        let mut body = answer(MAX_CHANGES).encode().unwrap();
        assert!(Answer::decode(&body, 0).is_ok());
        assert_eq!(answer(33).encode(), Err(MessageError::TooManyChanges(33)));
        body[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Answer::decode(&body, 0),
            Err(MessageError::TooManyChanges(u32::MAX))
        );
    }
}
