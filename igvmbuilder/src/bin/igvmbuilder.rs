//! Composes the boot images from stage2 and the kernel.

use anyhow::{Context, Result};
use bootinfo::platform;
use bootinfo::trusted_keys::KEY_LEN;
use clap::Parser;
use igvmbuilder::boot_image::{BootImage, MemoryMapSource};
use igvmbuilder::platform::Native;
use igvmbuilder::{flatten, igvm_file, initial_set, pvh, trusted_keys};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Composes the boot images of the SVSM from stage2 and the kernel.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// The loader's ELF file
    #[arg(long, value_name = "FILE", required_unless_present = "flatten_igvm")]
    stage2: Option<PathBuf>,
    /// The kernel's ELF file; symbols are left out of the images
    #[arg(long, value_name = "FILE", required_unless_present = "flatten_igvm")]
    kernel: Option<PathBuf>,
    /// Take a secret only from servers with these keys (P-384, PEM); repeatable. The
    /// keys become part of the image and of its measurement
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "kernel")]
    trusted_kbs_key: Vec<PathBuf>,
    /// First Secure Boot keys for a kernel with the feature `secureboot`, as `uefi-vars
    /// set` writes them. They become part of the image and of its measurement
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initial_set: Option<PathBuf>,
    /// Write an IGVM file
    #[arg(long, value_name = "FILE", required_unless_present = "elf")]
    igvm: Option<PathBuf>,
    /// Write a PVH image, which stock QEMU boots with -kernel
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// Instead of stage2 and a kernel, take the content of a finished IGVM file; for
    /// tests on hosts that cannot load IGVM
    #[arg(
        long,
        value_name = "FILE",
        requires = "elf",
        conflicts_with_all = ["stage2", "kernel", "igvm"]
    )]
    flatten_igvm: Option<PathBuf>,
    /// RAM of the machine that will boot the flattened file, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 256,
        requires = "flatten_igvm"
    )]
    memory: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("igvmbuilder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let (Some(igvm), Some(elf)) = (&arguments.flatten_igvm, &arguments.elf) {
        let image = flatten::flatten(&read(igvm)?, arguments.memory)
            .with_context(|| igvm.display().to_string())?;
        return write(elf, &image);
    }
    let (Some(stage2), Some(kernel)) = (&arguments.stage2, &arguments.kernel) else {
        anyhow::bail!("--stage2 and --kernel are required");
    };
    let stage2 = read(stage2)?;
    let kernel = trusted_keys::pin(&read(kernel)?, &keys(&arguments.trusted_kbs_key)?)?;
    let set = arguments.initial_set.as_deref().map(read).transpose()?;
    let kernel = initial_set::put(kernel, set.as_deref())?;
    // Both are built before either is written: a failure leaves no half of a pair.
    let elf = match &arguments.elf {
        Some(path) => {
            let image = BootImage::compose(
                &stage2,
                &kernel,
                platform::NATIVE,
                MemoryMapSource::StartInfo,
            )?;
            Some((path, pvh::write(&image)?))
        }
        None => None,
    };
    let igvm = match &arguments.igvm {
        Some(path) => Some((path, igvm_file::build(&stage2, &kernel, &Native)?)),
        None => None,
    };
    for (path, contents) in elf.into_iter().chain(igvm) {
        write(path, &contents)?;
    }
    Ok(())
}

/// The keys in `files`.
fn keys(files: &[PathBuf]) -> Result<Vec<[u8; KEY_LEN]>> {
    let parse = |file: &PathBuf| {
        let pem = String::from_utf8_lossy(&read(file)?).into_owned();
        trusted_keys::parse_key(&pem).with_context(|| file.display().to_string())
    };
    files.iter().map(parse).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
