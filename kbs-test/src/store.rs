//! The server's state in an embedded transactional database.
//!
//! A change is visible and durable when [`Store::write`] returns `Ok`, and has not happened when the
//! closure returns an error. Several processes may have the same database open: the server, and an
//! administrator's command beside it. Nothing is cached between transactions, so the server acts on
//! what was committed last, by whomever.
//!
//! Secrets have a table of their own; the file is readable and writable for its owner only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::backends::InMemoryBackend;
use redb::{
    ConcurrencyMode, Database, ReadableDatabase, ReadableTable, TableDefinition, TransactionError,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::ledger::ReportSession;
use crate::static_key::{KeyError, StaticKey};
use crate::volume::{Volume, VolumeName};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const VOLUMES: TableDefinition<&str, &[u8]> = TableDefinition::new("volumes");
const SECRETS: TableDefinition<&str, &[u8]> = TableDefinition::new("secrets");
const SESSIONS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("report-sessions");

const META_FORMAT: &str = "format";
const META_KEY: &str = "static-key";

/// Format of the values; another number means another program.
const FORMAT: &[u8] = b"1";

/// How long to wait for another process that is writing.
const BUSY: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Memory for pages of the database, in bytes; the default of the library is meant for larger ones.
const CACHE: usize = 4 * 1024 * 1024;

/// Why the state could not be read or changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the database {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An administrator's command on a database that does not exist.
    #[error("there is no database {0}: make one with kbs-test register, or correct --db")]
    Missing(PathBuf),
    /// Others than its owner may read the file.
    #[error(
        "others may read the database {path} (mode {mode:03o}): it holds secrets; chmod 600 it"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Made by a newer or another program.
    #[error("the database has format {0}, this program knows format 1 only")]
    Format(String),
    /// Another process holds the database for longer than [`BUSY`].
    #[error("the database is in use by another process: try again")]
    Busy,
    /// A value that this program did not write like this.
    #[error("the database has an invalid {what} for {name}: {why}")]
    Value {
        /// What kind of value.
        what: &'static str,
        /// Which one.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server's key could not be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The library's own errors: input and output, corruption.
    #[error("the database failed: {0}")]
    Database(#[from] redb::Error),
}

macro_rules! database_error {
    ($($source:ty),*) => {$(
        impl From<$source> for StoreError {
            fn from(e: $source) -> Self {
                Self::Database(e.into())
            }
        }
    )*};
}

database_error!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

/// The digest that identifies a report session; the cookie itself is not stored.
pub type SessionKey = [u8; 32];

/// An open database.
pub struct Store {
    database: Database,
    key: StaticKey,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the database at `path`; `create` makes one, with a fresh static key, if there is none.
    pub fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        prepare_file(path, create)?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(path)?;
        Self::with_database(database)
    }

    /// A database that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(InMemoryBackend::new())?;
        Self::with_database(database)
    }

    fn with_database(database: Database) -> Result<Self, StoreError> {
        let transaction = begin(&database)?;
        let key = initialise(&transaction)?;
        transaction.commit()?;
        Ok(Self { database, key })
    }

    /// The server's static key.
    pub fn key(&self) -> &StaticKey {
        &self.key
    }

    /// Carries out `change` and makes it durable, or leaves everything as it was.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Writing) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = Writing(begin(&self.database)?);
        // An error drops the transaction, which undoes it.
        let result = change(&transaction)?;
        transaction.0.commit().map_err(StoreError::from)?;
        Ok(result)
    }

    /// The volume of this name.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>, StoreError> {
        let table = self.database.begin_read()?.open_table(VOLUMES)?;
        let value = table.get(name.as_str())?;
        value
            .map(|v| decode("volume", name.as_str(), v.value()))
            .transpose()
    }

    /// Every volume, sorted by name.
    pub fn volumes(&self) -> Result<Vec<(VolumeName, Volume)>, StoreError> {
        let table = self.database.begin_read()?.open_table(VOLUMES)?;
        let mut volumes = Vec::new();
        for entry in table.iter()? {
            let (name, value) = entry?;
            let name = name.value();
            let parsed = name.parse::<VolumeName>().map_err(|e| StoreError::Value {
                what: "name",
                name: name.to_owned(),
                why: e.to_string(),
            })?;
            volumes.push((parsed, decode("volume", name, value.value())?));
        }
        Ok(volumes)
    }

    /// The volume a report session belongs to, if the session is known.
    pub fn report_session(&self, id: &SessionKey) -> Result<Option<ReportSession>, StoreError> {
        let table = self.database.begin_read()?.open_table(SESSIONS)?;
        let value = table.get(&id[..])?;
        value
            .map(|v| decode("report session", "a cookie", v.value()))
            .transpose()
    }
}

