//! The kernel's page tables.
//!
//! The loader built them: kernel image W^X, direct map of the rest of the region
//! writable and never executable. The kernel only adds pages that are never
//! executable, and takes away.

use super::frames::FrameAllocator;
use super::{MemoryError, PAGE_SIZE};
use bootinfo::{DIRECT_MAP_BASE, PhysRange};
use x86_64::structures::paging::mapper::{MapToError, Mapper, OffsetPageTable};
use x86_64::structures::paging::{
    FrameAllocator as TableFrames, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// The active page tables.
pub struct PageTables(OffsetPageTable<'static>);

/// How a page is mapped; it is never executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Ordinary memory, writable.
    Memory,
    /// Device registers: writable, uncached.
    Device,
}

impl Access {
    fn flags(self) -> PageTableFlags {
        let common =
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
        match self {
            Self::Memory => common,
            Self::Device => common | PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH,
        }
    }
}

/// New page tables come from the kernel's frames, zeroed.
struct Tables<'a>(&'a mut FrameAllocator);

// SAFETY: `FrameAllocator` hands out every frame once.
unsafe impl TableFrames<Size4KiB> for Tables<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0.allocate(1)?;
        let table = super::direct(frame);
        // SAFETY: the frame was just allocated and the direct map covers it.
        unsafe { table.write_bytes(0, PAGE_SIZE) };
        Some(PhysFrame::containing_address(PhysAddr::new(frame.start)))
    }
}

impl PageTables {
    /// Takes over the active tables whose root is at physical address `root`.
    ///
    /// # Safety
    /// `root` must be the root of the active tables, all of them must be in the
    /// direct map, and no one else may change them from now on.
    pub(super) unsafe fn adopt(root: u64) -> Self {
        let table = (DIRECT_MAP_BASE + root) as *mut PageTable;
        // SAFETY: promised by the caller.
        Self(unsafe { OffsetPageTable::new(&mut *table, VirtAddr::new(DIRECT_MAP_BASE)) })
    }

    /// Maps `page` to the frame at `physical`.
    pub(super) fn map(
        &mut self,
        frames: &mut FrameAllocator,
        page: u64,
        physical: u64,
        access: Access,
    ) -> Result<(), MemoryError> {
        let page = Page::<Size4KiB>::from_start_address(VirtAddr::new(page))
            .map_err(|_| MemoryError::BadAddress)?;
        let frame = PhysFrame::from_start_address(PhysAddr::new(physical))
            .map_err(|_| MemoryError::BadAddress)?;
        // SAFETY: the callers in this layer map frames they own, or device
        // registers, at addresses that nothing else uses.
        let flush = unsafe {
            self.0
                .map_to(page, frame, access.flags(), &mut Tables(frames))
        };
        match flush {
            Ok(flush) => flush.flush(),
            Err(MapToError::FrameAllocationFailed) => return Err(MemoryError::NoFrames),
            Err(_) => return Err(MemoryError::BadAddress),
        }
        Ok(())
    }

    /// Removes the identity mapping of the loader.
    pub(super) fn unmap_loader(&mut self, loader: &PhysRange) {
        let mut address = loader.start;
        while address < loader.end() {
            if let Ok(page) = Page::<Size4KiB>::from_start_address(VirtAddr::new(address))
                && let Ok((_, flush)) = self.0.unmap(page)
            {
                flush.flush();
            }
            address += PAGE_SIZE as u64;
        }
    }
}
