//! Fills the SVSM region: kernel image, boot information, page tables, free memory, in
//! this order.
//!
//! Works on the region as a slice; what is written in it speaks of the region's
//! physical address, which is passed beside it.

use crate::PAGE_SIZE;
use crate::image::{ImageError, KernelImage};
use crate::memory_map::MemoryMap;
use crate::paging::{Access, Builder, PagingError, Table};
use bootinfo::{
    BootInfo, BootInfoError, DIRECT_MAP_BASE, KERNEL_VIRT_BASE, MAGIC, MAX_MEMORY_RANGES,
    PhysRange, VERSION,
};
use zerocopy::{FromBytes, IntoBytes};

/// Why the kernel cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The payload is not a kernel.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// The page tables cannot be built.
    #[error("{0}")]
    Paging(#[from] PagingError),
    /// The result would not pass the kernel's own check.
    #[error("{0}")]
    BootInfo(#[from] BootInfoError),
    /// Kernel image, boot information and page tables do not fit.
    #[error("kernel does not fit the SVSM region")]
    TooLarge,
}

/// What the entry into the kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Virtual address of the kernel's entry point.
    pub entry: u64,
    /// Virtual address of the boot information.
    pub boot_info: u64,
    /// Physical address of the root page table.
    pub page_table_root: u64,
}

/// Where things are, besides the region's own bytes.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// One of [`bootinfo::platform`].
    pub platform: u32,
    /// Physical address of the SVSM region.
    pub region: PhysRange,
    /// The page of the loader that switches page tables.
    pub trampoline: PhysRange,
    /// The machine's RAM.
    pub memory: &'a MemoryMap,
}

/// Loads the kernel `payload` into `region`, whose physical place is
/// `placement.region`.
pub fn load(
    payload: &[u8],
    region: &mut [u8],
    placement: &Placement<'_>,
) -> Result<Handover, LoadError> {
    let image = KernelImage::parse(payload)?;
    let start = placement.region.start;
    let image_size = usize::try_from(image.size()).map_err(|_| LoadError::TooLarge)?;

    let (image_memory, rest) = region
        .split_at_mut_checked(image_size)
        .ok_or(LoadError::TooLarge)?;
    copy_segments(&image, image_memory);

    let (info_page, table_memory) = rest
        .split_at_mut_checked(PAGE_SIZE as usize)
        .ok_or(LoadError::TooLarge)?;
    let info_address = start + image.size();
    let tables_address = info_address + PAGE_SIZE;
    // Fails only where the region is not page-aligned in memory.
    let frames = <[Table]>::mut_from_bytes(table_memory).map_err(|_| LoadError::TooLarge)?;
    let mut tables = Builder::new(frames, tables_address)?;
    map_all(&mut tables, &image, placement)?;
    let free_start = tables_address + tables.used() as u64 * PAGE_SIZE;

    let mut memory = [PhysRange::default(); MAX_MEMORY_RANGES];
    let ranges = placement.memory.ranges();
    memory[..ranges.len()].copy_from_slice(ranges);
    let info = BootInfo {
        magic: MAGIC,
        version: VERSION,
        size: size_of::<BootInfo>() as u32,
        platform: placement.platform,
        memory_count: ranges.len() as u32,
        region: placement.region,
        kernel: PhysRange {
            start,
            size: image.size(),
        },
        free: PhysRange {
            start: free_start,
            size: placement.region.end() - free_start,
        },
        page_table_root: tables.root(),
        loader: placement.trampoline,
        memory,
    };
    info.validate()?;
    info_page.fill(0);
    info.write_to_prefix(info_page)
        .map_err(|_| LoadError::TooLarge)?;
    Ok(Handover {
        entry: image.entry(),
        boot_info: DIRECT_MAP_BASE + info_address,
        page_table_root: tables.root(),
    })
}

/// Copies contents, zeroes everything else: bss, padding and guard pages.
fn copy_segments(image: &KernelImage<'_>, memory: &mut [u8]) {
    memory.fill(0);
    for segment in image.segments() {
        // A checked image lies inside `memory`, which has its size.
        let target = memory
            .get_mut(segment.offset as usize..)
            .and_then(|memory| memory.get_mut(..segment.data.len()));
        if let Some(target) = target {
            target.copy_from_slice(segment.data);
        }
    }
}

