//! Whether the volume that the host brings is the newest one.
//!
//! A volume authenticates under its key however old it is. So the key broker keeps a
//! ledger: the volume's identity, the epoch of the boot that used it last, and how many
//! commits it has seen. What it says is compared with what is on the volume before
//! anything on it is used; then the volume gets a new epoch, which the ledger is told
//! before anything is served. A copy of any earlier boot is behind from then on.
//!
//! Commits are counted from the one that gave the volume its identity: the counter that
//! CocoonFs keeps begins with a random number.

use super::files::{FileId, Namespace, Transaction, Volume as _, VolumeError, file_data};
use super::volume::CocoonVolume;
use crate::entropy::{Entropy, EntropyError};
use alloc::vec::Vec;

/// Where the record of a volume is kept.
pub const RECORD: FileId = FileId::new(Namespace::System, 2);

/// Length of an identity in bytes.
pub const IDENTITY_LEN: usize = 32;

/// Length of the fingerprint of a server's key in bytes (SHA-384).
pub const FINGERPRINT_LEN: usize = 48;

/// First byte of a record.
const FORMAT: u8 = 1;

/// Format, identity, epoch, base of the counter, fingerprint.
const RECORD_LEN: usize = 1 + IDENTITY_LEN + 8 + 16 + FINGERPRINT_LEN;

/// What the ledger knows of a volume that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its identity; none where the owner made the volume and nobody has used it.
    pub identity: Option<[u8; IDENTITY_LEN]>,
    /// The last epoch it was told of.
    pub epoch: u64,
    /// Commits up to the last one it was told of.
    pub commits: u64,
}

/// Who vouches for the state of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// Nobody.
    None,
    /// A server, which knows of no contents: whatever is there is the beginning.
    New,
    /// A server, which knows of these.
    Known(Known),
}

/// What is reported of a volume that was taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Identity of the volume.
    pub identity: [u8; IDENTITY_LEN],
    /// Epoch of this boot.
    pub epoch: u64,
    /// Value of the update counter from which commits are counted.
    base: u128,
}

impl Standing {
    /// Commits of `volume` so far.
    pub fn commits(&self, volume: &CocoonVolume) -> u64 {
        commits_since(self.base, volume)
    }
}

/// Why a volume is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FreshnessError {
    #[error("it is another volume than the ledger knows")]
    OtherVolume,
    #[error("it was rolled back, {behind} boots behind the ledger (epoch {found} of {known})")]
    EpochBehind { found: u64, known: u64, behind: u64 },
    #[error("it was rolled back, {behind} commits behind the ledger ({found} of {known})")]
    CommitsBehind { found: u64, known: u64, behind: u64 },
    #[error("the ledger knows a volume, this one was never used")]
    NeverUsed,
    #[error("its freshness record has {0} bytes, not {RECORD_LEN}, or an unknown format")]
    Malformed(usize),
    #[error("its freshness record is at its limit")]
    Exhausted,
    #[error("its freshness record: {0}")]
    Volume(#[from] VolumeError),
    #[error("its identity: {0}")]
    Entropy(#[from] EntropyError),
}

/// What is on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    identity: [u8; IDENTITY_LEN],
    epoch: u64,
    base: u128,
    /// The key of the server that was seen last, zeros where there was none.
    server: [u8; FINGERPRINT_LEN],
}

