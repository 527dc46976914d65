//! The build of the kernel that measures and works on the volume: what it is asked, and
//! what it answers.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{Boot, Guest};
use crate::servers::Servers;
use crate::{image, tree};

/// Has `guest` boot that build and do what `request` says: `overwrite=BYTES`,
/// `growth=COMMITS`, `mount=0`, `writes=COUNT` or `commits=COUNT`.
pub fn asking(guest: Guest, request: &str) -> Guest {
    guest
        .option("--kernel")
        .option(tree::built("svsm-bench.elf"))
        .qemu("-fw_cfg")
        .qemu(format!("name=opt/org.coconut-svsm/bench,string={request}"))
}

/// The numbers that a boot measured, with their keys.
pub fn numbers(boot: &Boot) -> Result<Vec<(String, i64)>> {
    ensure!(boot.status == 0, "the boot failed:\n{}", boot.log());
    let numbers: Vec<_> = boot
        .lines
        .iter()
        .filter_map(|line| line.text.split_once("bench: ")?.1.split_once(" = "))
        .map(|(key, number)| {
            let number = number.parse().with_context(|| format!("{key}: {number}"))?;
            Ok((key.to_owned(), number))
        })
        .collect::<Result<_>>()?;
    ensure!(!numbers.is_empty(), "nothing measured:\n{}", boot.log());
    Ok(numbers)
}

/// What persistence costs, counted in the booted kernel, a new volume for each kind of
/// cost; growth of the heap over `commits` commits.
pub fn kernel_costs(commits: u32) -> Result<BTreeMap<String, i64>> {
    let servers = Servers::start()?;
    let mut costs = BTreeMap::new();
    let overwrites = [64, 4096, 16384, 65536, 262_144].map(|size| format!("overwrite={size}"));
    let others = ["mount=0".to_owned(), format!("growth={commits}")];
    for (n, request) in overwrites.iter().chain(&others).enumerate() {
        let state = servers.path(&format!("state{n}.img"));
        image::creation_header(&state)?;
        let boot = asking(servers.guest().image(&state), request).boot()?;
        costs.extend(numbers(&boot)?);
    }
    Ok(costs)
}

/// The same, counted by the host build at a device in memory.
pub fn host_costs(commits: u32) -> Result<BTreeMap<String, i64>> {
    let output = Command::new(tree::built("bench-persistence"))
        .env("SVSM_BENCH_COMMITS", commits.to_string())
        .output()?;
    ensure!(
        output.status.success(),
        "bench-persistence: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("bench-persistence prints an object")
}

/// The last transaction whose acknowledgement is among `lines`.
pub fn last_acknowledged<'a>(lines: impl Iterator<Item = &'a str>) -> Option<u64> {
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("bench: transaction ")?;
            rest.strip_suffix(" acknowledged")?.parse().ok()
        })
        .last()
}

/// The transaction that the files of the volume belong to, as a boot found it.
pub fn found(boot: &Boot) -> Result<u64> {
    boot.lines
        .iter()
        .find_map(|line| {
            let (_, rest) = line.text.split_once("bench: files are as transaction ")?;
            rest.strip_suffix(" left them")?.parse().ok()
        })
        .with_context(|| format!("the files were not recognised:\n{}", boot.log()))
}

/// Lets `guest` run for `time`, kills it, and says which transaction it acknowledged
/// last.
pub fn kill_after(guest: &Guest, time: Duration) -> Result<Option<u64>> {
    let process = guest.start()?;
    std::thread::sleep(time);
    let lines = process.kill()?;
    Ok(last_acknowledged(
        lines.iter().map(|line| line.text.as_str()),
    ))
}
