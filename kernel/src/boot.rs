//! The boot sequence, from the loader's hand-over to a served guest.

use crate::arch::cpu::{self, Features};
use crate::arch::tables;
use crate::drivers::virtio::discovery;
use crate::entropy::{Entropy, EntropyError};
use crate::mm::MemoryError;
use crate::platform::tsc::ClockError;
use crate::platform::{self, ExitCode, Platform};
use crate::{console, fatal, mm};
use alloc::boxed::Box;
use bootinfo::{BootInfo, BootInfoError};

/// Runs the kernel. The binary's entry point calls it, once, on the boot stack.
pub fn main(info: &'static BootInfo) -> ! {
    tables::init();
    let Some(platform) = platform::select(info) else {
        // Nothing is known of this machine, not even how to say so.
        cpu::triple_fault();
    };
    console::init(platform.ports());
    fatal::init(platform);
    match boot(info, platform) {
        Ok(()) => {
            log::info!("boot sequence complete");
            platform.exit(ExitCode::Complete)
        }
        Err(stop) => fatal::stop(stop),
    }
}

/// Why the boot sequence ended early.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    BootInfo(#[from] BootInfoError),
    #[error("memory cannot be set up: {0}")]
    Memory(#[from] MemoryError),
    #[error("clock cannot be started: {0}")]
    Clock(#[from] ClockError),
    #[error("no randomness: {0}")]
    Entropy(#[from] EntropyError),
}

/// The boot sequence: each line is a step, and the first that fails ends it.
fn boot(info: &'static BootInfo, platform: &'static dyn Platform) -> Result<(), Stop> {
    log::info!(
        "SVSM {} on platform {}",
        env!("CARGO_PKG_VERSION"),
        platform.name()
    );
    info.validate()?;
    protect_cpu();
    mm::init(info)?;
    tables::use_fault_stacks(mm::stack::for_faults()?);
    mm::shared::init(|range| platform.share_with_host(range))?;
    let clock = platform.start_clock()?;
    let _entropy = start_entropy()?;
    let _devices = discovery::block_devices(platform.virtio_slots(), clock);
    report_memory();
    Ok(())
}

/// Switches on what the CPU has, and says what that is.
fn protect_cpu() {
    let features = Features::detect();
    cpu::protect(&features);
    log::info!("CPU: {features}");
}

fn start_entropy() -> Result<&'static dyn Entropy, EntropyError> {
    let (entropy, source) = platform::start_entropy()?;
    log::info!("random source: {source}, health tests passed");
    Ok(Box::leak(Box::new(entropy)))
}

fn report_memory() {
    let heap = mm::heap::usage();
    log::info!(
        "memory: {} bytes of heap in use, {} free frames",
        heap.bytes,
        mm::free_frames()
    );
}
