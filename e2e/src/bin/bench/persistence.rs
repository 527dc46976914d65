//! What persistence costs: requests, counted in the booted kernel; CPU time and
//! instructions, in the host build.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{tree, workload};

use super::table::Table;

/// Commits over which growth of the heap is looked for.
const COMMITS: u32 = 10_000;

/// Overwrites whose CPU time is taken, and runs of which the median counts.
const OVERWRITES: u32 = 400;
const RUNS: usize = 5;

/// What the obvious design takes (one request for each 512 bytes, one flush for each
/// barrier, pages converted for each request), and what is to be reached.
const BESIDE: [(&str, &str, u32); 9] = [
    ("commit.64.requests", "18", 10),
    ("commit.4096.requests", "34", 11),
    ("commit.16384.requests", "84", 12),
    ("commit.65536.requests", "297", 14),
    ("commit.262144.requests", "1076", 18),
    ("commit.16384.requests_before_answer", "84", 6),
    ("commit.page_conversions", "136-8600", 0),
    ("mount.8MiB.requests", "31", 6),
    ("heap.growth_10000_commits", "", 0),
];

/// Measures everything.
pub fn measure(table: &mut Table) -> Result<()> {
    counts(table)?;
    cpu(table)?;
    instructions(table)
}

fn counts(table: &mut Table) -> Result<()> {
    eprintln!("costs in the kernel");
    let costs = workload::kernel_costs(COMMITS)?;
    let on_host = workload::host_costs(COMMITS)?;
    ensure!(
        costs == on_host,
        "the kernel counts {costs:?}, the host {on_host:?}"
    );
    for (key, value) in costs {
        let value = value as f64;
        match BESIDE.iter().find(|(beside, ..)| *beside == key) {
            Some((_, obvious, goal)) => {
                table.add_count(&key, value, obvious, *goal, "in the kernel and on the host");
            }
            None => table.add(key, value, "in the kernel and on the host"),
        }
    }
    Ok(())
}

/// The same code with the CPU's instructions for cryptography and without, each time
/// one after the other.
fn cpu(table: &mut Table) -> Result<()> {
    let mut runs = (0..RUNS)
        .map(|_| Ok((cpu_time("hw")?, cpu_time("soft")?)))
        .collect::<Result<Vec<_>>>()?;
    runs.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (hardware, soft) = runs[RUNS / 2];
    let per_overwrite = 1.0 / (1000.0 * f64::from(OVERWRITES));
    table.add_beside(
        "cpu.16384.soft_over_hw",
        soft / hardware,
        "1",
        "5",
        "CPU time of an overwrite, soft crypto over hardware",
    );
    for (key, time) in [("cpu.16384.hw_us", hardware), ("cpu.16384.soft_us", soft)] {
        table.add(
            key,
            (time * per_overwrite).round(),
            "CPU time of an overwrite, us",
        );
    }
    Ok(())
}

/// CPU time in ns that a build of the host's bench takes for [`OVERWRITES`].
fn cpu_time(crypto: &str) -> Result<f64> {
    let output = Command::new(tree::built(&format!("bench-persistence-{crypto}")))
        .args(["overwrites", &OVERWRITES.to_string()])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    text.trim()
        .parse()
        .context("bench-persistence prints a number")
}

/// Instructions of an overwrite. The simulated CPU has AES instructions, and none for
/// SHA.
fn instructions(table: &mut Table) -> Result<()> {
    for crypto in ["hw", "soft"] {
        eprintln!("instructions, {crypto}");
        let few = instructions_of(crypto, 20)?;
        let many = instructions_of(crypto, 120)?;
        table.add(
            format!("cpu.16384.{crypto}_instructions"),
            ((many - few) / 100.0).round(),
            "instructions of an overwrite, SHA in software",
        );
    }
    Ok(())
}

fn instructions_of(crypto: &str, overwrites: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(tree::built(&format!("bench-persistence-{crypto}")))
        .args(["overwrites", &overwrites.to_string()])
        .output()
        .context("cannot start valgrind; scripts/setup.sh bench installs it")?;
    let text = String::from_utf8(output.stderr)?;
    text.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .with_context(|| format!("valgrind counted nothing:\n{text}"))
}
