//! The step that measures or works on the volume as long as the host likes, in builds
//! for that.

use super::attestation::Attestation;
use super::{Machine, storage};
use crate::bench::costs::{Bench, Part, overwrite};
use crate::bench::{BenchError, writes};
use crate::drivers::fw_cfg::FwCfg;
use crate::mm;
use crate::persistence::{FormatPolicy, Volume, boot_counter};
use crate::platform;
use alloc::boxed::Box;

/// What to do, as fw_cfg knows it: `overwrite=BYTES`, `growth=COMMITS`, `mount=0`,
/// `writes=COUNT` or `commits=COUNT`.
const FILE: &str = "opt/org.coconut-svsm/bench";

/// Longest request, in bytes.
const LIMIT: usize = 32;

/// What the host asks for, and the number that goes with it.
fn request(machine: &Machine) -> Option<(Box<str>, u64)> {
    let device = FwCfg::open(machine.platform.ports())?;
    let file = device.read_file(FILE, LIMIT).ok().flatten()?;
    let (what, number) = core::str::from_utf8(&file).ok()?.trim().split_once('=')?;
    Some((what.into(), number.parse().ok()?))
}

/// Does what the host asks for, if anything, on the image that belongs to the secret;
/// then opens it as any boot does.
pub(super) fn run(machine: &Machine, attestation: &Attestation) -> Result<(), BenchError> {
    let Some((what, number)) = request(machine) else {
        return Ok(());
    };
    if what.as_ref() == "commits" {
        return Ok(());
    }
    let open = || storage::image(machine, &attestation.secret, FormatPolicy::Allow).ok()?;
    let volume = open().ok_or(BenchError::NoVolume)?;
    let part = match what.as_ref() {
        "overwrite" => Part::Overwrite(number as usize),
        "growth" => Part::Growth(number),
        "mount" => Part::Mount,
        "writes" => return writes::run(&volume, number),
        _ => return Ok(()),
    };
    // As a boot leaves it.
    let _ = boot_counter::count_boot(&volume);
    volume.settle()?;
    drop(volume);
    let bench = Bench {
        device: machine
            .devices
            .first()
            .ok_or(BenchError::NoVolume)?
            .as_ref(),
        open: &open,
        heap: &|| mm::heap::usage().bytes as u64,
        conversions: &platform::pages_converted,
    };
    bench.run(part, &mut |key, value| log::info!("bench: {key} = {value}"))
}

/// Commits as often as the host asks for to the volume as services use it, reports to the
/// ledger included, and says how long one took.
pub(super) fn commits(machine: &Machine, volume: Option<&dyn Volume>) -> Result<(), BenchError> {
    let number = match request(machine) {
        Some((what, number)) if what.as_ref() == "commits" && number > 0 => number,
        _ => return Ok(()),
    };
    let volume = volume.ok_or(BenchError::NoVolume)?;
    let start = machine.clock.now();
    for round in 0..number {
        overwrite(volume, 64, round)?;
    }
    volume.settle()?;
    let time = machine.clock.now().saturating_sub(start).as_micros();
    log::info!("bench: commit.us = {}", time / u128::from(number));
    Ok(())
}
