//! The UEFI variable engine on the volume: each non-volatile variable is a file of the
//! namespace [`Namespace::Uefi`], and each change is one transaction.

use super::{Guid, VariableFlags, Variables};
use crate::persistence::{FileId, Namespace, Transaction, Volume, VolumeError, file_data};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use uefivars::initial::SetError;
use uefivars::storage::{Change, Record, Storage, StorageError};
use uefivars::{Config, InitialSet, LoadError, Service, Status};

/// Why the service does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The store does not parse, and an empty one in its place would switch Secure Boot
    /// off.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Going on without them would leave Secure Boot off.
    #[error("the first keys in this image are damaged: {0}")]
    Set(#[from] SetError),
    /// The same.
    #[error("the first keys cannot be enrolled: {0}")]
    Enroll(Status),
}

/// Starts the service, and says in the log what it found. Without a volume what is written
/// is lost at the end of this boot. The keys in `first`, in the format of
/// [`uefivars::initial`], are enrolled where there is no variable at all.
///
/// # Errors
/// [`StartError`].
pub fn start(
    volume: Option<Arc<dyn Volume>>,
    first: &[u8],
) -> Result<Box<dyn Variables>, StartError> {
    let first = InitialSet::decode(first)?;
    let kept = volume.is_some();
    let mut service = Service::new(Records { volume, loaded: 0 }, Config::default())?;
    let loaded = service.storage().loaded;
    let is_on = |service: &Service<Records>| match service.flags().secureboot_enabled {
        true => "on",
        false => "off",
    };
    if kept {
        log::info!(
            "UEFI variables: {loaded} loaded from the volume, Secure Boot is {}",
            is_on(&service)
        );
    } else {
        log::warn!("UEFI variables: volatile, there is no volume to keep them on");
    }
    match first {
        Some(set) if loaded == 0 => {
            service.enroll(&set).map_err(StartError::Enroll)?;
            log::info!(
                "UEFI variables: the first keys of this image are enrolled, Secure Boot is {}",
                is_on(&service)
            );
        }
        Some(_) => {
            log::info!(
                "UEFI variables: the first keys of this image are not used, there are variables"
            );
        }
        None => {}
    }
    Ok(Box::new(service))
}

impl Variables for Service<Records> {
    fn communicate(&mut self, guid: &Guid, body: &mut [u8]) {
        // A message that the engine does not know leaves the body as it is, which is what
        // a guest is to see.
        let _ = Service::communicate(self, uefivars::Guid::from_bytes(*guid), body);
    }

    fn flags(&self) -> VariableFlags {
        let flags = Service::flags(self);
        VariableFlags {
            persistent: flags.persistent_nv_vars,
            secure_boot: flags.secureboot_enabled,
            database_updates: flags.secureboot_db_update,
        }
    }
}

/// Records as files, or nowhere.
struct Records {
    volume: Option<Arc<dyn Volume>>,
    /// Records that were there at the start.
    loaded: usize,
}

const fn file(index: u32) -> FileId {
    FileId::new(Namespace::Uefi, index)
}