/// All the mappings the kernel starts with.
fn map_all(
    tables: &mut Builder<'_>,
    image: &KernelImage<'_>,
    placement: &Placement<'_>,
) -> Result<(), PagingError> {
    let region = &placement.region;
    for segment in image.segments() {
        let access = match (segment.write, segment.execute) {
            (true, _) => Access::Write,
            (false, true) => Access::Execute,
            (false, false) => Access::Read,
        };
        tables.map(
            KERNEL_VIRT_BASE + segment.offset,
            region.start + segment.offset,
            segment.size,
            access,
        )?;
    }
    let after_image = region.start + image.size();
    tables.map(
        DIRECT_MAP_BASE + after_image,
        after_image,
        region.end() - after_image,
        Access::Write,
    )?;
    let trampoline = &placement.trampoline;
    tables.map(
        trampoline.start,
        trampoline.start,
        trampoline.size,
        Access::Execute,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{ENTRY, elf_file, sample_headers};
    use crate::paging::tests::walk;
    use bootinfo::SVSM_REGION_SIZE;
    use std::vec;
    use std::vec::Vec;

    const REGION: PhysRange = PhysRange {
        start: 240 << 20,
        size: SVSM_REGION_SIZE,
    };
    const TRAMPOLINE: PhysRange = PhysRange {
        start: 0x10_5000,
        size: 0x1000,
    };
    const PAGES: usize = (SVSM_REGION_SIZE / PAGE_SIZE) as usize;

    fn memory() -> MemoryMap {
        let mut table = Vec::new();
        for (page, pages) in [(0_u64, 0x9f_u64), (0x100, 0xff00)] {
            table.extend(page.to_le_bytes());
            table.extend(pages.to_le_bytes());
            table.extend([0; 8]);
        }
        MemoryMap::from_igvm(&table).expect("a usable map")
    }

    /// The region as pages full of old contents.
    fn dirty_region() -> Vec<Table> {
        let mut pages = Vec::new();
        pages.resize_with(PAGES, || {
            Table::read_from_bytes(&[0xa5; PAGE_SIZE as usize]).expect("one page")
        });
        pages
    }

    fn run(payload: &[u8], region: &mut [Table]) -> Result<Handover, LoadError> {
        let memory = memory();
        let placement = Placement {
            platform: 0,
            region: REGION,
            trampoline: TRAMPOLINE,
            memory: &memory,
        };
        load(payload, region.as_mut_bytes(), &placement)
    }

    #[test]
    fn kernel_is_loaded_mapped_and_described() {
        let file = elf_file(ENTRY, &sample_headers());
        let mut region = dirty_region();
        let handover = run(&file, &mut region).expect("loads");
        let image_pages = 7;
        let info_address = REGION.start + image_pages * PAGE_SIZE;
        assert_eq!(handover.entry, ENTRY);
        assert_eq!(handover.boot_info, DIRECT_MAP_BASE + info_address);
        assert_eq!(handover.page_table_root, info_address + PAGE_SIZE);

        // Contents, with zeroes everywhere else.
        let bytes = region.as_bytes();
        let mut expected = vec![0; (image_pages * PAGE_SIZE) as usize];
        expected[..0x1234].copy_from_slice(&file[0x1000..0x2234]);
        expected[0x3000..0x3800].copy_from_slice(&file[0x3000..0x3800]);
        expected[0x4000..0x4100].copy_from_slice(&file[0x3800..0x3900]);
        assert_eq!(bytes[..expected.len()], expected);

        // Boot information.
        let (info, rest) =
            BootInfo::read_from_prefix(&bytes[expected.len()..]).expect("boot information");
        assert_eq!(info.validate(), Ok(()));
        assert!(
            rest[..PAGE_SIZE as usize - size_of::<BootInfo>()]
                .iter()
                .all(|b| *b == 0)
        );
        assert_eq!(info.region, REGION);
        assert_eq!(info.kernel.start, REGION.start);
        assert_eq!(info.kernel.size, image_pages * PAGE_SIZE);
        assert_eq!(info.page_table_root, handover.page_table_root);
        assert_eq!(info.loader, TRAMPOLINE);
        assert_eq!(info.memory(), memory().ranges());
        assert_eq!(info.free.end(), REGION.end());
        assert!(info.free.start > info.page_table_root);

        // Page tables: every page of the region, and nothing beside it.
        let first = (info.page_table_root - REGION.start) as usize / 4096;
        let end = (info.free.start - REGION.start) as usize / 4096;
        let at = |virt| walk(&region[first..end], info.page_table_root, virt);
        for page in 0..PAGES as u64 {
            let offset = page * PAGE_SIZE;
            let rights = match page {
                0 | 1 => Some(Access::Execute),
                3 => Some(Access::Read),
                4..=6 => Some(Access::Write),
                _ => None,
            };
            assert_eq!(
                at(KERNEL_VIRT_BASE + offset),
                rights.map(|r| (REGION.start + offset, r)),
                "kernel page {page}"
            );
            let phys = REGION.start + offset;
            let direct = (page >= image_pages).then_some((phys, Access::Write));
            assert_eq!(at(DIRECT_MAP_BASE + phys), direct, "direct map page {page}");
            assert_eq!(at(phys), None, "no identity mapping");
        }
        assert_eq!(at(DIRECT_MAP_BASE + REGION.start - PAGE_SIZE), None);
        assert_eq!(at(DIRECT_MAP_BASE + REGION.end()), None);
        assert_eq!(
            at(TRAMPOLINE.start),
            Some((TRAMPOLINE.start, Access::Execute))
        );
        assert_eq!(at(TRAMPOLINE.start - PAGE_SIZE), None);
        assert_eq!(at(TRAMPOLINE.end()), None);
        // Free memory is untouched.
        assert!(bytes[end * 4096..].iter().all(|b| *b == 0xa5));
    }

    #[test]
    fn kernel_that_leaves_no_room_is_refused() {
        let mut headers = sample_headers();
        headers[2].memory_size = SVSM_REGION_SIZE - 4 * PAGE_SIZE;
        let file = elf_file(ENTRY, &headers);
        assert!(matches!(
            run(&file, &mut dirty_region()),
            Err(LoadError::TooLarge)
        ));
        headers[2].memory_size -= 4 * PAGE_SIZE;
        let file = elf_file(ENTRY, &headers);
        assert!(matches!(
            run(&file, &mut dirty_region()),
            Err(LoadError::Paging(PagingError::OutOfTables))
        ));
        headers[2].memory_size -= 40 * PAGE_SIZE;
        let file = elf_file(ENTRY, &headers);
        assert!(run(&file, &mut dirty_region()).is_ok());
    }

    #[test]
    fn payload_that_is_no_kernel_is_refused() {
        assert!(matches!(
            run(b"no kernel", &mut dirty_region()),
            Err(LoadError::Image(_))
        ));
    }
}
