//! Looks at, makes and moves the state of a TPM while it is off.
#![forbid(unsafe_code)]

mod listing;
mod place;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use place::Place;
use vtpm::{
    Existing, Origin, Tpm,
    crypto::Native,
    server::{Directory, HostEnvironment},
};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Place(#[from] place::PlaceError),
    #[error(transparent)]
    Directory(#[from] vtpm::server::DirectoryError),
    #[error(transparent)]
    PowerOn(#[from] vtpm::PowerOnError),
    #[error(
        "{0} holds a TPM's state already; --replace makes a new one in its place, and everything in it is lost"
    )]
    Exists(String),
    #[error("{0} holds no TPM's state")]
    Empty(String),
}

#[derive(Parser)]
#[command(
    version,
    about = "Shows, makes and moves the state of a vTPM that is off"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the records and check that a TPM starts from them; secrets are not shown
    Show {
        /// A state directory, an archive, or a directory of records
        from: PathBuf,
    },
    /// Manufacture a TPM: new seeds from the system's random source
    Make {
        /// The state directory of the server; it must exist
        directory: PathBuf,
        /// Replace the TPM that is there; its keys and everything sealed to them are lost
        #[arg(long)]
        replace: bool,
    },
    /// Copy a state out of a state directory, into an archive or one file per record
    Export {
        /// The state directory
        directory: PathBuf,
        /// An archive to write, or (with --records) a directory
        to: PathBuf,
        /// Write each record to a file named by its number in hexadecimal, as the SVSM's volume has them
        #[arg(long)]
        records: bool,
    },
    /// Copy a state into an empty state directory, from an archive or a directory of records
    Import {
        /// An archive or a directory of records
        from: PathBuf,
        /// The state directory
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtpm-state: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Show { from } => {
            let records = place::read(&from)?;
            if records.is_empty() {
                return Err(Error::Empty(from.display().to_string()));
            }
            print!("{}", listing::listing(&records)?);
        }
        Command::Make { directory, replace } => make(&directory, replace)?,
        Command::Export {
            directory,
            to,
            records,
        } => {
            let found = place::read(&directory)?;
            if found.is_empty() {
                return Err(Error::Empty(directory.display().to_string()));
            }
            place::write(
                if records {
                    Place::Records(&to)
                } else {
                    Place::Archive(&to)
                },
                &found,
            )?;
        }
        Command::Import { from, directory } => {
            let records = place::read(&from)?;
            // What does not start a TPM is not imported.
            listing::listing(&records)?;
            if !place::read(&directory)?.is_empty() {
                return Err(Error::Exists(directory.display().to_string()));
            }
            place::write(Place::State(&directory), &records)?;
        }
    }
    Ok(())
}

fn make(directory: &std::path::Path, replace: bool) -> Result<(), Error> {
    let storage = Directory::open(directory)?;
    let environment = Box::new(HostEnvironment::default());
    let existing = if replace {
        Existing::Replace
    } else {
        Existing::Keep
    };
    let (tpm, origin) = Tpm::power_on_with(existing, environment, Box::new(storage), &Native)?;
    if origin == Origin::Loaded {
        return Err(Error::Exists(directory.display().to_string()));
    }
    println!("endorsement key {}", hex::encode(tpm.ek_public()));
    Ok(())
}
