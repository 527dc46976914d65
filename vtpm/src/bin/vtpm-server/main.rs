//! A TPM 2.0 for tools that start and drive `swtpm`: `swtpm socket --tpm2 ...`. Installed
//! under both names.
#![forbid(unsafe_code)]

mod cli;
mod daemon;
mod logging;

use std::process::ExitCode;

use clap::Parser as _;
use vtpm::server::{LocalTpm, serve};

fn main() -> ExitCode {
    let cli::Arguments {
        command: cli::Interface::Socket(arguments),
    } = cli::Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("swtpm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &cli::Socket) -> Result<ExitCode, cli::Error> {
    if arguments.print_capabilities {
        println!("{}", cli::CAPABILITIES);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.print_states {
        println!("{}", arguments.states()?);
        return Ok(ExitCode::SUCCESS);
    }
    arguments.check()?;
    if arguments.daemon && !arguments.detached {
        return Ok(daemon::start()?);
    }
    logging::start(arguments.log.as_deref())?;
    let directory = arguments.state_directory()?;
    let mut options = arguments.options()?;
    options.stop = Some(daemon::stop_on_signal()?);
    let _pid_file = arguments
        .pid_file()?
        .map(daemon::PidFile::write)
        .transpose()?;
    if arguments.detached {
        daemon::detach()?;
    }
    serve(&mut LocalTpm::new(directory), options)?;
    Ok(ExitCode::SUCCESS)
}
