//! Writes an IGVM file with a directive of every kind that has to do with the
//! measurement, for `scripts/check-measurement.py`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: all_directives FILE");
        return ExitCode::FAILURE;
    };
    let file = common::serialized(&common::snp_file(common::all_directives()));
    match std::fs::write(&path, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("all_directives: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
