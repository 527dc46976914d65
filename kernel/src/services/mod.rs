//! What the SVSM does for its guest: a TPM, UEFI variables, a report about both.
//!
//! A service is an engine behind a trait and one lock of its own. Nobody waits for a lock:
//! a call that meets a service at work for another CPU is told so and comes again.
#![forbid(unsafe_code)]

#[cfg(feature = "uefivars")]
pub mod uefi;
#[cfg(feature = "vtpm")]
pub mod vtpm;

use alloc::boxed::Box;
use alloc::vec::Vec;
use spin::{Mutex, MutexGuard};

/// A GUID as it lies in memory: the first three fields little endian.
pub type Guid = [u8; 16];

/// A TPM 2.0.
pub trait Tpm: Send {
    /// Runs `command` at `locality` and replaces `response` with its answer, a whole TPM
    /// response. What it says is done is durable.
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>);

    /// Marshalled TPMT_PUBLIC of the RSA-2048 endorsement key.
    fn ek_public(&self) -> &[u8];
}

/// A UEFI variable service.
pub trait Variables: Send {
    /// Serves an MM communication for the handler `guid`: the reply replaces `body` or its
    /// beginning. What it says is done is durable.
    fn communicate(&mut self, guid: &Guid, body: &mut [u8]);

    /// The flags of the services manifest.
    fn flags(&self) -> VariableFlags;
}

/// What the services manifest says about the UEFI variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VariableFlags {
    /// Non-volatile variables survive a reboot.
    pub persistent: bool,
    /// Secure Boot is on.
    pub secure_boot: bool,
    /// Signed updates of the signature databases are taken.
    pub database_updates: bool,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the platform gave no report: {0}")]
pub struct ReportError(pub &'static str);

/// Hardware that signs a report about this VM.
pub trait ReportSource: Send {
    /// Size of every report in bytes.
    fn report_len(&self) -> usize;

    /// A report that carries `report_data`, as asked for at VMPL0.
    ///
    /// # Errors
    /// [`ReportError`].
    fn report(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, ReportError>;

    /// The host's certificates for the key that signs, in the form of the GHCB
    /// specification; empty when there are none.
    fn certificates(&self) -> &[u8];
}

/// A service and its lock.
pub struct Service<T: ?Sized>(Option<Mutex<Box<T>>>);

/// A service is at work for another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl<T: ?Sized> Service<T> {
    /// No such service in this boot.
    pub const fn absent() -> Self {
        Self(None)
    }

    /// `engine` behind a lock.
    pub fn new(engine: Box<T>) -> Self {
        Self(Some(Mutex::new(engine)))
    }

    /// Whether there is one.
    pub const fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// The service for one call, or none where there is no such service.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn take(&self) -> Result<Option<MutexGuard<'_, Box<T>>>, Busy> {
        match &self.0 {
            None => Ok(None),
            Some(lock) => lock.try_lock().map(Some).ok_or(Busy),
        }
    }
}

impl<T: ?Sized> Default for Service<T> {
    fn default() -> Self {
        Self::absent()
    }
}

/// Everything that a guest can call.
#[derive(Default)]
pub struct Services {
    /// The TPM.
    pub tpm: Service<dyn Tpm>,
    /// The UEFI variables.
    pub variables: Service<dyn Variables>,
    /// Who vouches for them.
    pub report: Service<dyn ReportSource>,
    /// Who gave this SVSM the key to their state; none without attestation.
    pub key_broker: Option<KeyBroker>,
}

/// What the services manifest says about the server that released the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBroker {
    /// SHA-384 fingerprint of the key that signed; none where nobody signed.
    pub server: Option<[u8; 48]>,
    /// The key is pinned in this image.
    pub pinned: bool,
    /// Identity of the volume and epoch of this boot, where a ledger vouches for them.
    pub standing: Option<([u8; 32], u64)>,
}

/// Services for tests that show what they were asked.
#[cfg(test)]
pub mod fake {
    use super::*;
    use alloc::vec;

    /// Answers a command with its locality and its bytes reversed.
    #[derive(Default)]
    pub struct EchoTpm;

    impl Tpm for EchoTpm {
        fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) {
            response.clear();
            response.push(locality);
            response.extend(command.iter().rev());
        }

        fn ek_public(&self) -> &[u8] {
            b"the endorsement key's public area"
        }
    }

    /// Turns the body's bits over.
    #[derive(Default)]
    pub struct FakeVariables {
        /// What the manifest says.
        pub flags: VariableFlags,
    }

    impl Variables for FakeVariables {
        fn communicate(&mut self, guid: &Guid, body: &mut [u8]) {
            for byte in body {
                *byte = !*byte ^ guid[0];
            }
        }

        fn flags(&self) -> VariableFlags {
            self.flags
        }
    }

    /// Reports that begin with REPORT_DATA.
    #[derive(Default)]
    pub struct FakeReports {
        /// Every report fails.
        pub broken: bool,
    }

    impl ReportSource for FakeReports {
        fn report_len(&self) -> usize {
            1184
        }

        fn report(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, ReportError> {
            if self.broken {
                return Err(ReportError("told to"));
            }
            let mut report = vec![0xee; 1184];
            report[..64].copy_from_slice(report_data);
            Ok(report)
        }

        fn certificates(&self) -> &[u8] {
            &[0xcc; 5000]
        }
    }

    /// All services, all fake.
    pub fn services() -> Services {
        Services {
            tpm: Service::new(Box::new(EchoTpm)),
            variables: Service::new(Box::new(FakeVariables::default())),
            report: Service::new(Box::new(FakeReports::default())),
            key_broker: None,
        }
    }
}
