//! What an exchange brings, and who vouches for it.

use super::secret::Secret;
use super::trust::Fingerprint;
use alloc::string::String;
use libaproxy::Version;
use libaproxy::v0_2::{Identity, Ledger, SessionKey, Token, VolumeName, VolumeState};

/// Which volume the secret opens, in the signed words of server or owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name at the server.
    pub name: VolumeName,
    /// Generation of the secret.
    pub generation: u64,
}

/// What a signature covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// This exchange: the server made the answer, for this boot.
    Exchange,
    /// The secret alone: its owner made it, at some time.
    SignedSecret,
}

/// Who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The key.
    pub fingerprint: Fingerprint,
    /// Whether the key is pinned in this image. If not, anybody may have signed.
    pub pinned: bool,
    /// What was signed.
    pub proof: Proof,
}

/// What an authenticated server knows of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Whether it has contents.
    pub state: VolumeState,
    /// Its identity, once one was reported.
    pub identity: Option<Identity>,
    /// The last epoch reported.
    pub epoch: u64,
    /// The last update counter reported.
    pub counter: u64,
    /// Which reports the server wants.
    pub mode: Ledger,
}

/// An exchange that came to its end. Words from the server in here are signed where
/// [`server`](Self::server) is there; secret and token are what was received otherwise.
#[derive(Debug)]
pub(super) struct Outcome {
    pub version: Version,
    pub secret: Secret,
    pub volume: Option<VolumeInfo>,
    pub server: Option<ServerIdentity>,
    pub ledger: Option<LedgerEntry>,
    pub session_key: Option<SessionKey>,
    pub token: Option<Token>,
    pub nonce: String,
}

impl Outcome {
    /// Says in the log who gave the secret.
    pub(super) fn log(&self) {
        match &self.server {
            Some(server) => {
                let what = match server.proof {
                    Proof::Exchange => "this exchange",
                    Proof::SignedSecret => "the secret",
                };
                let key = server.fingerprint;
                if server.pinned {
                    log::info!("the key that signed {what} is pinned in this image: {key}");
                } else {
                    log::warn!(
                        "the key that signed {what} is not pinned, anybody may have it: {key}"
                    );
                }
            }
            None if self.version == Version::V0_2_0 => {
                log::warn!("the secret is not authenticated: nobody signed it");
            }
            // Version 0.1.0 never has one, which the log has already.
            None => {}
        }
        if let Some(volume) = &self.volume {
            let VolumeInfo { name, generation } = volume;
            log::info!("the secret is for volume {name}, generation {generation}");
        }
    }
}