/// A write transaction.
pub struct Writing(WriteTransaction);

impl Writing {
    /// The volume of this name.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>, StoreError> {
        let table = self.0.open_table(VOLUMES)?;
        let value = table.get(name.as_str())?;
        value
            .map(|v| decode("volume", name.as_str(), v.value()))
            .transpose()
    }

    /// Stores a volume under its name, in place of one that was there.
    pub fn put_volume(&self, name: &VolumeName, volume: &Volume) -> Result<(), StoreError> {
        let value = encode("volume", name.as_str(), volume)?;
        self.0
            .open_table(VOLUMES)?
            .insert(name.as_str(), &value[..])?;
        Ok(())
    }

    /// The secret of a volume.
    pub fn secret(&self, name: &VolumeName) -> Result<Option<Secret>, StoreError> {
        let table = self.0.open_table(SECRETS)?;
        let value = table.get(name.as_str())?;
        value
            .map(|v| Secret::new(v.value().to_vec()))
            .transpose()
            .map_err(|e| StoreError::Value {
                what: "secret",
                name: name.to_string(),
                why: e.to_string(),
            })
    }

    /// Stores the secret of a volume.
    pub fn put_secret(&self, name: &VolumeName, secret: &Secret) -> Result<(), StoreError> {
        self.0
            .open_table(SECRETS)?
            .insert(name.as_str(), secret.as_bytes())?;
        Ok(())
    }

    /// Forgets a volume, its secret and its report sessions.
    pub fn remove(&self, name: &VolumeName) -> Result<(), StoreError> {
        self.0.open_table(VOLUMES)?.remove(name.as_str())?;
        self.0.open_table(SECRETS)?.remove(name.as_str())?;
        self.end_sessions(name, None)
    }

    /// A report session.
    pub fn session(&self, id: &SessionKey) -> Result<Option<ReportSession>, StoreError> {
        let table = self.0.open_table(SESSIONS)?;
        let value = table.get(&id[..])?;
        value
            .map(|v| decode("report session", "a cookie", v.value()))
            .transpose()
    }

    /// Stores a report session.
    pub fn put_session(&self, id: &SessionKey, session: &ReportSession) -> Result<(), StoreError> {
        let value = encode("report session", "a cookie", session)?;
        self.0.open_table(SESSIONS)?.insert(&id[..], &value[..])?;
        Ok(())
    }

    /// Forgets one report session.
    pub fn remove_session(&self, id: &[u8]) -> Result<(), StoreError> {
        self.0.open_table(SESSIONS)?.remove(id)?;
        Ok(())
    }

    /// Forgets every report session of a volume but `keep`.
    pub fn end_sessions(
        &self,
        name: &VolumeName,
        keep: Option<&SessionKey>,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = self
            .sessions_of(name)?
            .into_iter()
            .filter(|(id, _)| keep.is_none_or(|keep| keep[..] != id[..]))
            .collect();
        let mut table = self.0.open_table(SESSIONS)?;
        for (id, _) in ids {
            table.remove(&id[..])?;
        }
        Ok(())
    }

    /// The report sessions of a volume.
    pub fn sessions_of(
        &self,
        name: &VolumeName,
    ) -> Result<Vec<(Vec<u8>, ReportSession)>, StoreError> {
        let table = self.0.open_table(SESSIONS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (id, value) = entry?;
            let session: ReportSession = decode("report session", "a cookie", value.value())?;
            if session.volume == *name {
                found.push((id.value().to_vec(), session));
            }
        }
        Ok(found)
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match database.try_begin_write() {
            Err(TransactionError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(TransactionError::WouldBlock) => return Err(StoreError::Busy),
            other => return Ok(other?),
        }
    }
}