impl Storage for Records {
    fn load(&mut self) -> Result<Vec<Record>, StorageError> {
        let Some(volume) = &self.volume else {
            return Ok(Vec::new());
        };
        let indexes = volume.list(Namespace::Uefi).map_err(error)?;
        let mut records = Vec::new();
        records
            .try_reserve_exact(indexes.len())
            .map_err(|_| StorageError::OutOfMemory)?;
        for index in indexes {
            let mut data = volume.read(file(index)).map_err(error)?;
            records.push((index, core::mem::take(&mut *data)));
        }
        self.loaded = records.len();
        Ok(records)
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StorageError> {
        let Some(volume) = &self.volume else {
            return Ok(());
        };
        let mut transaction = Transaction::new();
        for change in changes {
            match change {
                Change::Put { index, bytes } => file_data(bytes).and_then(|data| {
                    transaction.write(file(*index), data)?;
                    Ok(())
                }),
                Change::Remove { index } => transaction.remove(file(*index)).map(drop),
            }
            .map_err(error)?;
        }
        volume.transaction(transaction).map_err(error)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        let Some(volume) = &self.volume else {
            return Ok(());
        };
        volume.settle().map_err(error)
    }

    fn is_persistent(&self) -> bool {
        self.volume.is_some()
    }
}

fn error(error: VolumeError) -> StorageError {
    match error {
        VolumeError::NoSpace => StorageError::NoSpace,
        VolumeError::NoMemory => StorageError::OutOfMemory,
        _ => StorageError::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::MemoryVolume;

    const SUCCESS: u64 = 0;
    const DEVICE_ERROR: u64 = 1 << 63 | 7;
    const OUT_OF_RESOURCES: u64 = 1 << 63 | 9;
    const NOT_FOUND: u64 = 1 << 63 | 14;

    /// ed32d533-99e6-4209-9cc0-2d72cdd998a7
    const MM_VARIABLE: Guid = [
        0x33, 0xd5, 0x32, 0xed, 0xe6, 0x99, 0x09, 0x42, 0x9c, 0xc0, 0x2d, 0x72, 0xcd, 0xd9, 0x98,
        0xa7,
    ];

    /// A message about the variable `Name` in a namespace of ours: function, and data or
    /// room for it.
    fn message(function: u64, data: &[u8]) -> Vec<u8> {
        let name: Vec<u8> = "Name\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        [
            &function.to_le_bytes()[..],
            &[0; 8],
            &[0x5a; 16],
            &(data.len() as u64).to_le_bytes(),
            &(name.len() as u64).to_le_bytes(),
            &7_u32.to_le_bytes(),
            &name,
            data,
        ]
        .concat()
    }

    fn status(body: &[u8]) -> u64 {
        u64::from_le_bytes(body[8..16].try_into().unwrap())
    }

    fn set(variables: &mut dyn Variables, data: &[u8]) -> u64 {
        let mut body = message(3, data);
        variables.communicate(&MM_VARIABLE, &mut body);
        status(&body)
    }

    fn get(variables: &mut dyn Variables) -> Result<Vec<u8>, u64> {
        let mut body = message(1, &[0; 64]);
        variables.communicate(&MM_VARIABLE, &mut body);
        match status(&body) {
            SUCCESS => {
                let size = u64::from_le_bytes(body[32..40].try_into().unwrap()) as usize;
                Ok(body[62..62 + size].to_vec())
            }
            error => Err(error),
        }
    }

    fn on(volume: &Arc<MemoryVolume>) -> Box<dyn Variables> {
        let volume: Arc<dyn Volume> = volume.clone();
        start(Some(volume), &[]).expect("the service starts")
    }

    #[test]
    fn variables_are_there_in_the_next_boot() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let mut first = on(&volume);
        assert!(first.flags().persistent);
        assert_eq!(set(&mut *first, b"value"), SUCCESS);
        assert_eq!(volume.list(Namespace::Uefi).unwrap().len(), 1);
        let mut next = on(&volume);
        assert_eq!(get(&mut *next), Ok(b"value".to_vec()));
        assert_eq!(set(&mut *next, b""), SUCCESS);
        assert!(volume.list(Namespace::Uefi).unwrap().is_empty());
        assert_eq!(get(&mut *on(&volume)), Err(NOT_FOUND));
    }

