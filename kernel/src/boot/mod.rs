//! The boot sequence, from the loader's hand-over to a served guest.

#[cfg(feature = "attest")]
mod attestation;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "guestlink")]
mod serve;
#[cfg(any(feature = "guestlink", feature = "vtpm", feature = "uefivars"))]
mod services;
#[cfg(feature = "cocoonfs")]
mod storage;

use crate::arch::cpu::{self, Features};
use crate::arch::tables;
use crate::block::BlockDevice;
use crate::drivers::virtio::discovery;
use crate::entropy::{Entropy, EntropyError};
use crate::mm::MemoryError;
use crate::platform::tsc::ClockError;
use crate::platform::{self, ExitCode, Platform};
use crate::time::Clock;
use crate::{console, fatal, mm};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bootinfo::{BootInfo, BootInfoError};
use core::time::Duration;

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
    #[cfg(feature = "attest")]
    #[error("attestation failed: {0}")]
    Attestation(#[from] attestation::AttestationStop),
    #[cfg(feature = "cocoonfs")]
    #[error(transparent)]
    Storage(#[from] storage::StorageStop),
    #[cfg(any(feature = "guestlink", feature = "vtpm", feature = "uefivars"))]
    #[error(transparent)]
    Services(#[from] services::ServiceStop),
    #[cfg(feature = "guestlink")]
    #[error(transparent)]
    Link(#[from] crate::guestlink::LinkError),
    #[cfg(feature = "bench")]
    #[error(transparent)]
    Bench(#[from] crate::bench::BenchError),
    #[cfg(all(feature = "selftest", target_os = "svsm"))]
    #[error(transparent)]
    SelfTest(#[from] crate::selftest::CheckFailed),
}

/// What the services stand on.
#[cfg_attr(not(feature = "cocoonfs"), allow(dead_code))]
struct Machine {
    platform: &'static dyn Platform,
    clock: &'static dyn Clock,
    entropy: &'static dyn Entropy,
    devices: Vec<Arc<dyn BlockDevice>>,
}

/// The boot sequence: each line is a step, and the first that fails ends it.
#[cfg_attr(not(feature = "cocoonfs"), allow(unused_variables))]
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
    let machine = start_machine(platform)?;
    #[cfg(feature = "attest")]
    let attestation = attestation::attest(&machine)?;
    #[cfg(feature = "bench")]
    bench::run(&machine, &attestation)?;
    #[cfg(feature = "cocoonfs")]
    let storage = storage::open(&machine, attestation)?;
    #[cfg(feature = "cocoonfs")]
    storage::count_boot(storage.volume.as_ref());
    #[cfg(feature = "bench")]
    bench::commits(&machine, storage.volume.as_deref())?;
    #[cfg(all(feature = "selftest", target_os = "svsm"))]
    crate::selftest::run(
        machine.platform,
        machine.entropy,
        storage.volume.as_deref().map(|volume| volume as _),
    )?;
    #[cfg(any(feature = "guestlink", feature = "vtpm", feature = "uefivars"))]
    #[cfg_attr(
        not(feature = "guestlink"),
        expect(unused_variables, reason = "no guest is started yet")
    )]
    let services = services::start(&machine, &storage)?;
    report_use(&machine);
    #[cfg(feature = "guestlink")]
    serve::run(&machine, &services, storage.volume.as_deref())?;
    Ok(())
}

/// Switches on what the CPU has, and says what that is.
fn protect_cpu() {
    let features = Features::detect();
    cpu::protect(&features);
    cpu::enable_avx(&features);
    log::info!("CPU: {features}");
}

/// Starts clock and random source and finds the devices.
fn start_machine(platform: &'static dyn Platform) -> Result<Machine, Stop> {
    let clock = platform.start_clock()?;
    let (entropy, source) = platform::start_entropy()?;
    log::info!("random source: {source}, health tests passed");
    let devices = discovery::block_devices(&discovery::slots(platform), clock);
    Ok(Machine {
        platform,
        clock,
        entropy: Box::leak(Box::new(entropy)),
        devices,
    })
}

impl Machine {
    /// Says in the log how long `what` took since `start`.
    fn report_time(&self, what: &str, start: Duration) {
        let time = self.clock.now().saturating_sub(start);
        log::info!("time: {what} took {} ms", time.as_millis());
    }
}

/// Says what the boot took.
fn report_use(machine: &Machine) {
    machine.report_time("the kernel's boot", Duration::ZERO);
    log::info!(
        "memory: {} bytes of heap in use, {} free frames",
        mm::heap::usage().bytes,
        mm::free_frames()
    );
}
