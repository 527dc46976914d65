//! `aproxy`: see [`aproxy`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match aproxy::cli::run(aproxy::cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("aproxy: {e:#}");
            ExitCode::FAILURE
        }
    }
}
