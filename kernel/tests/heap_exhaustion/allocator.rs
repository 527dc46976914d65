//! An allocator that fails when it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Which allocations of the thread fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The n-th from now on, and no other.
    Once(u64),
    /// The n-th from now on and all after it.
    From(u64),
}

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    static SEEN: Cell<u64> = const { Cell::new(0) };
    static FAILED: Cell<u64> = const { Cell::new(0) };
    static TRACE: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, with faults.
pub struct Faulty;

impl Faulty {
    /// Whether the allocation under way is to fail.
    fn fails() -> bool {
        let Some(fault) = FAULT.get() else {
            return false;
        };
        let index = SEEN.replace(SEEN.get() + 1);
        let fails = match fault {
            Fault::Once(n) => index == n,
            Fault::From(n) => index >= n,
        };
        if fails {
            FAILED.set(FAILED.get() + 1);
            if TRACE.get() {
                FAULT.set(None);
                eprintln!("{}", std::backtrace::Backtrace::force_capture());
                FAULT.set(Some(fault));
            }
        }
        fails
    }
}

// SAFETY: every call goes to the system's allocator unchanged, or returns null, which
// an allocator may do at any time.
unsafe impl GlobalAlloc for Faulty {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Self::fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those that the system's allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // To make a buffer smaller needs no memory.
        if size > layout.size() && Self::fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `action` with `fault`; what it returns, and how many allocations failed.
pub fn with_fault<T>(fault: Fault, action: impl FnOnce() -> T) -> (T, u64) {
    /// Ends the faults, also where `action` panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            stop();
        }
    }
    SEEN.set(0);
    FAILED.set(0);
    FAULT.set(Some(fault));
    let end = End;
    let result = action();
    drop(end);
    (result, FAILED.get())
}

/// No allocation of the thread fails any more.
pub fn stop() {
    FAULT.set(None);
}

/// From now on says where an allocation fails.
pub fn trace() {
    TRACE.set(true);
}
