//! The guest's memory as calls reach it.
//!
//! Nothing here can be dereferenced: bytes are copied out and in. A [`Reader`] only moves
//! forward, so a byte that the guest could change between two looks is looked at once.

/// Size of a page in bytes.
pub const PAGE: usize = 4096;

/// An address is not one that the guest may name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAddress;

/// Bytes of guest-physical memory: at least one, and none beyond the end of the address
/// space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    start: u64,
    size: u64,
}

impl GuestRange {
    /// `size` bytes from `start`.
    ///
    /// # Errors
    /// [`InvalidAddress`] for none, and for such as wrap around.
    pub fn new(start: u64, size: u64) -> Result<Self, InvalidAddress> {
        if size == 0 || start.checked_add(size).is_none() {
            return Err(InvalidAddress);
        }
        Ok(Self { start, size })
    }

    /// The same range, if it begins with a page.
    ///
    /// # Errors
    /// [`InvalidAddress`] when it does not.
    pub fn page_aligned(self) -> Result<Self, InvalidAddress> {
        match self.start % PAGE as u64 {
            0 => Ok(self),
            _ => Err(InvalidAddress),
        }
    }

    /// The same range, if it does not cross the end of a page.
    ///
    /// # Errors
    /// [`InvalidAddress`] when it does.
    pub fn in_one_page(self) -> Result<Self, InvalidAddress> {
        if self.start % PAGE as u64 + self.size <= PAGE as u64 {
            Ok(self)
        } else {
            Err(InvalidAddress)
        }
    }

    /// First address.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// First address behind it.
    pub const fn end(&self) -> u64 {
        self.start + self.size
    }
}

/// What a guest may name: its memory, without pages that the SVSM keeps for itself or
/// that hold the state of its CPUs.
pub trait GuestMemory {
    /// Whether all of `range` may be named.
    fn contains(&self, range: GuestRange) -> bool;

    /// Copies the bytes from `start` on out.
    ///
    /// # Errors
    /// [`InvalidAddress`] when they cannot be reached.
    fn copy_out(&self, start: u64, out: &mut [u8]) -> Result<(), InvalidAddress>;

    /// Copies `bytes` in, from `start` on.
    ///
    /// # Errors
    /// [`InvalidAddress`] when they cannot be reached.
    fn copy_in(&mut self, start: u64, bytes: &[u8]) -> Result<(), InvalidAddress>;
}

/// Reads a range from its beginning, each byte once.
pub struct Reader<'m> {
    memory: &'m dyn GuestMemory,
    next: u64,
    end: u64,
}

impl<'m> Reader<'m> {
    /// At the beginning of `range`.
    ///
    /// # Errors
    /// [`InvalidAddress`] when the guest may not name all of it.
    pub fn new(memory: &'m dyn GuestMemory, range: GuestRange) -> Result<Self, InvalidAddress> {
        if !memory.contains(range) {
            return Err(InvalidAddress);
        }
        Ok(Self {
            memory,
            next: range.start(),
            end: range.end(),
        })
    }

    /// Fills `out` with what comes next.
    ///
    /// # Errors
    /// [`InvalidAddress`] at the end of the range.
    pub fn read(&mut self, out: &mut [u8]) -> Result<(), InvalidAddress> {
        let end = self
            .next
            .checked_add(out.len() as u64)
            .filter(|end| *end <= self.end)
            .ok_or(InvalidAddress)?;
        self.memory.copy_out(self.next, out)?;
        self.next = end;
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`InvalidAddress`] at the end of the range.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidAddress> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}

/// Writes `bytes` to the beginning of `range`.
///
/// # Errors
/// [`InvalidAddress`] when the guest may not name all of it, or it is shorter than `bytes`.
pub fn write(
    memory: &mut dyn GuestMemory,
    range: GuestRange,
    bytes: &[u8],
) -> Result<(), InvalidAddress> {
    if !memory.contains(range) || bytes.len() as u64 > range.size() {
        return Err(InvalidAddress);
    }
    memory.copy_in(range.start(), bytes)
}

