//! `guestlink tpm`: the vTPM in the SVSM for clients that speak swtpm's protocols.
//!
//! The vTPM is on as long as its VM is, and nobody outside can switch it off: INIT and
//! STOP switch what is served here. A client that expects a TPM fresh from power-on after
//! INIT gets one after the VM's next boot. Locality is 0 for all, and a dynamic launch is
//! not measured, since the SVSM protocol has neither.
//!
//! The line to the SVSM is held while a client is connected and given back after, so that
//! other commands of this tool get their turn.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use guestlink::tpm_calls;
use vtpm::server::{self, Device, Options, Source};

use crate::cli::TpmOptions;
use crate::svsm::{self, Link};

/// TPM_ST_NO_SESSIONS, length 10, and the code.
const fn error_response(code: u16) -> [u8; 10] {
    let [high, low] = code.to_be_bytes();
    [0x80, 0x01, 0, 0, 0, 10, 0, 0, high, low]
}

const TPM_RC_COMMAND_SIZE: u16 = 0x142;
const TPM_RC_LOCALITY: u16 = 0x907;

/// Serves until it is stopped.
pub fn serve(link: &Path, options: &TpmOptions) -> Result<()> {
    let data = source("--tcp", options.tcp, options.unix.as_deref())?;
    let control = source("--ctrl", options.ctrl, options.ctrl_unix.as_deref())?;
    ensure!(
        data.is_some() || control.is_some(),
        "one of --tcp, --unix, --ctrl and --ctrl-unix says where to listen"
    );
    let mut device = LinkedTpm::new(link.to_owned());
    // Whoever cannot be served is told at once.
    device.check()?;
    eprintln!("guestlink: serving the vTPM");
    server::serve(
        &mut device,
        Options {
            data,
            control,
            terminate: options.terminate,
            ..Options::default()
        },
    )
    .context("serving the vTPM")
}

fn source(
    option: &str,
    address: Option<std::net::SocketAddr>,
    path: Option<&Path>,
) -> Result<Option<Source>> {
    Ok(match (address, path) {
        (Some(address), _) => {
            let source = Source::tcp(address.ip(), address.port());
            Some(source.with_context(|| format!("{option} {address}"))?)
        }
        (None, Some(path)) => Some(Source::unix(path).with_context(|| path.display().to_string())?),
        (None, None) => None,
    })
}

/// The TPM at the other end of the link.
struct LinkedTpm {
    socket: PathBuf,
    link: Option<Link>,
    on: bool,
}

impl LinkedTpm {
    fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            link: None,
            on: false,
        }
    }

    /// Makes sure that there is a vTPM, and gives the line back.
    fn check(&mut self) -> Result<()> {
        let takes_commands = tpm_calls::takes_commands(self.link()?);
        self.link = None;
        ensure!(
            takes_commands.context("vTPM query")?,
            "the SVSM's vTPM takes no commands"
        );
        Ok(())
    }

    fn link(&mut self) -> Result<&mut Link> {
        let link = match self.link.take() {
            Some(link) => link,
            None => svsm::connect(&self.socket)?,
        };
        Ok(self.link.insert(link))
    }

    fn send(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        tpm_calls::execute(self.link()?, command).context("vTPM command")
    }
}

impl Device for LinkedTpm {
    fn init(&mut self, _delete_volatile: bool) -> io::Result<()> {
        self.on = true;
        Ok(())
    }

    fn stop(&mut self) -> io::Result<()> {
        self.on = false;
        self.link = None;
        Ok(())
    }

    fn is_on(&self) -> bool {
        self.on
    }

    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> io::Result<()> {
        response.clear();
        if locality != 0 {
            response.extend(error_response(TPM_RC_LOCALITY));
        } else if command.len() > tpm_calls::MAX_COMMAND {
            response.extend(error_response(TPM_RC_COMMAND_SIZE));
        } else {
            let answer = self.send(command).map_err(|error| {
                // The next command may find the SVSM again.
                self.link = None;
                eprintln!("guestlink: {error:#}");
                io::Error::other(format!("{error:#}"))
            })?;
            response.extend(answer);
        }
        Ok(())
    }

    fn established(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn reset_established(&mut self, locality: u8) -> io::Result<bool> {
        Ok(matches!(locality, 3 | 4))
    }

    fn hash_start(&mut self) -> io::Result<()> {
        Err(no_dynamic_launch())
    }

    fn hash_data(&mut self, _data: &[u8]) -> io::Result<()> {
        Err(no_dynamic_launch())
    }

    fn hash_end(&mut self) -> io::Result<()> {
        Err(no_dynamic_launch())
    }

    fn client_gone(&mut self) {
        self.link = None;
    }
}

fn no_dynamic_launch() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the SVSM's vTPM does not measure a dynamic launch",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> LinkedTpm {
        LinkedTpm::new(PathBuf::from("/nonexistent/link"))
    }

    #[test]
    fn what_the_protocol_has_no_room_for_is_refused_by_a_response() {
        let mut device = device();
        let mut response = Vec::new();
        device.execute(1, &[0x80], &mut response).unwrap();
        assert_eq!(response, [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 7]);
        device.execute(0, &[0; 4088], &mut response).unwrap();
        assert_eq!(response, [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42]);
    }

    #[test]
    fn without_an_svsm_a_command_fails_and_so_does_the_start() {
        let mut device = device();
        assert!(device.execute(0, &[0; 10], &mut Vec::new()).is_err());
        assert!(device.check().is_err());
    }
}
