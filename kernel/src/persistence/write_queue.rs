//! Writes that wait for the next barrier.
//!
//! Between two barriers CocoonFs does not care in which order writes reach the disk,
//! so they are held here, the newest data for every byte, and go out together, sorted
//! and merged. A queue that could not be written and flushed as a whole is kept and
//! goes out again at the next attempt: no write that was accepted is ever dropped,
//! and nothing older can overtake it.

use alloc::vec::Vec;

use crate::block::{BlockDevice, BlockError, Run};

/// Bytes held at most before they are written without waiting for a barrier.
pub const MAX_HELD_BYTES: usize = 1 << 20;

/// A contiguous run of bytes on its way to the device.
struct Extent {
    begin: u64,
    data: Vec<u8>,
}

impl Extent {
    fn end(&self) -> u64 {
        self.begin + self.data.len() as u64
    }
}

/// Writes that wait for the next barrier, sorted by position, without overlaps.
#[derive(Default)]
pub struct WriteQueue {
    extents: Vec<Extent>,
    held_bytes: usize,
}

impl WriteQueue {
    /// Bytes held.
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Holds `data` for byte position `begin`, over what was held for these bytes.
    ///
    /// # Errors
    ///
    /// [`BlockError::NoMemory`]; some of `data` may be held then, which is what a
    /// failed write may leave behind.
    pub fn put(&mut self, begin: u64, data: &[u8]) -> Result<(), BlockError> {
        let end = begin
            .checked_add(data.len() as u64)
            .ok_or(BlockError::OutOfRange)?;
        let mut index = self.first_ending_after(begin);
        let mut position = begin;
        while position < end {
            let rest = &data[(position - begin) as usize..];
            match self.extents.get_mut(index) {
                Some(extent) if extent.begin <= position => {
                    let offset = (position - extent.begin) as usize;
                    let len = rest.len().min(extent.data.len() - offset);
                    extent.data[offset..offset + len].copy_from_slice(&rest[..len]);
                    position += len as u64;
                    index += 1;
                }
                next => {
                    let gap_end = next.map_or(end, |extent| extent.begin.min(end));
                    let gap = &rest[..(gap_end - position) as usize];
                    index = self.fill_gap(index, position, gap)?;
                    position = gap_end;
                }
            }
        }
        Ok(())
    }

    /// Holds `data` in the gap before extent `index`; returns the index of the extent
    /// behind it.
    fn fill_gap(&mut self, index: usize, begin: u64, data: &[u8]) -> Result<usize, BlockError> {
        let after = match index.checked_sub(1).map(|before| &mut self.extents[before]) {
            Some(before) if before.end() == begin => {
                reserve(&mut before.data, data.len())?;
                before.data.extend_from_slice(data);
                index
            }
            _ => {
                let mut copy = Vec::new();
                reserve(&mut copy, data.len())?;
                copy.extend_from_slice(data);
                reserve(&mut self.extents, 1)?;
                self.extents.insert(index, Extent { begin, data: copy });
                index + 1
            }
        };
        self.held_bytes += data.len();
        Ok(after)
    }

    /// Copies what is held for the bytes from `begin` on over `buffer`.
    pub fn overlay(&self, begin: u64, buffer: &mut [u8]) {
        let end = begin + buffer.len() as u64;
        for extent in self.extents[self.first_ending_after(begin)..]
            .iter()
            .take_while(|extent| extent.begin < end)
        {
            let from = extent.begin.max(begin);
            let to = extent.end().min(end);
            buffer[(from - begin) as usize..(to - begin) as usize].copy_from_slice(
                &extent.data[(from - extent.begin) as usize..(to - extent.begin) as usize],
            );
        }
    }

    /// Whether every byte from `begin` to `end` is held.
    pub fn covers(&self, begin: u64, end: u64) -> bool {
        let mut position = begin;
        for extent in &self.extents[self.first_ending_after(begin)..] {
            if extent.begin > position {
                return false;
            }
            position = extent.end();
            if position >= end {
                return true;
            }
        }
        position >= end
    }

    /// Writes everything held and makes it durable.
    ///
    /// # Errors
    ///
    /// Those of the device; everything is still held then.
    pub fn drain_to(&mut self, device: &dyn BlockDevice) -> Result<(), BlockError> {
        if self.extents.is_empty() {
            return Ok(());
        }
        self.merge();
        let geometry = device.geometry();
        let mut runs = Vec::new();
        reserve(&mut runs, self.extents.len())?;
        runs.extend(self.extents.iter().map(|extent| Run {
            block: extent.begin / geometry.block_size as u64,
            data: &extent.data,
        }));
        device.write_runs(&runs)?;
        if geometry.needs_flush {
            device.flush()?;
        }
        self.extents.clear();
        self.held_bytes = 0;
        Ok(())
    }

