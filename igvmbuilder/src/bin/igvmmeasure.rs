//! Prints the launch digest of an IGVM file.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use igvmbuilder::igvm_reader;
use igvmbuilder::measure::{Options, Platform, measure};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Computes what a host's secure processor will report for an IGVM file.
///
/// A file without SEV-SNP is measured for its native platform: that number identifies
/// the image, but no hardware will ever report it.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Refuse a file that QEMU with KVM would not launch exactly as it says
    #[arg(long, global = true)]
    check_kvm: bool,
    /// Pages without data are the processor's ZERO pages, not normal pages of zeroes
    #[arg(long, global = true)]
    native_zero: bool,
    /// Measure for this platform; default: snp where the file has it, else native
    #[arg(long, global = true, value_enum)]
    platform: Option<PlatformName>,
    /// The IGVM file
    file: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the launch digest
    Measure {
        /// Print nothing but the hexadecimal digits
        #[arg(short, long)]
        bare: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum PlatformName {
    Native,
    Snp,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("igvmmeasure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = igvm_reader::read(&bytes).with_context(|| path.display().to_string())?;
    let options = Options {
        native_zero: arguments.native_zero,
        check_kvm: arguments.check_kvm,
        platform: arguments.platform.map(|name| match name {
            PlatformName::Native => Platform::Native,
            PlatformName::Snp => Platform::Snp,
        }),
    };
    let digest = measure(&file, &options).with_context(|| path.display().to_string())?;
    let Command::Measure { bare } = arguments.command;
    if bare {
        println!("{}", hex::encode(digest));
    } else {
        println!("Launch Digest: {}", hex::encode(digest));
    }
    Ok(())
}
