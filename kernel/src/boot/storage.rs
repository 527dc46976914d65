//! The step that opens the persistent storage, and its demonstration.
//!
//! What the server says of the volume decides: whether a creation header may be followed,
//! whether the volume is the newest one, and what the server wants to be told.

use super::Machine;
use super::attestation::Attestation;
use crate::attest::{self, Identity, LedgerEntry, ReportError, Secret, VolumeState};
use crate::exec;
use crate::ledger::LedgeredVolume;
use crate::persistence::freshness::{self, FreshnessError, Known, Ledger, Standing};
use crate::persistence::{
    self, CocoonVolume, FileId, FormatPolicy, KeyError, Namespace, Transaction, Volume,
    VolumeError, VolumeKey, file_data,
};
use crate::services::KeyBroker;
use alloc::sync::Arc;

/// Where what attestation brought is kept for the guest: JSON with the server's token and
/// the challenge it answers.
const TOKEN: FileId = FileId::new(Namespace::Attestation, 1);

/// Why the boot does not go on with the storage it found, or with none.
#[derive(Debug, thiserror::Error)]
pub(super) enum StorageStop {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("persistent storage refused: {0}")]
    Freshness(#[from] FreshnessError),
    #[error("persistent storage is missing: the ledger knows a volume, and no device has it")]
    Missing,
    #[error("ledger: {0}")]
    Report(#[from] ReportError),
}

/// What the services stand on.
pub(super) struct Storage {
    /// The volume, if there is one.
    pub volume: Option<Arc<dyn Volume>>,
    /// Who gave the key to it, and vouches for it.
    #[cfg_attr(
        not(any(feature = "guestlink", feature = "vtpm", feature = "uefivars")),
        allow(dead_code)
    )]
    pub key_broker: KeyBroker,
}

/// Opens the first block device whose image belongs to the secret, provided that it is
/// the newest. Without one the boot goes on where the server knows of none, and what is
/// kept is lost at the next.
pub(super) fn open(machine: &Machine, attestation: Attestation) -> Result<Storage, StorageStop> {
    let start = machine.clock.now();
    let mut key_broker = KeyBroker {
        server: attestation.server.map(|server| server.fingerprint.0),
        pinned: attestation.server.is_some_and(|server| server.pinned),
        standing: None,
    };
    let ledger = ledger(attestation.ledger.as_ref());
    let policy = format_policy(attestation.ledger.as_ref());
    let Some(volume) = image(machine, &attestation.secret, policy)? else {
        return match ledger {
            Ledger::Known(_) => Err(StorageStop::Missing),
            Ledger::None | Ledger::New => Ok(Storage {
                volume: None,
                key_broker,
            }),
        };
    };
    if ledger == Ledger::None {
        log::warn!("no server vouches that the volume is the newest one");
    }
    let server = key_broker.server.as_ref();
    let standing = freshness::admit(&volume, ledger, server, machine.entropy)?;
    key_broker.standing = standing
        .filter(|_| ledger != Ledger::None)
        .map(|standing| (standing.identity, standing.epoch));
    let volume = report(volume, standing, attestation.reporter)?;
    keep_token(
        volume.as_ref(),
        &attestation.nonce,
        attestation.token.as_ref(),
    );
    machine.report_time("opening persistent storage", start);
    Ok(Storage {
        volume: Some(volume),
        key_broker,
    })
}

/// Opens the image that belongs to the secret, whatever its state.
pub(super) fn image(
    machine: &Machine,
    secret: &Secret,
    policy: FormatPolicy,
) -> Result<Option<CocoonVolume>, KeyError> {
    let key = VolumeKey::new(secret.root_key())?;
    Ok(persistence::open_first(
        &machine.devices,
        &key,
        machine.entropy,
        policy,
    ))
}

/// A creation header is nobody's word: whoever can write the disk can put one there. So
/// a server must have said that the volume is new.
fn format_policy(ledger: Option<&LedgerEntry>) -> FormatPolicy {
    match ledger.map(|entry| entry.state) {
        Some(VolumeState::New) => FormatPolicy::Allow,
        Some(VolumeState::Formatted) => FormatPolicy::Deny,
        None if cfg!(feature = "dev-format") => {
            log::warn!("development build: a volume is formatted without a server's word for it");
            FormatPolicy::Allow
        }
        None => FormatPolicy::Deny,
    }
}

/// What the server's entry means for the freshness of the volume.
fn ledger(entry: Option<&LedgerEntry>) -> Ledger {
    match entry {
        None => Ledger::None,
        Some(entry) if entry.mode == attest::Ledger::Off => Ledger::None,
        Some(entry) => match entry.state {
            VolumeState::New => Ledger::New,
            VolumeState::Formatted => Ledger::Known(Known {
                identity: entry.identity.map(|identity| identity.0),
                epoch: entry.epoch,
                commits: entry.counter,
            }),
        },
    }
}

/// Tells the server of the volume's new epoch and waits until it is stored there; from
/// then on no older copy is accepted.
fn report(
    volume: CocoonVolume,
    standing: Option<Standing>,
    reporter: Option<attest::Reporter<'static, super::attestation::Line>>,
) -> Result<Arc<dyn Volume>, StorageStop> {
    let (Some(standing), Some(mut reporter)) = (standing, reporter) else {
        return Ok(Arc::new(volume));
    };
    let identity = Identity(standing.identity);
    let commits = standing.commits(&volume);
    exec::block_on(reporter.open(identity, standing.epoch, commits))?;
    log::info!(
        "ledger: epoch {} of the volume is recorded, {commits} commits",
        standing.epoch
    );
    Ok(Arc::new(LedgeredVolume::new(volume, standing, reporter)))
}

/// Keeps the server's token where the guest can ask for it. A failure is in the log and
/// stops nothing.
fn keep_token(volume: &dyn Volume, nonce: &str, token: Option<&attest::Token>) {
    #[derive(serde::Serialize)]
    struct Kept<'a> {
        nonce: &'a str,
        token: Option<&'a attest::Token>,
    }
    let write = || {
        let json = serde_json::to_vec(&Kept { nonce, token }).map_err(|_| VolumeError::NoMemory)?;
        let mut transaction = Transaction::new();
        transaction.write(TOKEN, file_data(&json)?)?;
        volume.transaction(transaction)
    };
    if let Err(error) = write() {
        log::error!("the attestation token is not kept: {error}");
    }
}

/// Counts this boot on the volume. A failure is in the log and stops nothing.
pub(super) fn count_boot(volume: Option<&Arc<dyn Volume>>) {
    if let Some(volume) = volume {
        // The log has the result, either way.
        let _ = persistence::boot_counter::count_boot(volume.as_ref());
        // Whatever fails here is tried again before the next use of the volume.
        let _ = volume.settle();
    }
}