    /// Joins adjacent extents where memory allows.
    fn merge(&mut self) {
        let mut kept = 0;
        for index in 1..self.extents.len() {
            let (before, rest) = self.extents.split_at_mut(index);
            let (last, next) = (&mut before[kept], &mut rest[0]);
            if last.end() == next.begin && reserve(&mut last.data, next.data.len()).is_ok() {
                last.data.append(&mut next.data);
            } else {
                kept += 1;
                self.extents.swap(kept, index);
            }
        }
        self.extents.truncate(kept + 1);
    }

    fn first_ending_after(&self, position: u64) -> usize {
        self.extents
            .partition_point(|extent| extent.end() <= position)
    }
}

fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<(), BlockError> {
    vec.try_reserve(additional)
        .map_err(|_| BlockError::NoMemory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::memory::{Fault, MemoryDevice};
    use alloc::vec;

    const BLOCK: usize = 512;

    fn block(value: u8) -> Vec<u8> {
        vec![value; BLOCK]
    }

    #[test]
    fn adjacent_writes_go_out_as_one() {
        let device = MemoryDevice::new(8 * BLOCK, BLOCK);
        let mut queue = WriteQueue::default();
        for index in [2, 0, 1, 5] {
            queue
                .put((index * BLOCK) as u64, &block(index as u8 + 1))
                .unwrap();
        }
        queue.drain_to(&device).unwrap();
        let counters = device.counters();
        assert_eq!((counters.writes, counters.flushes), (2, 1));
        assert_eq!(queue.held_bytes(), 0);
        let firsts: Vec<u8> = device.snapshot().chunks(BLOCK).map(|b| b[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 0, 0, 6, 0, 0]);
    }

    #[test]
    fn an_empty_queue_asks_nothing_of_the_device() {
        let device = MemoryDevice::new(BLOCK, BLOCK);
        WriteQueue::default().drain_to(&device).unwrap();
        assert_eq!(device.counters().requests(), 0);
    }

    #[test]
    fn a_device_without_a_cache_is_not_flushed() {
        let device = MemoryDevice::new(BLOCK, BLOCK).write_through();
        let mut queue = WriteQueue::default();
        queue.put(0, &block(1)).unwrap();
        queue.drain_to(&device).unwrap();
        assert_eq!(device.counters().flushes, 0);
    }

    #[test]
    fn the_newest_data_wins() {
        // Every pair of ranges within six blocks, against a plain buffer.
        for (first, second) in (0..36usize).flat_map(|a| (0..36usize).map(move |b| (a, b))) {
            let mut queue = WriteQueue::default();
            let mut model = vec![0xee; 6 * BLOCK];
            let mut held = [false; 6];
            for (value, range) in [(1, first), (2, second)] {
                let (from, to) = (range / 6, range % 6);
                if from >= to {
                    continue;
                }
                let data = vec![value; (to - from) * BLOCK];
                queue.put((from * BLOCK) as u64, &data).unwrap();
                model[from * BLOCK..to * BLOCK].copy_from_slice(&data);
                held[from..to].fill(true);
            }
            let mut seen = vec![0xee; 6 * BLOCK];
            queue.overlay(0, &mut seen);
            assert_eq!(seen, model);
            assert_eq!(
                queue.held_bytes(),
                held.iter().filter(|held| **held).count() * BLOCK
            );
            for from in 0..6 {
                for to in from + 1..=6 {
                    assert_eq!(
                        queue.covers((from * BLOCK) as u64, (to * BLOCK) as u64),
                        held[from..to].iter().all(|held| *held),
                        "{first} {second} {from} {to}"
                    );
                }
            }
        }
    }

    #[test]
    fn overlay_leaves_other_bytes_alone() {
        let mut queue = WriteQueue::default();
        queue.put(BLOCK as u64, &block(1)).unwrap();
        let mut buffer = vec![9; 2 * BLOCK];
        queue.overlay(BLOCK as u64 + 256, &mut buffer);
        assert_eq!(buffer[..256], [1; 256]);
        assert_eq!(buffer[256..], [9; 2 * BLOCK - 256]);
    }

    #[test]
    fn a_failed_drain_keeps_everything_for_the_next() {
        for failing in 0..3 {
            let device = MemoryDevice::new(8 * BLOCK, BLOCK);
            let mut queue = WriteQueue::default();
            queue.put(0, &block(1)).unwrap();
            queue.put(2 * BLOCK as u64, &block(3)).unwrap();
            device.fail(Fault::Once(failing, BlockError::Io));
            assert_eq!(queue.drain_to(&device), Err(BlockError::Io));
            assert_eq!(queue.held_bytes(), 2 * BLOCK);
            // Newer data for a block that may have been written already.
            queue.put(0, &block(7)).unwrap();
            queue.drain_to(&device).unwrap();
            assert_eq!(device.snapshot()[0], 7);
            assert_eq!(device.snapshot()[2 * BLOCK], 3);
        }
    }
}