/// Guest memory for tests.
#[cfg(test)]
pub mod fake {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    /// One piece of memory that fails a test when a byte is read twice before a call ends.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FakeMemory {
        /// Address of the first byte.
        pub base: u64,
        /// The bytes.
        pub bytes: Vec<u8>,
        read: RefCell<Vec<bool>>,
    }

    impl FakeMemory {
        /// `size` zeros at `base`.
        pub fn new(base: u64, size: usize) -> Self {
            Self {
                base,
                bytes: vec![0; size],
                read: RefCell::new(vec![false; size]),
            }
        }

        /// Puts `bytes` at `address`.
        pub fn put(&mut self, address: u64, bytes: &[u8]) {
            let at = (address - self.base) as usize;
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }

        /// The `size` bytes at `address`.
        pub fn at(&self, address: u64, size: usize) -> &[u8] {
            &self.bytes[(address - self.base) as usize..][..size]
        }

        /// A new call begins.
        pub fn new_call(&mut self) {
            self.read.borrow_mut().fill(false);
        }

        fn index(&self, start: u64, size: usize) -> Result<usize, InvalidAddress> {
            let at = start.checked_sub(self.base).ok_or(InvalidAddress)? as usize;
            at.checked_add(size)
                .filter(|end| *end <= self.bytes.len())
                .map(|_| at)
                .ok_or(InvalidAddress)
        }
    }

    impl GuestMemory for FakeMemory {
        fn contains(&self, range: GuestRange) -> bool {
            self.index(range.start(), range.size() as usize).is_ok()
        }

        fn copy_out(&self, start: u64, out: &mut [u8]) -> Result<(), InvalidAddress> {
            let at = self.index(start, out.len())?;
            for (offset, seen) in self.read.borrow_mut()[at..at + out.len()]
                .iter_mut()
                .enumerate()
            {
                assert!(!*seen, "byte {:#x} was read twice", start + offset as u64);
                *seen = true;
            }
            out.copy_from_slice(&self.bytes[at..at + out.len()]);
            Ok(())
        }

        fn copy_in(&mut self, start: u64, bytes: &[u8]) -> Result<(), InvalidAddress> {
            let at = self.index(start, bytes.len())?;
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeMemory;
    use super::*;

    #[test]
    fn ranges_do_not_wrap_and_are_not_empty() {
        for (start, size) in [(0, 0), (4096, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(GuestRange::new(start, size), Err(InvalidAddress));
        }
        let range = GuestRange::new(u64::MAX - 1, 1).unwrap();
        assert_eq!(range.end(), u64::MAX);
    }

    #[test]
    fn page_rules() {
        let range = |start, size| GuestRange::new(start, size).unwrap();
        assert!(range(0x2000, 9000).page_aligned().is_ok());
        assert!(range(0x2008, 8).page_aligned().is_err());
        assert!(range(0x2008, 4088).in_one_page().is_ok());
        assert!(range(0x2008, 4089).in_one_page().is_err());
    }

    #[test]
    fn nothing_outside_guest_memory_is_read_or_written() {
        let mut memory = FakeMemory::new(0x1000, 4096);
        for (start, size) in [(0xfff, 2), (0x1fff, 2), (0, 1), (u64::MAX - 9, 9)] {
            let range = GuestRange::new(start, size).unwrap();
            assert!(Reader::new(&memory, range).is_err());
            assert_eq!(write(&mut memory, range, &[1]), Err(InvalidAddress));
        }
        assert_eq!(memory, FakeMemory::new(0x1000, 4096));
    }

    #[test]
    fn a_range_is_not_read_or_written_beyond_its_end() {
        let mut memory = FakeMemory::new(0x1000, 4096);
        let range = GuestRange::new(0x1000, 4).unwrap();
        let mut reader = Reader::new(&memory, range).unwrap();
        assert_eq!(reader.array::<3>(), Ok([0; 3]));
        assert_eq!(reader.array::<2>(), Err(InvalidAddress));
        assert_eq!(reader.array::<1>(), Ok([0]));
        assert_eq!(write(&mut memory, range, &[1; 5]), Err(InvalidAddress));
    }
}
