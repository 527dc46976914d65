//! Where a state can be: the server's directory, an archive, a directory of records.
//!
//! Always true: files are readable to their owner only, and none is replaced.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use vtpm::{
    archive::{self, ArchiveError},
    server::{Directory, DirectoryError, FILE},
    storage::{Change, RecordBytes, RecordId, Storage as _, StorageError},
};
use zeroize::Zeroizing;

/// Records with their numbers.
pub type Records = Vec<(RecordId, RecordBytes)>;

/// Why a place cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {error}", path = .path.display())]
    Archive { path: PathBuf, error: ArchiveError },
    #[error("{0}: not a record: its name is not a number in hexadecimal")]
    Name(String),
    #[error("{0}: larger than any TPM's state")]
    Large(String),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A place to write to.
pub enum Place<'a> {
    State(&'a Path),
    Archive(&'a Path),
    Records(&'a Path),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_path_buf();
    move |error| PlaceError::Io { path, error }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, PlaceError> {
    let size = fs::metadata(path).map_err(io_error(path))?.len();
    if size > archive::MAX_SIZE as u64 {
        return Err(PlaceError::Large(path.display().to_string()));
    }
    fs::read(path).map(Zeroizing::new).map_err(io_error(path))
}

/// The records of whatever kind of place this is; none for a directory without a state.
pub fn read(path: &Path) -> Result<Records, PlaceError> {
    let metadata = fs::metadata(path).map_err(io_error(path))?;
    if !metadata.is_dir() {
        let bytes = read_file(path)?;
        return archive::decode(&bytes).map_err(|error| PlaceError::Archive {
            path: path.to_path_buf(),
            error,
        });
    }
    let names: Vec<_> = fs::read_dir(path)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(io_error(path))?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    let is_number = |path: &PathBuf| number(path).is_some();
    if path.join(FILE).exists() || !names.iter().any(is_number) {
        return Ok(Directory::open(path)?.load()?);
    }
    let mut records = Vec::new();
    for file in names {
        let id = number(&file).ok_or_else(|| PlaceError::Name(file.display().to_string()))?;
        records.push((id, read_file(&file)?));
    }
    records.sort_by_key(|(id, _)| *id);
    Ok(records)
}

/// The number that a record's file is named by: eight digits.
fn number(path: &Path) -> Option<RecordId> {
    let name = path.file_name()?.to_str().filter(|name| name.len() == 8)?;
    RecordId::from_str_radix(name, 16).ok()
}

/// Writes records to a place where none are.
pub fn write(place: Place<'_>, records: &Records) -> Result<(), PlaceError> {
    match place {
        Place::State(directory) => {
            let changes: Vec<_> = records
                .iter()
                .map(|(id, bytes)| Change::Put(*id, bytes.clone()))
                .collect();
            Ok(Directory::open(directory)?.commit(&changes)?)
        }
        Place::Archive(file) => create(file, &archive::encode(records)),
        Place::Records(directory) => {
            fs::create_dir(directory).map_err(io_error(directory))?;
            for (id, bytes) in records {
                create(&directory.join(format!("{id:08x}")), bytes)?;
            }
            Ok(())
        }
    }
}

fn create(path: &Path, bytes: &[u8]) -> Result<(), PlaceError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error(path))
}
