//! A volume in memory: the twin of the CocoonFs volume for tests of services, and
//! what a service runs on where nothing persists.

use alloc::vec::Vec;

use super::files::{
    Change, FileData, FileId, Namespace, Space, Transaction, Volume, VolumeError, file_data,
};

struct State {
    /// Sorted by name.
    files: Vec<(FileId, FileData)>,
    next_error: Option<VolumeError>,
}

/// A volume in memory, bounded in size.
pub struct MemoryVolume {
    capacity: usize,
    state: spin::Mutex<State>,
}

impl MemoryVolume {
    /// An empty volume for at most `capacity` bytes of file contents.
    pub const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: spin::Mutex::new(State {
                files: Vec::new(),
                next_error: None,
            }),
        }
    }

    /// Makes the next operation fail with `error` and change nothing.
    pub fn fail_next(&self, error: VolumeError) {
        self.state.lock().next_error = Some(error);
    }
}

impl State {
    fn check_error(&mut self) -> Result<(), VolumeError> {
        self.next_error.take().map_or(Ok(()), Err)
    }

    fn find(&self, file: FileId) -> Result<usize, usize> {
        self.files.binary_search_by_key(&file, |(id, _)| *id)
    }
}

impl Volume for MemoryVolume {
    fn read(&self, file: FileId) -> Result<FileData, VolumeError> {
        let mut state = self.state.lock();
        state.check_error()?;
        let index = state.find(file).map_err(|_| VolumeError::NotFound)?;
        file_data(&state.files[index].1)
    }

    fn list(&self, namespace: Namespace) -> Result<Vec<u32>, VolumeError> {
        let mut state = self.state.lock();
        state.check_error()?;
        let mut indexes = Vec::new();
        for (file, _) in &state.files {
            if file.namespace == namespace {
                indexes.try_reserve(1).map_err(|_| VolumeError::NoMemory)?;
                indexes.push(file.index);
            }
        }
        Ok(indexes)
    }

    fn transaction(&self, transaction: Transaction) -> Result<(), VolumeError> {
        let mut state = self.state.lock();
        state.check_error()?;
        let changes = transaction.into_changes();
        // Everything that can fail comes before the first change.
        let mut used: usize = state
            .files
            .iter()
            .filter(|(file, _)| !changes.iter().any(|(changed, _)| changed == file))
            .map(|(_, data)| data.len())
            .sum();
        for (_, change) in &changes {
            if let Change::Write(data) = change {
                used = used.saturating_add(data.len());
            }
        }
        if used > self.capacity {
            return Err(VolumeError::NoSpace);
        }
        state
            .files
            .try_reserve(changes.len())
            .map_err(|_| VolumeError::NoMemory)?;
        for (file, change) in changes {
            match (state.find(file), change) {
                (Ok(index), Change::Write(data)) => state.files[index].1 = data,
                (Err(index), Change::Write(data)) => state.files.insert(index, (file, data)),
                (Ok(index), Change::Remove) => {
                    state.files.remove(index);
                }
                (Err(_), Change::Remove) => {}
            }
        }
        Ok(())
    }

    fn space(&self) -> Result<Space, VolumeError> {
        let mut state = self.state.lock();
        state.check_error()?;
        let used: usize = state.files.iter().map(|(_, data)| data.len()).sum();
        Ok(Space {
            total: self.capacity as u64,
            used: used as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: FileId = FileId::new(Namespace::Vtpm, 7);
    const B: FileId = FileId::new(Namespace::Vtpm, 2);
    const C: FileId = FileId::new(Namespace::Uefi, 7);

    fn write(volume: &MemoryVolume, file: FileId, data: &[u8]) -> Result<(), VolumeError> {
        let mut transaction = Transaction::new();
        transaction.write(file, file_data(data)?)?;
        volume.transaction(transaction)
    }

    #[test]
    fn behaves_as_a_volume() {
        let volume = MemoryVolume::new(100);
        write(&volume, A, b"a").unwrap();
        write(&volume, B, b"").unwrap();
        write(&volume, C, b"c").unwrap();
        assert_eq!(volume.list(Namespace::Vtpm), Ok(alloc::vec![2, 7]));
        assert_eq!(volume.read(A).unwrap().as_slice(), b"a");
        assert_eq!(volume.read(B).unwrap().as_slice(), b"");

        let mut transaction = Transaction::new();
        transaction.remove(A).unwrap().remove(A).unwrap();
        transaction.write(C, file_data(b"new").unwrap()).unwrap();
        volume.transaction(transaction).unwrap();
        assert_eq!(volume.read(A), Err(VolumeError::NotFound));
        assert_eq!(volume.read(C).unwrap().as_slice(), b"new");
        let space = volume.space().unwrap();
        assert_eq!((space.total, space.free()), (100, 97));
    }

    #[test]
    fn a_transaction_without_space_changes_nothing() {
        let volume = MemoryVolume::new(4);
        write(&volume, A, b"1234").unwrap();
        let mut transaction = Transaction::new();
        transaction.write(B, file_data(b"5").unwrap()).unwrap();
        transaction.write(A, file_data(b"6789").unwrap()).unwrap();
        assert_eq!(volume.transaction(transaction), Err(VolumeError::NoSpace));
        assert_eq!(volume.read(A).unwrap().as_slice(), b"1234");
        assert_eq!(volume.read(B), Err(VolumeError::NotFound));
    }

    #[test]
    fn fails_when_told_to() {
        let volume = MemoryVolume::new(4);
        volume.fail_next(VolumeError::OutcomeUnknown);
        assert_eq!(write(&volume, A, b"1"), Err(VolumeError::OutcomeUnknown));
        assert_eq!(write(&volume, A, b"1"), Ok(()));
    }
}
