//! What the services take: the vTPM, and the UEFI variables.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::tree;
use elf::ElfBytes;
use elf::endian::LittleEndian;

use super::table::Table;

/// Latencies to be reached, over swtpm's: making an RSA key, and everything else.
const RSA_GOAL: &str = "3";
const GOAL: &str = "1.5";

/// What counts may be at most: device requests of a small NV_Write, commands of a boot that
/// write, bytes of stack, bytes of UEFI variables that a boot writes.
const BOUNDS: [(&str, u32); 6] = [
    ("tpm.nv_write.requests", 10),
    ("tpm.pcr_extend.requests", 0),
    ("tpm.boot.nv_writes", 2),
    ("tpm.stack.command", 24 << 10),
    ("uefi.boot1.bytes", 30 << 10),
    ("uefi.boot2.bytes", 11 << 10),
];

/// Measures everything.
pub fn measure(table: &mut Table) -> Result<()> {
    latency(table)?;
    counts(
        table,
        &["costs"],
        "of the device, in the SVSM's persistence",
    )?;
    let boots = ["boot-b1", "boot-b3"].map(stream);
    counts(
        table,
        &["boots", &boots[0], &boots[1]],
        "of a boot of OVMF and Linux",
    )?;
    memory(table)?;
    code_size(table)?;
    uefi(table)
}

/// A recorded stream of the vTPM's tests.
fn stream(name: &str) -> String {
    let path = format!("vtpm/tests/vectors/streams/{name}.jsonl");
    tree::root().join(path).display().to_string()
}

/// What a program of `bin/` prints.
fn output(name: &str, arguments: &[&str]) -> Result<String> {
    eprintln!("{name} {}", arguments.join(" "));
    let output = Command::new(tree::built(name))
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Numbers that a program prints, a key and its value in each line.
fn lines(text: &str) -> Result<Vec<(&str, f64)>> {
    let numbers = text.lines().map(|line| {
        let (key, value) = line.split_once(' ').context("a key and a number")?;
        Ok((key, value.parse().with_context(|| line.to_owned())?))
    });
    let numbers: Vec<_> = numbers.collect::<Result<_>>()?;
    ensure!(!numbers.is_empty(), "nothing was measured");
    Ok(numbers)
}

/// Round trips of this server and of swtpm, in the same run.
fn latency(table: &mut Table) -> Result<()> {
    let server = tree::built("bench-vtpm-server").display().to_string();
    let text = output("bench-tpm-latency", &["--server", &server])?;
    for (key, value) in lines(&text)? {
        if !key.ends_with(".ratio_vs_swtpm") {
            table.add(key, value, "median of a round trip, us");
        } else if key.contains("on_disk") {
            table.add(key, value, "this server syncs to the disk, swtpm does not");
        } else {
            let goal = if key.contains("create_primary_rsa") {
                RSA_GOAL
            } else {
                GOAL
            };
            table.add_beside(key, value, "", goal, "round trip over swtpm's, same run");
        }
    }
    Ok(())
}

/// Numbers that the host build of the kernel's vTPM counts.
fn counts(table: &mut Table, arguments: &[&str], meaning: &str) -> Result<()> {
    for (key, value) in numbers("bench-vtpm", arguments)? {
        add(table, &key, value, meaning);
    }
    Ok(())
}

fn numbers(program: &str, arguments: &[&str]) -> Result<BTreeMap<String, f64>> {
    let text = output(program, arguments)?;
    serde_json::from_str(&text).with_context(|| format!("{program} prints an object"))
}

fn add(table: &mut Table, key: &str, value: f64, meaning: &str) {
    match BOUNDS.iter().find(|(bounded, _)| *bounded == key) {
        Some((_, most)) => table.add_count(key, value, "", *most, meaning),
        None => table.add(key, value, meaning),
    }
}

/// Stack and heap of the engine in both kinds of build; the larger number counts.
fn memory(table: &mut Table) -> Result<()> {
    let streams = tree::built("bench-tpm-commands").display().to_string();
    let mut most = numbers("bench-vtpm", &["memory", &streams])?;
    for (key, value) in numbers("bench-vtpm-debug", &["memory", &streams])? {
        let known = most.entry(key).or_default();
        *known = known.max(value);
    }
    for (key, value) in most {
        add(
            table,
            &key,
            value,
            "of the engine, all commands, both kinds of build",
        );
    }
    Ok(())
}

/// What the vTPM adds to a kernel that serves calls, optimised as for production.
fn code_size(table: &mut Table) -> Result<()> {
    let size = |name: &str| -> Result<f64> {
        let bytes = fs::read(tree::built(name)).with_context(|| name.to_owned())?;
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
        let text = elf.section_header_by_name(".text")?.context("no .text")?;
        Ok(f64::from(u32::try_from(text.sh_size)?))
    };
    let without = size("bench-kernel.elf")?;
    let with = size("bench-kernel-vtpm.elf")?;
    ensure!(with > without, "the vTPM is not in the kernel");
    table.add("tpm.code.bytes", with - without, ".text that the vTPM adds");
    table.add("tpm.code.without", without, ".text without it");
    Ok(())
}

/// What recorded boots hand to the store of UEFI variables.
fn uefi(table: &mut Table) -> Result<()> {
    for (key, value) in lines(&output("bench-uefi", &[])?)? {
        add(table, key, value, "of a recorded boot of OVMF and Linux");
    }
    Ok(())
}
