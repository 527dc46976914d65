//! Memory that the host may see and change at any moment.
//!
//! One pool, shared with the host once at start and never taken back. Its bytes are
//! reached only by copying: a [`SharedBuffer`] gives out no references, so nothing
//! can be parsed in place and change under the parser. Private memory has no way
//! into these types, and they have none into private memory.

use super::{MemoryError, PAGE_SIZE, direct, with_memory};
use bootinfo::PhysRange;
use core::ptr::NonNull;
use spin::{Mutex, Once};

/// Size of the pool in bytes.
pub const POOL_SIZE: usize = 1 << 20;

const PAGES: usize = POOL_SIZE / PAGE_SIZE;

struct Pool {
    physical: u64,
    start: NonNull<u8>,
    used: Mutex<[bool; PAGES]>,
}

// SAFETY: the memory is only ever copied from and to, byte by byte, with volatile
// accesses; who may use which page is behind the lock.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

static POOL: Once<Pool> = Once::new();

/// Sets the pool aside and lets `share` make it visible to the host. Called once.
pub fn init(share: impl FnOnce(PhysRange) -> Result<(), MemoryError>) -> Result<(), MemoryError> {
    let physical =
        with_memory(|memory| memory.frames.allocate(PAGES).ok_or(MemoryError::NoFrames))?;
    share(physical)?;
    let start = direct(physical);
    // SAFETY: the frames were just allocated, for good, and the direct map covers
    // them. Zeroed so that the host learns nothing of what was there before.
    unsafe { start.write_bytes(0, POOL_SIZE) };
    let start = NonNull::new(start).ok_or(MemoryError::BadAddress)?;
    POOL.call_once(|| Pool {
        physical: physical.start,
        start,
        used: Mutex::new([false; PAGES]),
    });
    Ok(())
}

/// The pool for drivers that run on the host, against devices that are tests: memory of
/// the process, which devices see at an address of its own. Later calls do nothing.
#[cfg(not(target_os = "svsm"))]
pub fn init_on_host() {
    #[repr(align(4096))]
    #[derive(Clone)]
    struct Page(#[allow(dead_code, reason = "only its address is used")] [u8; PAGE_SIZE]);

    /// Not an address of the process, so that neither passes for the other.
    const DEVICE_ADDRESS: u64 = 0x5_0000_0000;

    POOL.call_once(|| {
        let pages = alloc::vec![Page([0; PAGE_SIZE]); PAGES].leak();
        Pool {
            physical: DEVICE_ADDRESS,
            start: NonNull::from(pages).cast(),
            used: Mutex::new([false; PAGES]),
        }
    });
}

/// The `size` bytes of the pool that a device sees at `address`, for tests that are
/// devices; none outside the pool.
#[cfg(not(target_os = "svsm"))]
pub fn at_device_address(address: u64, size: usize) -> Option<SharedRange> {
    let offset = usize::try_from(address.checked_sub(POOL.get()?.physical)?).ok()?;
    let end = offset.checked_add(size)?;
    (end <= POOL_SIZE).then_some(SharedRange { offset, size })
}

/// Whole pages of the pool, given back when dropped.
#[derive(Debug)]
pub struct SharedBuffer {
    first_page: usize,
    pages: usize,
}

/// A range inside the pool, for a descriptor. It is an address, not ownership: the
/// pool outlives it, and what lies there is the host's anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRange {
    offset: usize,
    size: usize,
}

impl SharedBuffer {
    /// Takes at least `size` contiguous bytes, in whole pages.
    pub fn allocate(size: usize) -> Result<Self, MemoryError> {
        let pool = POOL.get().ok_or(MemoryError::NoSharedMemory)?;
        let pages = size.div_ceil(PAGE_SIZE);
        let mut used = pool.used.lock();
        let first_page = find_run(&*used, pages).ok_or(MemoryError::NoSharedMemory)?;
        used[first_page..first_page + pages].fill(true);
        Ok(Self { first_page, pages })
    }

