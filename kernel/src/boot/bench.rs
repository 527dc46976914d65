//! The step that measures or works on the volume as long as the host likes, in builds
//! for that.

use super::attestation::Attestation;
use super::{Machine, storage};
use crate::bench::costs::{Bench, Part};
use crate::bench::{BenchError, writes};
use crate::drivers::fw_cfg::FwCfg;
use crate::mm;
use crate::persistence::{FormatPolicy, Volume as _, boot_counter};
use crate::platform;

/// What to do, as fw_cfg knows it: `overwrite=BYTES`, `growth=COMMITS`, `mount=0` or
/// `writes=COUNT`.
const FILE: &str = "opt/org.coconut-svsm/bench";

/// Longest request, in bytes.
const LIMIT: usize = 32;

/// Does what the host asks for, if anything, on the image that belongs to the secret;
/// then opens it as any boot does.
pub(super) fn run(machine: &Machine, attestation: &Attestation) -> Result<(), BenchError> {
    let device = FwCfg::open(machine.platform.ports());
    let file = device.and_then(|device| device.read_file(FILE, LIMIT).ok().flatten());
    let request = file
        .as_deref()
        .and_then(|file| core::str::from_utf8(file).ok());
    let Some((what, number)) = request.and_then(|request| request.trim().split_once('=')) else {
        return Ok(());
    };
    let Ok(number) = number.parse() else {
        return Ok(());
    };
    let open = || storage::image(machine, &attestation.secret, FormatPolicy::Allow).ok()?;
    let volume = open().ok_or(BenchError::NoVolume)?;
    let part = match what {
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
