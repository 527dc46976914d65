//! `kbs-test`: see [`kbs_test`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match kbs_test::cli::run(kbs_test::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kbs-test: {e:#}");
            ExitCode::FAILURE
        }
    }
}
