//! What the server drives.

use std::{io, path::PathBuf, string::ToString, time::Instant, vec::Vec};

use alloc::boxed::Box;

use super::Directory;
use crate::{
    Origin, Tpm,
    crypto::Native,
    environment::{Environment, RandomError},
    storage::Storage,
};

/// A TPM with a power switch. Errors mean that the device could not be reached or could not
/// do it; what a TPM answers to a command is in the response.
pub trait Device {
    /// `CMD_INIT`: power on, or off and on again. `delete_volatile` asks not to restore a saved
    /// volatile state; a device that saves none may ignore it.
    ///
    /// # Errors
    /// When the device did not come up.
    fn init(&mut self, delete_volatile: bool) -> io::Result<()>;

    /// `CMD_STOP` and `CMD_SHUTDOWN`: power off.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn stop(&mut self) -> io::Result<()>;

    /// Whether the device is on; the server answers for one that is not.
    fn is_on(&self) -> bool;

    /// Runs one command and replaces `response` with its answer.
    ///
    /// # Errors
    /// When there is no answer; the connection is then closed.
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> io::Result<()>;

    /// The TPM_ESTABLISHED flag.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn established(&mut self) -> io::Result<bool>;

    /// Clears the TPM_ESTABLISHED flag; `false` when the locality may not.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn reset_established(&mut self, locality: u8) -> io::Result<bool>;

    /// `_TPM_Hash_Start`.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn hash_start(&mut self) -> io::Result<()>;

    /// `_TPM_Hash_Data`.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn hash_data(&mut self, data: &[u8]) -> io::Result<()>;

    /// `_TPM_Hash_End`.
    ///
    /// # Errors
    /// When the device could not be reached.
    fn hash_end(&mut self) -> io::Result<()>;

    /// A client connected to the data channel.
    fn client_connected(&mut self) {}

    /// The client of the data channel is gone.
    fn client_gone(&mut self) {}
}

/// Randomness and time of the operating system.
#[derive(Debug)]
pub struct HostEnvironment {
    start: Instant,
}

impl Default for HostEnvironment {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Environment for HostEnvironment {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(out).map_err(|_| RandomError)
    }

    fn now_ms(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The engine in this process, its records in a directory (or nowhere).
pub struct LocalTpm {
    directory: Option<PathBuf>,
    tpm: Option<Tpm>,
    on: bool,
}

impl LocalTpm {
    /// A TPM that is off. Without a directory its state is lost with the process.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            tpm: None,
            on: false,
        }
    }

    fn tpm(&mut self) -> io::Result<&mut Tpm> {
        self.tpm
            .as_mut()
            .filter(|_| self.on)
            .ok_or_else(|| io::Error::other("the TPM is off"))
    }

    fn power_on(&mut self) -> io::Result<Tpm> {
        let storage: Box<dyn Storage + Send> = match &self.directory {
            Some(directory) => Box::new(Directory::open(directory).map_err(io::Error::other)?),
            None => Box::new(crate::storage::Memory::new()),
        };
        let (tpm, origin) = Tpm::power_on(Box::new(HostEnvironment::default()), storage, &Native)
            .map_err(io::Error::other)?;
        match origin {
            Origin::Loaded => log::info!("loaded existing TPM state"),
            Origin::Manufactured => log::info!("manufactured new TPM state: there was none"),
            Origin::ManufacturedAgain => {
                log::info!(
                    "manufactured new TPM state: an earlier manufacture had been interrupted"
                );
            }
            Origin::Replaced => log::info!("manufactured new TPM state in place of another"),
        }
        Ok(tpm)
    }
}

impl Device for LocalTpm {
    fn init(&mut self, _delete_volatile: bool) -> io::Result<()> {
        self.on = false;
        match &mut self.tpm {
            Some(tpm) => tpm
                .power_cycle()
                .map_err(|e| io::Error::other(e.to_string()))?,
            None => self.tpm = Some(self.power_on()?),
        }
        self.on = true;
        Ok(())
    }

    fn stop(&mut self) -> io::Result<()> {
        self.on = false;
        Ok(())
    }

    fn is_on(&self) -> bool {
        self.on
    }

    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> io::Result<()> {
        self.tpm()?.execute(locality, command, response);
        Ok(())
    }

    fn established(&mut self) -> io::Result<bool> {
        Ok(self.tpm()?.established())
    }

    fn reset_established(&mut self, locality: u8) -> io::Result<bool> {
        Ok(self.tpm()?.reset_established(locality).is_ok())
    }

    fn hash_start(&mut self) -> io::Result<()> {
        self.tpm()?.hash_start();
        Ok(())
    }

    fn hash_data(&mut self, data: &[u8]) -> io::Result<()> {
        self.tpm()?.hash_data(data);
        Ok(())
    }

    fn hash_end(&mut self) -> io::Result<()> {
        self.tpm()?.hash_end();
        Ok(())
    }
}
