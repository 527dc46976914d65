//! Measures boots: prints a table for people and writes one flat JSON object of
//! numbers with stable keys. Documentation/INSTALL.md explains the keys.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::{Boot, Servers, image, tree};

/// Boots that are measured; the median counts.
const BOOTS: usize = 5;

const EVIDENCE: &str = "attestation evidence is a sample";
const ATTESTED: &str = "[SVSM] attestation successful";
const OPENED: &str = "[SVSM] persistent CocoonFs storage opened successfully";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let output = match (args.next().as_deref(), args.next()) {
        (Some("--output"), Some(file)) => PathBuf::from(file),
        _ => bail!("usage: bench --output FILE"),
    };

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
        boots.push((Times::of(&boot)?, heap_bytes(&boot)?));
    }

    let times = |pick: fn(&Times) -> Duration| median(boots.iter().map(|(t, _)| ms(pick(t))));
    let rows = [
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
            ms(format.mount),
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
    ];

    println!("{:<24} {:>12}  median of {BOOTS} boots", "key", "value");
    let mut object = serde_json::Map::new();
    for (key, meaning, value) in rows {
        println!("{key:<24} {value:>12.0}  {meaning}");
        object.insert(key.to_owned(), serde_json::json!(value));
    }
    let text = serde_json::to_string_pretty(&object)? + "\n";
    fs::write(&output, text).with_context(|| format!("cannot write {}", output.display()))?;
    println!("written to {}", output.display());
    Ok(())
}

/// What a boot spent its time on.
struct Times {
    total: Duration,
    attest: Duration,
    mount: Duration,
}

impl Times {
    fn of(boot: &Boot) -> Result<Self> {
        ensure!(boot.status == 0, "the boot failed:\n{}", boot.log());
        let at = |line: &str| {
            boot.time_of(line)
                .with_context(|| format!("no line {line:?} in the log:\n{}", boot.log()))
        };
        let (evidence, attested, total) = (at(EVIDENCE)?, at(ATTESTED)?, at(OPENED)?);
        Ok(Self {
            total,
            attest: attested.saturating_sub(evidence),
            mount: total.saturating_sub(attested),
        })
    }
}

fn heap_bytes(boot: &Boot) -> Result<f64> {
    boot.lines
        .iter()
        .find_map(|l| {
            let rest = l.text.strip_prefix("[SVSM] memory: ")?;
            let (bytes, _) = rest.split_once(" bytes of heap in use")?;
            bytes.parse().ok()
        })
        .with_context(|| format!("the log does not tell the heap in use:\n{}", boot.log()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
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