/// Makes every table, and the static key at first; refuses another format.
fn initialise(transaction: &WriteTransaction) -> Result<StaticKey, StoreError> {
    transaction.open_table(VOLUMES)?;
    transaction.open_table(SECRETS)?;
    transaction.open_table(SESSIONS)?;
    let mut meta = transaction.open_table(META)?;
    let format = meta.get(META_FORMAT)?.map(|v| v.value().to_vec());
    match format.as_deref() {
        None => {
            let key = StaticKey::generate()?;
            meta.insert(META_FORMAT, FORMAT)?;
            meta.insert(META_KEY, key.to_pkcs8()?.as_bytes())?;
            Ok(key)
        }
        Some(FORMAT) => {
            let stored = meta
                .get(META_KEY)?
                .map(|v| Zeroizing::new(v.value().to_vec()));
            Ok(StaticKey::from_pkcs8(&stored.unwrap_or_default())?)
        }
        Some(other) => Err(StoreError::Format(
            String::from_utf8_lossy(other).into_owned(),
        )),
    }
}

/// Makes the file if asked to, readable for nobody else, and looks at who may read an older one.
fn prepare_file(path: &Path, create: bool) -> Result<(), StoreError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if !create => StoreError::Missing(path.to_owned()),
        _ => StoreError::Open {
            path: path.to_owned(),
            source,
        },
    };
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(StoreError::Mode {
            path: path.to_owned(),
            mode,
        }),
    }
}

fn encode<T: Serialize>(
    what: &'static str,
    name: &str,
    value: &T,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|e| StoreError::Value {
            what,
            name: name.to_owned(),
            why: e.to_string(),
        })
}

fn decode<T: DeserializeOwned>(
    what: &'static str,
    name: &str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|e| StoreError::Value {
        what,
        name: name.to_owned(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Policy;

    fn name() -> VolumeName {
        "a/b/c".parse().unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = Store::open(&path, true).unwrap();
        let mut volume = Volume::new(Policy::default());
        volume.ledger.epoch = 7;
        store
            .write::<_, StoreError>(|w| {
                w.put_volume(&name(), &volume)?;
                w.put_secret(&name(), &"0102".parse().unwrap())
            })
            .unwrap();
        let fingerprint = store.key().fingerprint();
        drop(store);

        let store = Store::open(&path, false).unwrap();
        assert_eq!(store.volume(&name()).unwrap(), Some(volume.clone()));
        assert_eq!(store.volumes().unwrap(), [(name(), volume)]);
        assert_eq!(store.key().fingerprint(), fingerprint);
        let secret = store.write::<_, StoreError>(|w| w.secret(&name())).unwrap();
        assert_eq!(secret.unwrap().as_bytes(), [1, 2]);
    }

    #[test]
    fn failed_change_leaves_nothing() {
        let store = Store::in_memory().unwrap();
        let failed: Result<(), StoreError> = store.write(|w| {
            w.put_volume(&name(), &Volume::new(Policy::default()))?;
            Err(StoreError::Busy)
        });
        assert!(failed.is_err());
        assert_eq!(store.volume(&name()).unwrap(), None);
    }

    #[test]
    fn second_process_sees_and_makes_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let server = Store::open(&path, true).unwrap();
        let admin = Store::open(&path, false).unwrap();
        let volume = Volume::new(Policy::default());
        admin
            .write::<_, StoreError>(|w| w.put_volume(&name(), &volume))
            .unwrap();
        assert_eq!(server.volume(&name()).unwrap(), Some(volume));
        server
            .write::<_, StoreError>(|w| w.remove(&name()))
            .unwrap();
        assert_eq!(admin.volume(&name()).unwrap(), None);
    }

    #[test]
    fn file_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(Store::open(&path, true).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let e = Store::open(&path, false).unwrap_err();
        assert!(matches!(e, StoreError::Mode { mode: 0o640, .. }), "{e}");
    }

    #[test]
    fn missing_database_is_made_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let e = Store::open(&dir.path().join("db"), false).unwrap_err();
        assert!(matches!(e, StoreError::Missing(_)), "{e}");
    }

    #[test]
    fn file_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let options = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        io::Write::write_all(&mut options.unwrap(), &[b'x'; 10_000]).unwrap();
        let e = Store::open(&path, false).unwrap_err();
        assert!(e.to_string().starts_with("the database failed"), "{e}");
    }
}
