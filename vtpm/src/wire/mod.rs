//! Structures on the wire, and the response code of every way they can be wrong.
//!
//! Always true: a parser takes bytes only from its [`Reader`], allocates no more than the
//! structure's specified limit, and names the fault with the response code of Part 2 for
//! that field. A published type crate (`tpm2-protocol`) checks these encodings in the tests;
//! it is not the parser because its errors do not say which response code is due.

pub mod algorithms;
pub mod public;
pub mod signature;
pub mod structures;

use alloc::vec::Vec;

use crate::{
    crypto::Bytes,
    rc::{Rc, Result},
};

/// What is left of a buffer.
#[derive(Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> &'a [u8] {
        self.left
    }

    /// The next `n` bytes; `TPM_RC_INSUFFICIENT` when they are not there.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.left.split_at_checked(n).ok_or(Rc::INSUFFICIENT)?;
        self.left = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Rc::INSUFFICIENT)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    /// A big-endian 16-bit number.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    /// A big-endian 32-bit number.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// A big-endian 64-bit number.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A `TPMI_YES_NO`.
    pub fn yes_no(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Rc::VALUE),
        }
    }

    /// The contents of a `TPM2B` of at most `max` bytes; `TPM_RC_SIZE` when it is longer.
    pub fn sized(&mut self, max: usize) -> Result<&'a [u8]> {
        let size = usize::from(self.u16()?);
        if size > max {
            return Err(Rc::SIZE);
        }
        self.take(size)
    }

    /// Like [`Self::sized`], as an owned buffer.
    pub fn sized_vec(&mut self, max: usize) -> Result<Vec<u8>> {
        Ok(self.sized(max)?.to_vec())
    }

    /// Like [`Self::sized`], as a buffer that is zeroed when dropped.
    pub fn sized_secret(&mut self, max: usize) -> Result<Bytes> {
        Ok(Bytes::new(self.sized(max)?.to_vec()))
    }

    /// A structure inside a `TPM2B`: not empty, and exactly as long as its size says.
    pub fn inside<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let size = usize::from(self.u16()?);
        if size == 0 {
            return Err(Rc::SIZE);
        }
        let before = self.left.len();
        let value = parse(self)?;
        if before - self.left.len() == size {
            Ok(value)
        } else {
            Err(Rc::SIZE)
        }
    }
}

/// A structure that can be read from the wire.
pub trait Unmarshal: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// The response code for the first field that is wrong.
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self>;
}

/// A structure that can be written to the wire.
pub trait Marshal {
    /// Appends it to `out`.
    fn marshal(&self, out: &mut Vec<u8>);

    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.marshal(&mut out);
        out
    }
}

macro_rules! number {
    ($($type:ident)*) => {$(
        impl Unmarshal for $type {
            fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
                reader.$type()
            }
        }
        impl Marshal for $type {
            fn marshal(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
number!(u8 u16 u32 u64);

/// Appending to a response or to bytes that are hashed.
pub trait Put {
    /// Appends a structure or number.
    fn put(&mut self, value: &impl Marshal);
    /// Appends bytes as they are.
    fn raw(&mut self, bytes: &[u8]);
    /// Appends a `TPM2B`. Everything this TPM writes is far below 64 KiB.
    fn sized(&mut self, bytes: &[u8]);
    /// Appends a structure inside a `TPM2B`.
    fn sized_of(&mut self, value: &impl Marshal);
}

impl Put for Vec<u8> {
    fn put(&mut self, value: &impl Marshal) {
        value.marshal(self);
    }
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn sized(&mut self, bytes: &[u8]) {
        let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put(&size);
        self.extend(bytes.iter().take(usize::from(size)));
    }
    fn sized_of(&mut self, value: &impl Marshal) {
        let mut bytes = Bytes::new(Vec::with_capacity(1024));
        value.marshal(&mut bytes);
        self.sized(&bytes);
    }
}

/// Removes trailing zero bytes, as authorization values are compared without them.
#[must_use]
pub fn without_trailing_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    bytes.get(..end).unwrap_or_default()
}
