//! Stands in for a guest: makes SVSM calls over COM4 of an SVSM on the native platform.

mod cli;
mod efivar;
mod manifest;
mod raw;
mod svsm;
mod tpm;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run(&cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guestlink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &cli::Arguments) -> anyhow::Result<()> {
    let link = &arguments.link;
    match &arguments.command {
        cli::Command::Tpm(options) => tpm::serve(link, options),
        cli::Command::Manifest { json } => manifest::show(&mut svsm::connect(link)?, *json),
        cli::Command::Call(options) => raw::call(&mut svsm::connect(link)?, options),
        cli::Command::Shutdown => Ok(svsm::connect(link)?.shutdown()?),
        cli::Command::Efivar { command } => efivar::run(&mut svsm::connect(link)?, command),
    }
}