    #[test]
    fn a_commit_that_fails_changes_nothing_and_says_why() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let mut variables = on(&volume);
        assert_eq!(set(&mut *variables, b"old"), SUCCESS);
        for (failure, answer) in [
            (VolumeError::DeviceFailed, DEVICE_ERROR),
            (VolumeError::OutcomeUnknown, DEVICE_ERROR),
            (VolumeError::NoSpace, OUT_OF_RESOURCES),
            (VolumeError::NoMemory, OUT_OF_RESOURCES),
        ] {
            volume.fail_next(failure);
            assert_eq!(set(&mut *variables, b"new"), answer);
            assert_eq!(get(&mut *variables), Ok(b"old".to_vec()));
        }
        assert_eq!(get(&mut *on(&volume)), Ok(b"old".to_vec()));
    }

    #[test]
    fn a_store_that_does_not_parse_is_refused_and_kept() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let mut transaction = Transaction::new();
        transaction
            .write(file(0), file_data(b"no variable").unwrap())
            .unwrap();
        volume.transaction(transaction).unwrap();
        let shared: Arc<dyn Volume> = volume.clone();
        let error = start(Some(shared), &[]).err().expect("is refused");
        assert!(matches!(
            error,
            StartError::Load(LoadError::Record { index: 0, .. })
        ));
        assert_eq!(volume.read(file(0)).unwrap().as_slice(), b"no variable");
    }

    #[test]
    fn a_volume_that_cannot_be_read_is_no_empty_store() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        let shared: Arc<dyn Volume> = volume.clone();
        volume.fail_next(VolumeError::AuthenticationFailed);
        assert!(start(Some(shared), &[]).is_err());
    }

    #[test]
    fn without_a_volume_variables_work_and_nothing_claims_that_they_last() {
        let mut variables = start(None, &[]).expect("starts");
        assert!(!variables.flags().persistent);
        assert_eq!(set(&mut *variables, b"value"), SUCCESS);
        assert_eq!(get(&mut *variables), Ok(b"value".to_vec()));
        assert_eq!(get(&mut *start(None, &[]).expect("starts")), Err(NOT_FOUND));
    }
    /// A set as the image builder puts it into an image: PK and KEK, and zeros behind.
    fn first_keys() -> Vec<u8> {
        use uefivars::{guids, siglist};
        let pk = siglist::single(guids::CERT_EXTERNAL_MANAGEMENT, guids::GLOBAL, &[0]).unwrap();
        let kek = siglist::single(guids::CERT_SHA256, guids::GLOBAL, &[7; 32]).unwrap();
        let set = InitialSet {
            pk: &pk,
            kek: &kek,
            ..InitialSet::default()
        };
        let mut bytes = set.encode().unwrap();
        bytes.resize(uefivars::initial::ROOM, 0);
        bytes
    }

    #[test]
    fn first_keys_are_enrolled_in_the_first_boot_and_count_in_every_one() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        for _ in 0..2 {
            let shared: Arc<dyn Volume> = volume.clone();
            let service = start(Some(shared), &first_keys()).expect("starts");
            assert!(service.flags().secure_boot && service.flags().persistent);
            assert_eq!(volume.list(Namespace::Uefi).unwrap().len(), 2);
        }
        // Without a volume each boot is a first one.
        for _ in 0..2 {
            let service = start(None, &first_keys()).expect("starts");
            assert!(service.flags().secure_boot);
        }
    }

    #[test]
    fn first_keys_leave_a_store_with_variables_alone() {
        let volume = Arc::new(MemoryVolume::new(1 << 20));
        assert_eq!(set(&mut *on(&volume), b"value"), SUCCESS);
        let shared: Arc<dyn Volume> = volume.clone();
        let mut service = start(Some(shared), &first_keys()).expect("starts");
        assert!(!service.flags().secure_boot);
        assert_eq!(get(&mut *service), Ok(b"value".to_vec()));
        assert_eq!(volume.list(Namespace::Uefi).unwrap().len(), 1);
    }

    #[test]
    fn first_keys_that_are_damaged_or_not_stored_stop_the_boot() {
        // Room for one record, but not for both.
        let volume = Arc::new(MemoryVolume::new(200));
        let boot = |first: &[u8]| {
            let shared: Arc<dyn Volume> = volume.clone();
            start(Some(shared), first).err()
        };
        let mut damaged = first_keys();
        damaged[50] ^= 1;
        assert!(matches!(boot(&damaged), Some(StartError::Set(_))));
        assert_eq!(
            boot(&first_keys()),
            Some(StartError::Enroll(Status::OUT_OF_RESOURCES))
        );
        assert!(volume.list(Namespace::Uefi).unwrap().is_empty());
    }
}
