//! The kernel's heap: one run of frames, opened once, never grown.
//!
//! An allocation that does not fit fails; code that allocates what the host or the
//! guest asked for uses the fallible interfaces. Memory that is given back is wiped: keys
//! pass through buffers of libraries that do not wipe them, and buffers that grow move.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{Ordering, compiler_fence};

use spin::Mutex;
use talc::TalcLock;
use talc::source::Manual;

#[cfg_attr(target_os = "svsm", global_allocator)]
static HEAP: Heap = Heap::new();

struct Heap(TalcLock<Mutex<()>, Manual>);

impl Heap {
    const fn new() -> Self {
        Self(TalcLock::new(Manual))
    }
}

// SAFETY: the allocator inside keeps the contract; growing and shrinking are left to the
// trait, which allocates, copies and gives back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the allocator inside.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's and is given up.
        unsafe { ptr.write_bytes(0, layout.size()) };
        // The write is for nobody to read, and must be there nevertheless.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as in `alloc`.
        unsafe { self.0.dealloc(ptr, layout) }
    }
}

/// What the heap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUse {
    /// Bytes asked for and not given back.
    pub bytes: usize,
    /// Allocations not given back.
    pub allocations: usize,
    /// Allocations ever made.
    pub total_allocations: u64,
}

/// Opens the heap on `size` bytes at `start`.
///
/// # Safety
/// The memory must be writable and used by nothing else, for ever.
pub(super) unsafe fn open(start: *mut u8, size: usize) {
    // SAFETY: promised by the caller.
    unsafe { HEAP.0.lock().claim(start, size) };
}

/// What the heap holds now.
pub fn usage() -> HeapUse {
    let heap = HEAP.0.lock();
    let counters = heap.counters();
    HeapUse {
        bytes: counters.allocated_bytes,
        allocations: counters.allocation_count,
        total_allocations: counters.total_allocation_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_wiped_when_it_is_given_back_or_grows_away() {
        const MARK: [u8; 8] = *b"a secret";
        static mut ARENA: [u8; 1 << 16] = [0; 1 << 16];
        let arena = &raw mut ARENA;
        let heap = Heap::new();
        // SAFETY: nothing else uses the arena.
        unsafe { heap.0.lock().claim(arena.cast(), 1 << 16) };
        let marks = || {
            // SAFETY: read between uses of the heap, in one thread.
            let bytes = unsafe { arena.read() };
            bytes.windows(8).filter(|window| *window == MARK).count()
        };
        let small = Layout::array::<u8>(64).unwrap();
        // SAFETY: blocks are written within their sizes and given back once.
        unsafe {
            let block = heap.alloc(small);
            let neighbour = heap.alloc(small);
            block.add(32).cast::<[u8; 8]>().write(MARK);
            assert_eq!(marks(), 1);
            let grown = heap.realloc(block, small, 4096);
            assert_ne!(grown, block);
            assert_eq!(marks(), 1);
            heap.dealloc(grown, Layout::array::<u8>(4096).unwrap());
            assert_eq!(marks(), 0);
            heap.dealloc(neighbour, small);
        }
    }
}