    /// Gives up ownership; [`reclaim`](Self::reclaim) takes it back.
    pub fn leak(self) -> SharedRange {
        let range = SharedRange {
            offset: self.first_page * PAGE_SIZE,
            size: self.size(),
        };
        core::mem::forget(self);
        range
    }

    /// Takes back the `size` bytes at `pointer` that [`leak`](Self::leak) gave up;
    /// none for anything that is no run of pages in use.
    pub fn reclaim(pointer: NonNull<u8>, size: usize) -> Option<Self> {
        let pool = POOL.get()?;
        let offset = (pointer.as_ptr() as usize).checked_sub(pool.start.as_ptr() as usize)?;
        let (first_page, pages) = (offset / PAGE_SIZE, size.div_ceil(PAGE_SIZE));
        let end = first_page.checked_add(pages).filter(|&end| end <= PAGES)?;
        pool.used.lock()[first_page..end]
            .iter()
            .all(|&used| used)
            .then_some(Self { first_page, pages })
    }

    /// Size in bytes.
    pub const fn size(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// The `size` bytes from `offset` on, or none outside the buffer.
    pub fn range(&self, offset: usize, size: usize) -> Option<SharedRange> {
        let end = offset.checked_add(size)?;
        (end <= self.size()).then_some(SharedRange {
            offset: self.first_page * PAGE_SIZE + offset,
            size,
        })
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        if let Some(pool) = POOL.get() {
            pool.used.lock()[self.first_page..self.first_page + self.pages].fill(false);
        }
    }
}

impl SharedRange {
    /// Size in bytes.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Fills the range with zeros.
    pub fn clear(&self) {
        // SAFETY: the range lies in the pool; plain bytes have no invalid values.
        unsafe { self.pointer().write_bytes(0, self.size) };
    }

    /// Copies `data` into the start of the range; what does not fit is left out.
    pub fn write(&self, data: &[u8]) {
        let length = data.len().min(self.size);
        // SAFETY: the range lies in the pool, `data` in private memory.
        unsafe { copy(data.as_ptr(), self.pointer().as_ptr(), length) };
    }

    /// Copies the start of the range into `buffer`; what the range does not have
    /// stays as it was.
    pub fn read(&self, buffer: &mut [u8]) {
        let length = buffer.len().min(self.size);
        // SAFETY: the range lies in the pool, `buffer` in private memory.
        unsafe { copy(self.pointer().as_ptr(), buffer.as_mut_ptr(), length) };
    }

    /// Address in the kernel.
    pub fn pointer(&self) -> NonNull<u8> {
        match POOL.get() {
            // SAFETY: ranges are made inside the pool only.
            Some(pool) => unsafe { pool.start.add(self.offset) },
            None => NonNull::dangling(),
        }
    }
}

/// Copies bytes from or to memory that the host may change meanwhile. Assembly, so
/// that the compiler can neither repeat an access nor see through the copy.
///
/// # Safety
/// Both ranges must be mapped and must not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: promised by the caller; the direction flag is clear in all Rust code.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            "mov rcx, {tail}",
            "rep movsb",
            tail = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Address as a device sees it of the pool byte at `pointer`, or none outside.
pub fn device_address(pointer: NonNull<u8>) -> Option<u64> {
    let pool = POOL.get()?;
    let offset = (pointer.as_ptr() as usize).checked_sub(pool.start.as_ptr() as usize)?;
    (offset < POOL_SIZE).then_some(pool.physical + offset as u64)
}

fn find_run(used: &[bool], pages: usize) -> Option<usize> {
    if pages == 0 {
        return None;
    }
    used.windows(pages)
        .position(|run| run.iter().all(|used| !used))
}

#[cfg(test)]
mod tests {
    use super::find_run;

    #[test]
    fn run_is_found_behind_used_pages() {
        let used = [true, false, true, false, false, false];
        assert_eq!(find_run(&used, 1), Some(1));
        assert_eq!(find_run(&used, 2), Some(3));
        assert_eq!(find_run(&used, 3), Some(3));
        assert_eq!(find_run(&used, 4), None);
        assert_eq!(find_run(&used, 0), None);
        assert_eq!(find_run(&used, 7), None);
    }
}
