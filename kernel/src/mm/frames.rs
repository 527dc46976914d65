//! Physical memory in units of one frame (4 KiB).
//!
//! A bitmap with a bit a frame, searched from the start: the region is small,
//! allocations are rare, and nothing here can fragment in a way that a reader could
//! not see.

use super::PAGE_SIZE;
use bootinfo::{PhysRange, SVSM_REGION_SIZE};

/// Most frames that can be managed.
const MAX_FRAMES: usize = (SVSM_REGION_SIZE as usize) / PAGE_SIZE;

/// Hands out runs of frames of one range.
pub struct FrameAllocator {
    start: u64,
    count: usize,
    used: [u64; MAX_FRAMES / 64],
}

impl FrameAllocator {
    /// Manages the whole frames inside `range`.
    pub fn new(range: PhysRange) -> Self {
        let page = PAGE_SIZE as u64;
        let start = range.start.next_multiple_of(page);
        let frames = range.end().saturating_sub(start) / page;
        Self {
            start,
            count: (frames as usize).min(MAX_FRAMES),
            used: [0; MAX_FRAMES / 64],
        }
    }

    /// Takes `frames` contiguous frames, or none if there is no such run.
    pub fn allocate(&mut self, frames: usize) -> Option<PhysRange> {
        let mut run = 0;
        for index in 0..self.count {
            run = if self.is_used(index) { 0 } else { run + 1 };
            if run == frames && frames > 0 {
                let first = index + 1 - frames;
                self.mark(first, frames, true);
                return Some(PhysRange {
                    start: self.start + (first * PAGE_SIZE) as u64,
                    size: (frames * PAGE_SIZE) as u64,
                });
            }
        }
        None
    }

    /// Gives back a run that [`allocate`](Self::allocate) returned, or a part of it.
    /// Anything else is left alone.
    pub fn release(&mut self, run: PhysRange) {
        let page = PAGE_SIZE as u64;
        let managed = PhysRange {
            start: self.start,
            size: (self.count * PAGE_SIZE) as u64,
        };
        if managed.contains(&run) && run.start.is_multiple_of(page) && run.size.is_multiple_of(page)
        {
            let first = ((run.start - self.start) / page) as usize;
            self.mark(first, (run.size / page) as usize, false);
        }
    }

    /// Frames that nothing uses.
    pub fn free(&self) -> usize {
        let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
        self.count - used as usize
    }

    fn is_used(&self, index: usize) -> bool {
        self.used[index / 64] & (1 << (index % 64)) != 0
    }

    fn mark(&mut self, first: usize, frames: usize, used: bool) {
        for index in first..first + frames {
            let bit = 1 << (index % 64);
            if used {
                self.used[index / 64] |= bit;
            } else {
                self.used[index / 64] &= !bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn range(first: u64, frames: u64) -> PhysRange {
        PhysRange {
            start: first * PAGE,
            size: frames * PAGE,
        }
    }

    #[test]
    fn frames_are_handed_out_once() {
        let mut frames = FrameAllocator::new(range(100, 10));
        assert_eq!(frames.allocate(4), Some(range(100, 4)));
        assert_eq!(frames.allocate(4), Some(range(104, 4)));
        assert_eq!(frames.allocate(4), None);
        assert_eq!(frames.allocate(2), Some(range(108, 2)));
        assert_eq!(frames.free(), 0);
    }

    #[test]
    fn released_run_is_found_again() {
        let mut frames = FrameAllocator::new(range(0, 8));
        let run = frames.allocate(8).unwrap();
        frames.release(range(2, 3));
        assert_eq!(frames.allocate(4), None);
        assert_eq!(frames.allocate(3), Some(range(2, 3)));
        frames.release(run);
        assert_eq!(frames.free(), 8);
    }

    #[test]
    fn odd_borders_are_cut_off() {
        let mut frames = FrameAllocator::new(PhysRange {
            start: PAGE + 1,
            size: 3 * PAGE,
        });
        assert_eq!(frames.allocate(1), Some(range(2, 1)));
        assert_eq!(frames.free(), 1);
    }

    #[test]
    fn foreign_run_is_not_released() {
        let mut frames = FrameAllocator::new(range(10, 4));
        frames.allocate(4).unwrap();
        for foreign in [range(9, 2), range(13, 2), range(0, u64::MAX / PAGE)] {
            frames.release(foreign);
        }
        frames.release(PhysRange {
            start: 10 * PAGE + 1,
            size: PAGE,
        });
        assert_eq!(frames.free(), 0);
    }

    #[test]
    fn nothing_is_no_run() {
        assert_eq!(FrameAllocator::new(range(1, 4)).allocate(0), None);
        assert_eq!(FrameAllocator::new(range(1, 0)).allocate(1), None);
    }
}
