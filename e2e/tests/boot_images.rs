//! Both boot images start the same system, and stage2 refuses what it must.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use e2e::{Boot, Guest, Servers, image, tree};

/// The content of the IGVM file as an image for QEMU's `-kernel`, with the memory map
/// that an IGVM host would give.
fn flattened_igvm(out: &Path, memory: &str) -> Result<()> {
    let status = Command::new(tree::built("igvmbuilder"))
        .arg("--flatten-igvm")
        .arg(tree::built("coconut-qemu.igvm"))
        .args(["--memory", memory, "--elf"])
        .arg(out)
        .status()?;
    assert!(status.success());
    Ok(())
}

fn boot(kernel: &Path) -> Result<Boot> {
    Guest::new().option("--kernel").option(kernel).boot()
}

#[test]
fn the_content_of_the_igvm_file_attests_and_counts_boots() -> Result<()> {
    let servers = Servers::start()?;
    let kernel = servers.path("flat.elf");
    flattened_igvm(&kernel, "256")?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let guest = servers.guest().option("--kernel").option(&kernel);
    for counter in ["no boot counter found yet", "read back is 1"] {
        let boot = guest.clone().image(&state).boot()?;
        boot.assert_complete();
        boot.assert_says(&["attestation successful", counter]);
    }
    Ok(())
}

#[test]
fn memory_map_of_the_igvm_host_counts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kernel = dir.path().join("flat.elf");
    flattened_igvm(&kernel, "8")?;
    boot(&kernel)?.assert_stopped("stage2: no 16 MiB of free RAM below 4 GiB for the SVSM");
    Ok(())
}

#[test]
fn too_little_memory_is_refused() -> Result<()> {
    let boot = Guest::new().option("--memory").option("16").boot()?;
    boot.assert_stopped("stage2: no 16 MiB of free RAM below 4 GiB for the SVSM");
    Ok(())
}

#[test]
fn cpu_without_long_mode_is_refused() -> Result<()> {
    let boot = Guest::new().qemu("-cpu").qemu("qemu32").boot()?;
    boot.assert_stopped("stage2: the CPU has no long mode or no no-execute pages");
    Ok(())
}

/// Boots the PVH image with one byte changed, `offset` bytes behind the `count`-th
/// occurrence of `marker`.
fn boot_damaged(marker: &[u8], count: usize, offset: usize, value: u8) -> Result<Boot> {
    let mut bytes = fs::read(tree::built("svsm-native.elf"))?;
    let place = bytes
        .windows(marker.len())
        .enumerate()
        .filter(|(_, window)| *window == marker)
        .nth(count)
        .context("the image does not have the marker")?
        .0;
    bytes[place + offset] = value;
    let dir = tempfile::tempdir()?;
    let kernel = dir.path().join("damaged.elf");
    fs::write(&kernel, bytes)?;
    boot(&kernel)
}

/// How an ELF file for x86-64 begins: the second one in the image is the kernel.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01";

#[test]
fn damaged_images_are_refused_with_the_cause() -> Result<()> {
    boot_damaged(ELF, 1, 0, 0)?.assert_stopped("stage2: kernel is not a valid ELF file");
    boot_damaged(ELF, 1, 16, 3)?
        .assert_stopped("stage2: kernel is not a static 64-bit x86 executable");
    // Flags of the first program header, which is the code.
    boot_damaged(ELF, 1, 64 + 4, 7)?.assert_stopped("both writable and executable");
    boot_damaged(b"SVSMLOAD", 0, 8, 9)?
        .assert_stopped("stage2: parameter page has version 9, this stage2 needs version 1");
    boot_damaged(b"SVSMLOAD", 0, 16, 1)?.assert_stopped("stage2: platform 1 is not supported");
    Ok(())
}
