//! Turns a finished IGVM file into a PVH image with the same memory contents, so that
//! the content of the file can be booted by a host that cannot load IGVM.
//!
//! Plays the part of an IGVM loader for the native platform: places every page, fills
//! the memory map for a machine with one range of RAM from address zero, and enters at
//! the CPU state's instruction pointer with EBX zero, so that nothing of the PVH boot
//! protocol is left to use.

use crate::PAGE_SIZE;
use crate::elf_file::{ElfError, Executable, Segment};
use crate::igvm_reader::{self, IgvmReadError, directives, platform_mask};
use crate::pvh;
use bootinfo::loader::REACHABLE_END;
use igvm::IgvmDirectiveHeader;
use igvm_defs::{
    IGVM_VHS_MEMORY_MAP_ENTRY, IgvmNativeVpContextX64, IgvmPageDataType, IgvmPlatformType,
    MemoryMapEntryType,
};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Most RAM in MiB: above it, QEMU's microvm leaves a hole below 4 GiB.
pub const MAX_MEMORY_MIB: u64 = 3072;

/// Why a file cannot be flattened.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// The file cannot be read or has no native platform.
    #[error(transparent)]
    Read(#[from] IgvmReadError),
    /// The result cannot be written.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The requested size of RAM.
    #[error("memory must be 1 to {MAX_MEMORY_MIB} MiB")]
    Memory,
    /// Something an IGVM loader for this platform must refuse.
    #[error("cannot load the file: {0}")]
    Content(&'static str),
}

/// Reads `file` and writes the PVH image for a machine with `memory_mib` MiB of RAM.
pub fn flatten(file: &[u8], memory_mib: u64) -> Result<Vec<u8>, FlattenError> {
    if !(1..=MAX_MEMORY_MIB).contains(&memory_mib) {
        return Err(FlattenError::Memory);
    }
    let file = igvm_reader::read(file)?;
    let mask =
        platform_mask(&file, IgvmPlatformType::NATIVE)?.ok_or(IgvmReadError::Platform("native"))?;
    let mut pages = BTreeMap::new();
    let mut areas: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut entry = None;
    let undeclared = || FlattenError::Content("a parameter area is used but not declared");
    for directive in directives(&file, mask) {
        match directive {
            IgvmDirectiveHeader::PageData {
                gpa,
                data_type: IgvmPageDataType::NORMAL,
                data,
                ..
            } => place(&mut pages, *gpa, data)?,
            IgvmDirectiveHeader::PageData { .. } => {
                return Err(FlattenError::Content("a page needs a secure processor"));
            }
            IgvmDirectiveHeader::ParameterArea {
                number_of_bytes,
                parameter_area_index,
                initial_data,
            } => {
                let mut area = initial_data.clone();
                area.resize(*number_of_bytes as usize, 0);
                areas.insert(*parameter_area_index, area);
            }
            IgvmDirectiveHeader::MemoryMap(parameter) => {
                let map = memory_map(memory_mib << 20);
                areas
                    .get_mut(&parameter.parameter_area_index)
                    .ok_or_else(undeclared)?
                    .get_mut(parameter.byte_offset as usize..)
                    .and_then(|area| area.get_mut(..map.len()))
                    .ok_or(FlattenError::Content(
                        "the memory map does not fit its area",
                    ))?
                    .copy_from_slice(&map);
            }
            IgvmDirectiveHeader::ParameterInsert(insert) => {
                let area = areas
                    .remove(&insert.parameter_area_index)
                    .ok_or_else(undeclared)?;
                for (page, data) in area.chunks(PAGE_SIZE as usize).enumerate() {
                    place(
                        &mut pages,
                        insert.gpa.saturating_add(page as u64 * PAGE_SIZE),
                        data,
                    )?;
                }
            }
            IgvmDirectiveHeader::X64NativeVpContext {
                vp_index: 0,
                context,
                ..
            } => entry = Some(entry_point(context)?),
            IgvmDirectiveHeader::RequiredMemory { .. } => {}
            _ => return Err(FlattenError::Content("it has a directive of another kind")),
        }
    }
    let entry = entry.ok_or(FlattenError::Content("it has no CPU state"))?;
    Ok(pvh::write_executable(&assemble(pages, entry)?)?)
}

/// Puts one page in place, below 4 GiB; no page may come twice.
fn place(pages: &mut BTreeMap<u64, Vec<u8>>, gpa: u64, data: &[u8]) -> Result<(), FlattenError> {
    if gpa >= REACHABLE_END {
        return Err(FlattenError::Content("a page is not below 4 GiB"));
    }
    let mut page = data.to_vec();
    page.resize(PAGE_SIZE as usize, 0);
    match pages.insert(gpa, page) {
        None => Ok(()),
        Some(_) => Err(FlattenError::Content("a page is loaded twice")),
    }
}

/// The memory map of a machine with RAM from address zero and nothing else: one entry
/// and the closing one.
fn memory_map(memory: u64) -> Vec<u8> {
    let entry = |number_of_pages| IGVM_VHS_MEMORY_MAP_ENTRY {
        starting_gpa_page_number: 0,
        number_of_pages,
        entry_type: MemoryMapEntryType::MEMORY,
        flags: 0,
        reserved: 0,
    };
    [entry(memory / PAGE_SIZE), entry(0)].as_bytes().to_vec()
}

/// The entry point, if the state is the one a PVH loader can provide: 32-bit protected
/// mode, flat segments, no paging.
fn entry_point(context: &IgvmNativeVpContextX64) -> Result<u32, FlattenError> {
    const PROTECTED_MODE: u64 = 1;
    const PAGING: u64 = 1 << 31;
    let flat = context.code_base == 0
        && context.data_base == 0
        && context.code_limit == u32::MAX
        && context.data_limit == u32::MAX;
    if !flat || context.cr0 & (PROTECTED_MODE | PAGING) != PROTECTED_MODE || context.efer != 0 {
        return Err(FlattenError::Content(
            "the CPU state is not flat 32-bit mode",
        ));
    }
    u32::try_from(context.rip).map_err(|_| FlattenError::Content("the entry is above 4 GiB"))
}

/// One segment for each run of pages, and the code that enters.
fn assemble(pages: BTreeMap<u64, Vec<u8>>, entry: u32) -> Result<Executable, FlattenError> {
    let mut segments: Vec<Segment> = Vec::new();
    for (gpa, data) in pages {
        match segments.last_mut() {
            Some(last) if last.end() == gpa => {
                last.data.extend(data);
                last.memory_size += PAGE_SIZE;
            }
            _ => segments.push(Segment {
                address: gpa,
                memory_size: PAGE_SIZE,
                data,
                write: true,
                execute: true,
            }),
        }
    }
    let end = segments
        .last()
        .map(Segment::end)
        .filter(|end| *end < REACHABLE_END)
        .ok_or(FlattenError::Content(
            "it leaves no room for the entry code",
        ))?;
    // xor ebx, ebx; mov eax, entry; jmp eax
    let mut shim = vec![0x31, 0xdb, 0xb8];
    shim.extend(entry.to_le_bytes());
    shim.extend([0xff, 0xe0]);
    segments.push(Segment {
        address: end,
        memory_size: shim.len() as u64,
        data: shim,
        write: false,
        execute: true,
    });
    Ok(Executable {
        entry: end,
        segments,
    })
}
