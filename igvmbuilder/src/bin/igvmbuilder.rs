//! Composes the boot images from stage2 and the kernel.

use anyhow::{Context, Result};
use bootinfo::platform;
use clap::Parser;
use igvmbuilder::boot_image::{BootImage, MemoryMapSource};
use igvmbuilder::pvh;
use std::fs;
use std::path::{Path, PathBuf};

/// Composes the boot images of the SVSM from stage2 and the kernel.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// The loader's ELF file.
    #[arg(long, value_name = "FILE")]
    stage2: PathBuf,
    /// The kernel's ELF file; symbols are left out of the images.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Write a PVH image, which stock QEMU boots with -kernel.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stage2 = read(&arguments.stage2)?;
    let kernel = read(&arguments.kernel)?;
    if let Some(path) = &arguments.elf {
        let image = BootImage::compose(
            &stage2,
            &kernel,
            platform::NATIVE,
            MemoryMapSource::StartInfo,
        )?;
        write(path, &pvh::write(&image)?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