impl Record {
    fn read(volume: &CocoonVolume) -> Result<Option<Self>, FreshnessError> {
        match volume.read(RECORD) {
            Ok(data) => Self::parse(&data).map(Some),
            Err(VolumeError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(data: &[u8]) -> Result<Self, FreshnessError> {
        let malformed = FreshnessError::Malformed(data.len());
        if data.len() != RECORD_LEN || data.first() != Some(&FORMAT) {
            return Err(malformed);
        }
        let mut rest = &data[1..];
        let mut field = |len| {
            let (field, behind) = rest.split_at(len);
            rest = behind;
            field
        };
        let fixed = (
            field(IDENTITY_LEN).try_into(),
            field(8).try_into(),
            field(16).try_into(),
            field(FINGERPRINT_LEN).try_into(),
        );
        let (Ok(identity), Ok(epoch), Ok(base), Ok(server)) = fixed else {
            return Err(malformed);
        };
        Ok(Self {
            identity,
            epoch: u64::from_le_bytes(epoch),
            base: u128::from_le_bytes(base),
            server,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        [
            &[FORMAT][..],
            &self.identity,
            &self.epoch.to_le_bytes(),
            &self.base.to_le_bytes(),
            &self.server,
        ]
        .concat()
    }
}

fn commits_since(base: u128, volume: &CocoonVolume) -> u64 {
    let commits = volume.update_counter().wrapping_sub(base);
    u64::try_from(commits).unwrap_or(u64::MAX)
}

/// Compares `volume` with what `ledger` says of it and gives it a new epoch, durably.
/// `server` is the fingerprint of the key that vouches for the secret, if any; the log
/// says when it is another one than before.
///
/// Where nobody vouches for anything the volume is left as it is.
///
/// # Errors
///
/// [`FreshnessError`]: the volume is not to be used.
pub fn admit(
    volume: &CocoonVolume,
    ledger: Ledger,
    server: Option<&[u8; FINGERPRINT_LEN]>,
    entropy: &dyn Entropy,
) -> Result<Option<Standing>, FreshnessError> {
    let record = Record::read(volume)?;
    compare(volume, record.as_ref(), ledger)?;
    let Some(server) = server else {
        if ledger == Ledger::None {
            return Ok(None);
        }
        return Ok(Some(renew(volume, record, ledger, None, entropy)?));
    };
    if let Some(record) = &record {
        report_other_server(record, server);
        if ledger == Ledger::None && record.server == *server {
            return Ok(None);
        }
    }
    Ok(Some(renew(volume, record, ledger, Some(server), entropy)?))
}

/// Refuses a volume that is another or an older one than the ledger knows.
fn compare(
    volume: &CocoonVolume,
    record: Option<&Record>,
    ledger: Ledger,
) -> Result<(), FreshnessError> {
    let Ledger::Known(known) = ledger else {
        return Ok(());
    };
    let Some(record) = record else {
        // An image that the owner made: nothing is known that it could be behind.
        return match known {
            Known {
                identity: None,
                epoch: 0,
                commits: 0,
            } => Ok(()),
            _ => Err(FreshnessError::NeverUsed),
        };
    };
    if known.identity.is_some_and(|known| known != record.identity) {
        return Err(FreshnessError::OtherVolume);
    }
    if record.epoch < known.epoch {
        return Err(FreshnessError::EpochBehind {
            found: record.epoch,
            known: known.epoch,
            behind: known.epoch - record.epoch,
        });
    }
    let found = commits_since(record.base, volume);
    if found < known.commits {
        return Err(FreshnessError::CommitsBehind {
            found,
            known: known.commits,
            behind: known.commits - found,
        });
    }
    Ok(())
}

fn report_other_server(record: &Record, server: &[u8; FINGERPRINT_LEN]) {
    let none = [0; FINGERPRINT_LEN];
    if record.server != none && record.server != *server {
        log::warn!(
            "the key broker has another key than when it was last seen, which was {}",
            Hex(&record.server)
        );
    }
}

/// Gives the volume an identity if it has none, and a new epoch.
fn renew(
    volume: &CocoonVolume,
    record: Option<Record>,
    ledger: Ledger,
    server: Option<&[u8; FINGERPRINT_LEN]>,
    entropy: &dyn Entropy,
) -> Result<Standing, FreshnessError> {
    let mut record = match record {
        Some(record) => record,
        None => {
            let mut identity = [0; IDENTITY_LEN];
            entropy.fill(&mut identity)?;
            Record {
                identity,
                epoch: 0,
                base: volume.update_counter(),
                server: [0; FINGERPRINT_LEN],
            }
        }
    };
    let known = match ledger {
        Ledger::Known(known) => known.epoch,
        Ledger::None | Ledger::New => 0,
    };
    record.epoch = record
        .epoch
        .max(known)
        .checked_add(1)
        .ok_or(FreshnessError::Exhausted)?;
    if let Some(server) = server {
        record.server = *server;
    }
    let mut transaction = Transaction::new();
    transaction.write(RECORD, file_data(&record.to_bytes())?)?;
    volume.transaction(transaction)?;
    // The ledger is told of this commit next: it must not depend on a journal that the
    // host could still drop.
    volume.settle()?;
    Ok(Standing {
        identity: record.identity,
        epoch: record.epoch,
        base: record.base,
    })
}

/// Bytes as lower-case hex digits.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            identity: [1; IDENTITY_LEN],
            epoch: 0x0102_0304_0506_0708,
            base: u128::MAX - 7,
            server: [3; FINGERPRINT_LEN],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = record().to_bytes();
        assert_eq!(bytes.len(), RECORD_LEN);
        assert_eq!(Record::parse(&bytes), Ok(record()));
    }

    #[test]
    fn other_lengths_and_formats_are_refused() {
        let bytes = record().to_bytes();
        for len in [0, 1, RECORD_LEN - 1] {
            assert_eq!(
                Record::parse(&bytes[..len]),
                Err(FreshnessError::Malformed(len))
            );
        }
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(
            Record::parse(&other),
            Err(FreshnessError::Malformed(RECORD_LEN))
        );
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            Record::parse(&longer),
            Err(FreshnessError::Malformed(RECORD_LEN + 1))
        );
    }
}
