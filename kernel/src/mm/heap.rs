//! The kernel's heap: one run of frames, opened once, never grown.
//!
//! An allocation that does not fit fails; code that allocates what the host or the
//! guest asked for uses the fallible interfaces.

use spin::Mutex;
use talc::TalcLock;
use talc::source::Manual;

#[cfg_attr(target_os = "svsm", global_allocator)]
static HEAP: TalcLock<Mutex<()>, Manual> = TalcLock::new(Manual);

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
    unsafe { HEAP.lock().claim(start, size) };
}

/// What the heap holds now.
pub fn usage() -> HeapUse {
    let heap = HEAP.lock();
    let counters = heap.counters();
    HeapUse {
        bytes: counters.allocated_bytes,
        allocations: counters.allocation_count,
        total_allocations: counters.total_allocation_count,
    }
}
