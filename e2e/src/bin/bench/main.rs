//! Measures boots, attestation, persistence and the services: prints a table for people and writes one flat JSON
//! object of numbers with stable keys. Documentation/INSTALL.md explains the keys.

#![forbid(unsafe_code)]

mod attestation;
mod persistence;
mod services;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use e2e::{Boot, Servers, image, tree};

use table::Table;

/// A part of the measurements, with its name on the command line.
type Part = (&'static str, fn(&mut Table) -> Result<()>);

/// Boots that are measured; the median counts.
const BOOTS: usize = 5;

const OPENED: &str = "[SVSM] persistent CocoonFs storage opened successfully";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let output = match (args.next().as_deref(), args.next()) {
        (Some("--output"), Some(file)) => PathBuf::from(file),
        _ => bail!("usage: bench --output FILE [PART...]"),
    };
    let parts: [Part; 4] = [
        ("boots", boots),
        ("attestation", attestation::measure),
        ("persistence", persistence::measure),
        ("services", services::measure),
    ];
    let wanted: Vec<_> = args.collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !parts.iter().any(|part| part.0 == **name))
    {
        bail!(
            "no part {unknown}; there are {:?}",
            parts.map(|part| part.0)
        );
    }

    let mut table = Table::default();
    for (name, measure) in parts {
        if wanted.is_empty() || wanted.iter().any(|other| other == name) {
            measure(&mut table)?;
        }
    }
    table.finish(&output)
}

/// Boots of the native platform: the first, which formats, and the median of others.
fn boots(table: &mut Table) -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let guest = servers.guest().image(&state);

    eprintln!("boot 1 of {}, formats the volume", BOOTS + 1);
    let format = Times::of(&guest.boot()?)?;
    let mut boots = Vec::new();
    for n in 0..BOOTS {
        eprintln!("boot {} of {}", n + 2, BOOTS + 1);
        let boot = guest.boot()?;
        boots.push((
            Times::of(&boot)?,
            number(&boot, "memory: ", " bytes of heap in use")?,
        ));
    }

    let times = |pick: fn(&Times) -> f64| median(boots.iter().map(|(t, _)| pick(t)));
    for (key, meaning, value) in [
        (
            "boot.ms.total",
            "from QEMU's start to the open volume, ms",
            times(|t| t.total),
        ),
        (
            "boot.ms.attest",
            "of which attestation, ms",
            times(|t| t.attest),
        ),
        (
            "boot.ms.mount",
            "of which finding and opening the volume, ms",
            times(|t| t.mount),
        ),
        (
            "boot.ms.format",
            "the same in the first boot, which formats 8 MiB, ms",
            format.mount,
        ),
        (
            "heap.bytes_after_boot",
            "heap in use after the boot, bytes",
            median(boots.iter().map(|(_, heap)| *heap)),
        ),
        (
            "image.bytes",
            "bin/coconut-qemu.igvm, bytes",
            size("coconut-qemu.igvm")?,
        ),
        (
            "image.native.bytes",
            "bin/svsm-native.elf, bytes",
            size("svsm-native.elf")?,
        ),
    ] {
        table.add(key, value.round(), meaning);
    }
    Ok(())
}

/// What a boot spent its time on, in milliseconds.
struct Times {
    total: f64,
    attest: f64,
    mount: f64,
}

impl Times {
    fn of(boot: &Boot) -> Result<Self> {
        ensure!(boot.status == 0, "the boot failed:\n{}", boot.log());
        let total = boot
            .time_of(OPENED)
            .with_context(|| format!("the volume was not opened:\n{}", boot.log()))?;
        Ok(Self {
            total: total.as_secs_f64() * 1000.0,
            attest: number(boot, "time: attestation took ", " ms")?,
            mount: number(boot, "time: opening persistent storage took ", " ms")?,
        })
    }
}

/// The number between `before` and `after` in a line of the log.
fn number(boot: &Boot, before: &str, after: &str) -> Result<f64> {
    boot.lines
        .iter()
        .find_map(|l| {
            let (_, rest) = l.text.split_once(before)?;
            rest.split_once(after)?.0.parse().ok()
        })
        .with_context(|| format!("no line {before:?} in the log:\n{}", boot.log()))
}

fn size(name: &str) -> Result<f64> {
    let bytes = fs::metadata(tree::built(name))?.len();
    Ok(f64::from(u32::try_from(bytes)?))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
