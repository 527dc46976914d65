//! Parameters of a command, numbered as they are read, and the parts of its answer.

use alloc::vec::Vec;

use crate::{
    crypto::Bytes,
    rc::{Numbered, Rc, Result},
    wire::{Marshal, Put, Reader, Unmarshal},
};

/// The parameter area of a command. An error in the n-th parameter read carries the number n.
pub struct Params<'a> {
    reader: Reader<'a>,
    number: u32,
}

impl<'a> Params<'a> {
    /// Parameters in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            number: 0,
        }
    }

    /// The next parameter, read by `parse`.
    pub fn with<T>(&mut self, parse: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<T> {
        self.number += 1;
        parse(&mut self.reader).p(self.number)
    }

    /// The next parameter, of a type with one reading.
    pub fn read<T: Unmarshal>(&mut self) -> Result<T> {
        self.with(|reader| T::unmarshal(reader))
    }

    /// The next parameter, a structure in a `TPM2B`.
    pub fn inside<T: Unmarshal>(&mut self) -> Result<T> {
        self.with(|reader| reader.inside(|reader| T::unmarshal(reader)))
    }

    /// The next parameter, a `TPM2B` of at most `max` bytes.
    pub fn sized(&mut self, max: usize) -> Result<Vec<u8>> {
        self.with(|reader| reader.sized_vec(max))
    }

    /// The next parameter, a `TPM2B` of at most `max` secret bytes.
    pub fn secret(&mut self, max: usize) -> Result<Bytes> {
        self.with(|reader| reader.sized_secret(max))
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// `TPM_RC_SIZE` when something does.
    pub fn end(&self) -> Result<()> {
        if self.reader.left().is_empty() {
            Ok(())
        } else {
            Err(Rc::SIZE)
        }
    }
}

/// What a command answers.
#[derive(Default)]
pub struct Reply {
    /// Handle, of the commands that answer with one.
    pub handle: Option<u32>,
    /// Parameters; wiped after use as some are secret.
    pub params: Bytes,
}

/// Most that a structure in an answer takes, but for lists, which are not secret.
const STRUCTURE: usize = 512;

impl Reply {
    /// Makes room, without leaving a copy behind: the first parameter may be a secret.
    fn reserve(&mut self, more: usize) {
        let needed = self.params.len() + more;
        if needed > self.params.capacity() {
            let mut bigger = Bytes::new(Vec::with_capacity(needed.next_power_of_two()));
            bigger.extend_from_slice(&self.params);
            self.params = bigger;
        }
    }

    /// Appends a structure.
    pub fn put(&mut self, value: &impl Marshal) -> &mut Self {
        self.reserve(STRUCTURE);
        self.params.put(value);
        self
    }
    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.reserve(bytes.len());
        self.params.raw(bytes);
        self
    }
    /// Appends a `TPM2B`.
    pub fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        self.reserve(2 + bytes.len());
        self.params.sized(bytes);
        self
    }
    /// Appends a structure inside a `TPM2B`.
    pub fn sized_of(&mut self, value: &impl Marshal) -> &mut Self {
        self.reserve(2 + STRUCTURE);
        self.params.sized_of(value);
        self
    }
}
