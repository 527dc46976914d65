//! The boot sequence.

use crate::machine::{self, Console, Exit};
use bootinfo::PhysRange;
use bootinfo::loader::{LoaderParameters, PARAMETERS_ADDRESS, ParameterError};
use core::fmt::Write;
use stage2::load::{Handover, LoadError, Placement};
use stage2::memory_map::{MemoryMap, MemoryMapError};
use stage2::region::NoRegion;
use stage2::start_info::{self, StartInfo, StartInfoError};
use stage2::{PAGE_SIZE, load, region};
use zerocopy::FromBytes;

/// Why the boot stops here.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("{0}")]
    Parameters(#[from] ParameterError),
    #[error("{0}")]
    StartInfo(#[from] StartInfoError),
    #[error("{0}")]
    MemoryMap(#[from] MemoryMapError),
    #[error("{0}")]
    Region(#[from] NoRegion),
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("cannot use the memory at {:#x} with {:#x} bytes", .0.start, .0.size)]
    Memory(PhysRange),
}

/// Called by the entry code, once. `start_info` is what the boot protocol left in EBX.
#[unsafe(no_mangle)]
extern "C" fn stage2_main(start_info: u32) -> ! {
    match boot(start_info) {
        // SAFETY: the handover comes from a load that has just succeeded.
        Ok(handover) => unsafe { machine::enter(&handover) },
        Err(error) => {
            // Nothing can be done about a console that fails.
            let _ = writeln!(Console::open(), "[SVSM] ERROR: stage2: {error}");
            machine::exit(Exit::Error)
        }
    }
}

fn boot(start_info: u32) -> Result<Handover, BootError> {
    let parameters = parameters()?;
    let memory_map = memory_map(&parameters, start_info)?;
    let region = region::choose(&memory_map, &[parameters.image])?;
    // SAFETY: the payload is part of the boot image, which nothing writes and the
    // region does not overlap.
    let payload = unsafe { machine::memory(parameters.payload) }
        .ok_or(BootError::Memory(parameters.payload))?;
    // SAFETY: the region is RAM by the memory map and outside of the boot image; what
    // else the host left in RAM (start information, memory map) has been copied.
    let region_memory = unsafe { machine::memory_mut(region) }.ok_or(BootError::Memory(region))?;
    let placement = Placement {
        platform: parameters.platform,
        region,
        trampoline: machine::trampoline(),
        memory: &memory_map,
    };
    Ok(load::load(payload, region_memory, &placement)?)
}

/// The checked parameter page of the boot image.
fn parameters() -> Result<LoaderParameters, BootError> {
    let page = PhysRange {
        start: PARAMETERS_ADDRESS,
        size: PAGE_SIZE,
    };
    // SAFETY: nothing writes the parameter page.
    let bytes = unsafe { machine::memory(page) }.ok_or(BootError::Memory(page))?;
    let (parameters, _) =
        LoaderParameters::read_from_prefix(bytes).map_err(|_| ParameterError::Magic)?;
    parameters.validate(&machine::stage2())?;
    Ok(parameters)
}

/// The memory map: from the IGVM parameter area where the image has one, else from the
/// PVH start information.
fn memory_map(parameters: &LoaderParameters, start_info: u32) -> Result<MemoryMap, BootError> {
    let read = |range: PhysRange| {
        // SAFETY: nothing writes memory while the memory map is read; the map itself
        // is a copy.
        unsafe { machine::memory(range) }.ok_or(BootError::Memory(range))
    };
    if parameters.memory_map.size != 0 {
        return Ok(MemoryMap::from_igvm(read(parameters.memory_map)?)?);
    }
    let info = StartInfo::parse(read(PhysRange {
        start: start_info.into(),
        size: start_info::SIZE as u64,
    })?)?;
    Ok(MemoryMap::from_pvh(read(info.memory_map()?)?)?)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing can be done about a console that fails.
    let _ = write!(Console::open(), "[SVSM] ERROR: stage2: panic");
    if let Some(place) = info.location() {
        let _ = write!(Console, " at {}:{}", place.file(), place.line());
    }
    let _ = writeln!(Console, ": {}", info.message());
    machine::exit(Exit::Panic)
}
