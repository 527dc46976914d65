//! The TPM engine on the volume: each of its records is a file of the namespace
//! [`Namespace::Vtpm`], named by the record's number, and each of its commits is one
//! transaction.

use super::Tpm;
use crate::entropy::Entropy;
use crate::persistence::{FileId, Namespace, Transaction, Volume, VolumeError, file_data};
use crate::time::Clock;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vtpm::crypto::Native;
use vtpm::environment::{Environment, RandomError};
use vtpm::storage::{Change, Memory, RecordBytes, RecordId, Storage, StorageError};
use vtpm::{Existing, Origin, PowerOnError};

/// Powers the TPM on, and says in the log what state it has and why. Without a volume the
/// state is lost at the end of this boot.
///
/// # Errors
/// [`PowerOnError`]; what is on the volume is never written over then.
pub fn power_on(
    volume: Option<Arc<dyn Volume>>,
    entropy: &'static dyn Entropy,
    clock: &'static dyn Clock,
) -> Result<Box<dyn Tpm>, PowerOnError> {
    power_on_with(Existing::Keep, volume, entropy, clock)
}

/// The same, with the word of the owner, who built this image, on what becomes of a TPM
/// that is there; neither the guest nor the host alone can say it.
///
/// # Errors
/// [`PowerOnError`]; see [`vtpm::Tpm::power_on_with`].
pub fn power_on_with(
    existing: Existing,
    volume: Option<Arc<dyn Volume>>,
    entropy: &'static dyn Entropy,
    clock: &'static dyn Clock,
) -> Result<Box<dyn Tpm>, PowerOnError> {
    let kept = volume.is_some();
    let storage: Box<dyn Storage + Send> = match volume {
        Some(volume) => Box::new(Records { volume }),
        None => Box::new(Memory::new()),
    };
    let machine = Box::new(Machine { entropy, clock });
    let (tpm, origin) = vtpm::Tpm::power_on_with(existing, machine, storage, &Native)?;
    match (origin, kept) {
        (Origin::Loaded, _) => log::info!("vTPM: loaded existing state from the volume"),
        (Origin::Manufactured, true) => {
            log::info!("vTPM: manufactured new state, the volume had none");
        }
        (Origin::ManufacturedAgain, _) => {
            log::warn!("vTPM: manufactured new state, an earlier manufacture was interrupted");
        }
        (Origin::Replaced, _) => {
            log::warn!(
                "vTPM: manufactured new state in place of what was on the volume, this build does so at every boot"
            );
        }
        (Origin::Manufactured, false) => {
            log::warn!("vTPM: manufactured volatile state, there is no volume to keep it on");
        }
    }
    Ok(Box::new(tpm))
}

impl Tpm for vtpm::Tpm {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) {
        vtpm::Tpm::execute(self, locality, command, response);
    }

    fn ek_public(&self) -> &[u8] {
        vtpm::Tpm::ek_public(self)
    }
}

/// What the TPM needs from the kernel.
struct Machine {
    entropy: &'static dyn Entropy,
    clock: &'static dyn Clock,
}

