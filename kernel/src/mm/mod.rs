//! Memory: frames, page tables, heap, stacks, device registers, and memory that the
//! host may see.
//!
//! The kernel owns one region of physical memory, named by the loader. Each frame
//! of it has one use at a time. Memory that a device may touch comes only from
//! [`shared`], whose types are not those of private memory.

#![allow(unsafe_code)]

pub mod frames;
pub mod heap;
pub mod mmio;
pub mod paging;
pub mod shared;
pub mod stack;

use bootinfo::{BootInfo, DIRECT_MAP_BASE, PhysRange};
use frames::FrameAllocator;
use paging::PageTables;
use spin::{Mutex, Once};

/// Size of a page and of a frame in bytes.
pub const PAGE_SIZE: usize = 4096;

/// Size of the heap in bytes. A mounted 256 MiB image keeps 280 KB of it, and a
/// 256 KiB transaction on one takes 400 KB while it runs.
pub const HEAP_SIZE: usize = 8 << 20;

/// Start of the virtual range for stacks.
const STACKS_BASE: u64 = 0xffff_9000_0000_0000;

/// Start of the virtual range for device registers.
const MMIO_BASE: u64 = 0xffff_a000_0000_0000;

/// Why memory could not be had or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The SVSM region is full.
    #[error("out of physical memory")]
    NoFrames,
    /// The pool of host-shared memory is full.
    #[error("out of host-shared memory")]
    NoSharedMemory,
    /// Not an address for this kind of mapping.
    #[error("address cannot be mapped")]
    BadAddress,
    /// The platform could not share memory with the host.
    #[error("the host refuses to share memory")]
    Share,
}

/// Frames and page tables of the kernel; everything that maps goes through it.
struct Memory {
    frames: FrameAllocator,
    tables: PageTables,
    next_stack: u64,
    next_mmio: u64,
    info: &'static BootInfo,
}

static MEMORY: Once<Mutex<Memory>> = Once::new();

/// Takes over the memory that the loader left, drops the loader's own mapping, and
/// opens the heap. Called once.
pub fn init(info: &'static BootInfo) -> Result<(), MemoryError> {
    let mut frames = FrameAllocator::new(info.free);
    // SAFETY: called once, on the page tables that the loader built, reports in
    // `page_table_root` and left active.
    let mut tables = unsafe { PageTables::adopt(info.page_table_root) };
    tables.unmap_loader(&info.loader);
    let heap = frames
        .allocate(HEAP_SIZE / PAGE_SIZE)
        .ok_or(MemoryError::NoFrames)?;
    // SAFETY: the frames were just allocated, for good.
    unsafe { heap::open(direct(heap), HEAP_SIZE) };
    MEMORY.call_once(|| {
        Mutex::new(Memory {
            frames,
            tables,
            next_stack: STACKS_BASE,
            next_mmio: MMIO_BASE,
            info,
        })
    });
    Ok(())
}

/// Runs `action` on the kernel's memory.
fn with_memory<T>(
    action: impl FnOnce(&mut Memory) -> Result<T, MemoryError>,
) -> Result<T, MemoryError> {
    let memory = MEMORY.get().ok_or(MemoryError::NoFrames)?;
    action(&mut memory.lock())
}

/// Where the direct map shows the frame at `physical`.
fn direct(physical: PhysRange) -> *mut u8 {
    (DIRECT_MAP_BASE + physical.start) as *mut u8
}

/// Frames that nothing uses.
pub fn free_frames() -> usize {
    MEMORY.get().map_or(0, |memory| memory.lock().frames.free())
}
