//! The one region of guest memory that a frame brings with it.

use crate::protocols::memory::{GuestMemory, GuestRange, InvalidAddress};
use alloc::vec::Vec;
use core::ops::Range;
use guestlink::{Call, Change, message::MAX_CHANGES};

/// A region of guest memory, and which of its bytes were written.
pub(super) struct Region {
    base: u64,
    bytes: Vec<u8>,
    /// Ascending, with a gap between any two.
    written: Vec<Range<usize>>,
}

impl Region {
    /// One that was never filled. Later ones take its memory over.
    pub(super) const fn empty() -> Self {
        Self {
            base: 0,
            bytes: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Fills it as `call` says; none when there is no memory for that.
    pub(super) fn fill(&mut self, call: &Call<'_>) -> Option<()> {
        let size = call.size as usize;
        self.bytes.clear();
        self.written.clear();
        self.bytes.try_reserve_exact(size).ok()?;
        self.written.try_reserve(MAX_CHANGES + 1).ok()?;
        self.bytes.extend_from_slice(call.contents);
        self.bytes.resize(size, 0);
        self.base = call.base;
        Some(())
    }

    /// What was written since it was filled.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.written.iter().map(|range| Change {
            // A region is smaller than 4 GiB.
            offset: range.start as u32,
            bytes: &self.bytes[range.clone()],
        })
    }

    /// Where in the region the bytes are.
    fn locate(&self, start: u64, size: usize) -> Result<Range<usize>, InvalidAddress> {
        let offset = start.checked_sub(self.base).ok_or(InvalidAddress)?;
        let offset = usize::try_from(offset).map_err(|_| InvalidAddress)?;
        offset
            .checked_add(size)
            .filter(|end| *end <= self.bytes.len())
            .map(|end| offset..end)
            .ok_or(InvalidAddress)
    }

    /// Notes that the bytes in `new` were written. When there are more pieces than an
    /// answer has room for, the last two become one.
    fn note(&mut self, mut new: Range<usize>) {
        self.written.retain(|old| {
            let apart = old.end < new.start || new.end < old.start;
            if !apart {
                new = new.start.min(old.start)..new.end.max(old.end);
            }
            apart
        });
        let at = self.written.partition_point(|old| old.start < new.start);
        self.written.insert(at, new);
        if self.written.len() > MAX_CHANGES
            && let Some(last) = self.written.pop()
            && let Some(before) = self.written.last_mut()
        {
            before.end = last.end;
        }
    }
}

impl GuestMemory for Region {
    fn contains(&self, range: GuestRange) -> bool {
        usize::try_from(range.size()).is_ok_and(|size| self.locate(range.start(), size).is_ok())
    }

    fn copy_out(&self, start: u64, out: &mut [u8]) -> Result<(), InvalidAddress> {
        out.copy_from_slice(&self.bytes[self.locate(start, out.len())?]);
        Ok(())
    }

    fn copy_in(&mut self, start: u64, bytes: &[u8]) -> Result<(), InvalidAddress> {
        let range = self.locate(start, bytes.len())?;
        let old = &mut self.bytes[range.clone()];
        // What was there already need not go back over the line.
        let differs = |at: &usize| old[*at] != bytes[*at];
        let first = (0..bytes.len()).find(differs);
        let last = (0..bytes.len()).rfind(differs);
        old.copy_from_slice(bytes);
        if let (Some(first), Some(last)) = (first, last) {
            self.note(range.start + first..range.start + last + 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestlink::Registers;

    fn region(base: u64, size: u32, contents: &[u8]) -> Region {
        let mut region = Region::empty();
        region
            .fill(&Call {
                protocol: 0,
                call: 0,
                registers: Registers::default(),
                base,
                size,
                contents,
            })
            .unwrap();
        region
    }

    fn written(region: &Region) -> Vec<(u32, usize)> {
        region
            .changes()
            .map(|change| (change.offset, change.bytes.len()))
            .collect()
    }

    #[test]
    fn only_the_region_can_be_named() {
        let mut memory = region(0x1000, 16, b"0123");
        for (start, size) in [(0xfff, 1), (0xfff, 2), (0x1010, 1), (0x100f, 2), (0, 17)] {
            assert!(!memory.contains(GuestRange::new(start, size).unwrap()));
            let mut bytes = alloc::vec![0; size as usize];
            assert!(memory.copy_out(start, &mut bytes).is_err());
            assert!(memory.copy_in(start, &bytes).is_err());
        }
        let mut bytes = [9; 16];
        assert_eq!(memory.copy_out(0x1000, &mut bytes), Ok(()));
        assert_eq!(&bytes, b"0123\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(written(&memory).is_empty());
    }

    #[test]
    fn an_empty_region_holds_nothing() {
        let memory = region(0, 0, b"");
        assert!(!memory.contains(GuestRange::new(0, 1).unwrap()));
    }

    #[test]
    fn a_new_call_sees_nothing_of_an_earlier_one() {
        let mut memory = region(0x1000, 16, b"secret");
        memory.copy_in(0x1008, b"answer").unwrap();
        memory
            .fill(&Call {
                protocol: 0,
                call: 0,
                registers: Registers::default(),
                base: 0x2000,
                size: 32,
                contents: b"x",
            })
            .unwrap();
        assert!(written(&memory).is_empty());
        let mut bytes = [9; 32];
        memory.copy_out(0x2000, &mut bytes).unwrap();
        assert_eq!(bytes[1..], [0; 31]);
    }

    #[test]
    fn writes_that_touch_become_one_change() {
        let mut memory = region(0, 100, b"");
        memory.copy_in(10, b"abc").unwrap();
        memory.copy_in(50, b"x").unwrap();
        memory.copy_in(13, b"def").unwrap();
        memory.copy_in(11, b"B").unwrap();
        memory.copy_in(8, b"yz").unwrap();
        memory.copy_in(30, b"").unwrap();
        assert_eq!(written(&memory), [(8, 8), (50, 1)]);
        memory.copy_in(0, &[7; 100]).unwrap();
        assert_eq!(written(&memory), [(0, 100)]);
    }

    #[test]
    fn what_was_there_already_is_no_change() {
        let mut memory = region(0, 100, b"0123456789");
        memory.copy_in(0, b"0123456789").unwrap();
        assert!(written(&memory).is_empty());
        memory.copy_in(0, b"01x345x789").unwrap();
        assert_eq!(written(&memory), [(2, 5)]);
    }

    #[test]
    fn there_are_never_more_changes_than_an_answer_takes() {
        let mut memory = region(0, 1000, b"");
        for at in (0..100).rev().chain(100..200) {
            memory.copy_in(at * 5, b"x").unwrap();
        }
        let changes = written(&memory);
        assert_eq!(changes.len(), MAX_CHANGES);
        let (offset, length) = changes[MAX_CHANGES - 1];
        assert_eq!(offset as usize + length, 996);
    }
}