impl Environment for Machine {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.entropy.fill(out).map_err(|_| RandomError)
    }

    fn now_ms(&mut self) -> u64 {
        u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Records as files.
struct Records {
    volume: Arc<dyn Volume>,
}

const fn file(record: RecordId) -> FileId {
    FileId::new(Namespace::Vtpm, record)
}

impl Storage for Records {
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError> {
        let indexes = self.volume.list(Namespace::Vtpm).map_err(error)?;
        let mut records = Vec::new();
        records
            .try_reserve_exact(indexes.len())
            .map_err(|_| StorageError::Busy)?;
        for index in indexes {
            records.push((index, self.volume.read(file(index)).map_err(error)?));
        }
        Ok(records)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        let mut transaction = Transaction::new();
        for change in changes {
            match change {
                Change::Put(record, bytes) => file_data(bytes).and_then(|data| {
                    transaction.write(file(*record), data)?;
                    Ok(())
                }),
                Change::Remove(record) => transaction.remove(file(*record)).map(drop),
            }
            .map_err(error)?;
        }
        self.volume.transaction(transaction).map_err(error)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.volume.settle().map_err(error)
    }
}

/// A repetition helps where memory was short, and nowhere else.
fn error(error: VolumeError) -> StorageError {
    match error {
        VolumeError::NoSpace => StorageError::Full,
        VolumeError::NoMemory => StorageError::Busy,
        _ => StorageError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::EntropyError;
    use crate::persistence::MemoryVolume;
    use crate::time::fake::SteppingClock;
    use core::sync::atomic::{AtomicU64, Ordering};
    use core::time::Duration;

    /// Numbers that differ from call to call; fit for tests only.
    struct Counting(AtomicU64);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            let mut word = 0_u64;
            for byte in buffer {
                if word == 0 {
                    // SplitMix64.
                    let seed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                    word = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                    word ^= word >> 31;
                }
                *byte = word as u8;
                word >>= 8;
            }
            Ok(())
        }
    }

    static ENTROPY: Counting = Counting(AtomicU64::new(1));

    fn clock() -> &'static dyn Clock {
        Box::leak(Box::new(SteppingClock::new(Duration::from_millis(1))))
    }

    fn on(volume: &Arc<MemoryVolume>) -> Box<dyn Tpm> {
        let volume: Arc<dyn Volume> = volume.clone();
        power_on(Some(volume), &ENTROPY, clock()).expect("the TPM starts")
    }

    /// Runs a command and returns the response code and the whole response.
    fn run(tpm: &mut dyn Tpm, command: &[u8]) -> (u32, Vec<u8>) {
        let mut response = Vec::new();
        tpm.execute(0, command, &mut response);
        let code = u32::from_be_bytes(response[6..10].try_into().unwrap());
        (code, response)
    }

    const STARTUP_CLEAR: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];

    /// TPM2_HierarchyChangeAuth of the owner to `auth`, from an empty one.
    fn change_owner_auth(auth: &[u8]) -> Vec<u8> {
        let mut command = alloc::vec![0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x29, 0x40, 0, 0, 1];
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend((auth.len() as u16).to_be_bytes());
        command.extend(auth);
        let length = (command.len() as u32).to_be_bytes();
        command[2..6].copy_from_slice(&length);
        command
    }

    #[test]
    fn the_tpm_is_the_same_after_a_reboot() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let mut tpm = on(&volume);
        let ek = tpm.ek_public().to_vec();
        assert!(!ek.is_empty());
        assert_eq!(run(&mut *tpm, &STARTUP_CLEAR).0, 0);
        assert_eq!(run(&mut *tpm, &change_owner_auth(b"owner")).0, 0);
        drop(tpm);

        let mut tpm = on(&volume);
        assert_eq!(tpm.ek_public(), ek);
        assert_eq!(run(&mut *tpm, &STARTUP_CLEAR).0, 0);
        // The empty authorization is not the owner's any more: TPM_RC_BAD_AUTH, session 1.
        assert_eq!(run(&mut *tpm, &change_owner_auth(b"thief")).0, 0x9a2);
    }

    #[test]
    fn a_commit_that_fails_leaves_the_tpm_as_it_was() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let mut tpm = on(&volume);
        assert_eq!(run(&mut *tpm, &STARTUP_CLEAR).0, 0);
        for (failure, code) in [
            (VolumeError::DeviceFailed, 0x923),
            (VolumeError::OutcomeUnknown, 0x923),
            (VolumeError::NoSpace, 0x14b),
            (VolumeError::NoMemory, 0x920),
        ] {
            volume.fail_next(failure);
            assert_eq!(run(&mut *tpm, &change_owner_auth(b"owner")).0, code);
        }
        // Still the empty one.
        assert_eq!(run(&mut *tpm, &change_owner_auth(b"owner")).0, 0);
    }

    #[test]
    fn a_volume_that_cannot_be_read_makes_no_new_tpm() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let ek = on(&volume).ek_public().to_vec();
        let shared: Arc<dyn Volume> = volume.clone();
        volume.fail_next(VolumeError::AuthenticationFailed);
        assert!(power_on(Some(shared), &ENTROPY, clock()).is_err());
        assert_eq!(on(&volume).ek_public(), ek);
    }

    #[test]
    fn damaged_state_is_refused_and_kept() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        drop(on(&volume));
        let indexes = volume.list(Namespace::Vtpm).unwrap();
        for index in indexes {
            let good = volume.read(file(index)).unwrap();
            let put = |bytes: &[u8]| {
                let mut transaction = Transaction::new();
                transaction
                    .write(file(index), file_data(bytes).unwrap())
                    .unwrap();
                volume.transaction(transaction).unwrap();
            };
            put(&good[..good.len() - 1]);
            let shared: Arc<dyn Volume> = volume.clone();
            assert!(
                power_on(Some(shared), &ENTROPY, clock()).is_err(),
                "record {index:#x}"
            );
            assert_eq!(volume.read(file(index)).unwrap().len(), good.len() - 1);
            put(&good);
        }
        drop(on(&volume));
    }

    #[test]
    fn the_owner_can_have_another_tpm_in_place_of_one_and_of_a_damaged_one() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let replace = || {
            let volume: Arc<dyn Volume> = volume.clone();
            power_on_with(Existing::Replace, Some(volume), &ENTROPY, clock()).expect("starts")
        };
        let first = replace().ek_public().to_vec();
        let second = replace().ek_public().to_vec();
        assert_ne!(first, second);
        assert_eq!(on(&volume).ek_public(), second);

        for index in volume.list(Namespace::Vtpm).unwrap() {
            let mut transaction = Transaction::new();
            let damaged = file_data(b"nothing").unwrap();
            transaction.write(file(index), damaged).unwrap();
            volume.transaction(transaction).unwrap();
        }
        let third = replace().ek_public().to_vec();
        assert_ne!(second, third);
        assert_eq!(on(&volume).ek_public(), third);
    }

    #[test]
    fn two_volumes_have_two_tpms_and_without_one_each_boot_has_another() {
        let one = on(&Arc::new(MemoryVolume::new(1 << 20)));
        let other = on(&Arc::new(MemoryVolume::new(1 << 20)));
        assert_ne!(one.ek_public(), other.ek_public());
        let volatile = || power_on(None, &ENTROPY, clock()).expect("starts");
        assert_ne!(volatile().ek_public(), volatile().ek_public());
    }
}
