//! The first Secure Boot keys: what an owner puts in before a guest has run, and how a
//! boot image carries it.
//!
//! A boot image has room of [`ROOM`] bytes for a set. The set stands at its beginning and
//! zeros follow; nothing but zeros is no set. All numbers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `SVIS` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | zero |
//! | 8 | 16 | time stamp of all values, `EFI_TIME` |
//! | 24 | 6 × 4 | sizes of PK, KEK, db, dbx, dbt and dbr in bytes; 0 where there is none |
//! | 48 | | the values in this order: signature lists |

use alloc::vec::Vec;

use uguid::Guid;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::rules::SecureBootVariable;
use crate::siglist::{self, SigListError};
use crate::variable::MAX_DATA;
use crate::{EfiTime, guids};

/// Room for a set in a boot image, in bytes.
pub const ROOM: usize = 64 * 1024;

/// Name of that room's section in the kernel's ELF file.
pub const SECTION: &str = ".initial_set";

const MAGIC: [u8; 4] = *b"SVIS";
const VERSION: u16 = 1;
const COUNT: usize = 6;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U16,
    zero: U16,
    time: EfiTime,
    sizes: [U32; COUNT],
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 48);

/// Namespace and name of each value, and whether a set has to have it.
const VARIABLES: [(Guid, &str, bool); COUNT] = [
    (guids::GLOBAL, "PK", true),
    (guids::GLOBAL, "KEK", true),
    (guids::IMAGE_SECURITY_DATABASE, "db", false),
    (guids::IMAGE_SECURITY_DATABASE, "dbx", false),
    (guids::IMAGE_SECURITY_DATABASE, "dbt", false),
    (guids::IMAGE_SECURITY_DATABASE, "dbr", false),
];

/// Why bytes are no initial set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("its magic number is wrong")]
    Magic,
    #[error("version {0} is not known")]
    Version(u16),
    #[error("it ends inside its header or its values")]
    Short,
    #[error("something follows its values")]
    Trailing,
    #[error("its time stamp has fields that are not used")]
    Time,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} has more than {MAX_DATA} bytes")]
    TooLarge(&'static str),
    #[error("{name}: {error}")]
    Value {
        name: &'static str,
        error: SigListError,
    },
    #[error("{0} bytes are more than the {ROOM} that a boot image has room for")]
    Room(usize),
}

/// Values for the Secure Boot variables: signature lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitialSet<'a> {
    pub pk: &'a [u8],
    pub kek: &'a [u8],
    /// May be empty, and is then not enrolled; so are the next three.
    pub db: &'a [u8],
    pub dbx: &'a [u8],
    pub dbt: &'a [u8],
    pub dbr: &'a [u8],
    /// Time stamp of all of them. Updates have to be later.
    pub time: EfiTime,
}

impl<'a> InitialSet<'a> {
    const fn values(&self) -> [&'a [u8]; COUNT] {
        [self.pk, self.kek, self.db, self.dbx, self.dbt, self.dbr]
    }

    /// Namespace, name and value of the variables that it sets.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (Guid, &'static str, &'a [u8])> {
        VARIABLES
            .into_iter()
            .zip(self.values())
            .filter(|(_, value)| !value.is_empty())
            .map(|((guid, name, _), value)| (guid, name, value))
    }

    /// Checks that a service would take it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), SetError> {
        if !self.time.is_time_stamp() {
            return Err(SetError::Time);
        }
        for ((_, name, needed), value) in VARIABLES.into_iter().zip(self.values()) {
            if needed && value.is_empty() {
                return Err(SetError::Missing(name));
            }
            if value.len() > MAX_DATA {
                return Err(SetError::TooLarge(name));
            }
            if value.is_empty() {
                continue;
            }
            let kind = match name {
                "PK" => SecureBootVariable::Pk,
                "KEK" => SecureBootVariable::Kek,
                _ => SecureBootVariable::Database,
            };
            siglist::check(kind, value).map_err(|error| SetError::Value { name, error })?;
        }
        Ok(())
    }

    /// The set as a boot image carries it, without the zeros behind it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn encode(&self) -> Result<Vec<u8>, SetError> {
        self.check()?;
        let values = self.values();
        let len = HEADER + values.iter().map(|value| value.len()).sum::<usize>();
        if len > ROOM {
            return Err(SetError::Room(len));
        }
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            zero: 0.into(),
            time: self.time,
            // Each fits: their sum does.
            sizes: values.map(|value| (value.len() as u32).into()),
        };
        let mut bytes = Vec::from(header.as_bytes());
        bytes.extend(values.into_iter().flatten());
        Ok(bytes)
    }

    /// Reads a set as a boot image carries it; `None` where there is none.
    ///
    /// # Errors
    /// What is wrong with it: it is not taken for none.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<Self>, SetError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if bytes.len() > ROOM {
            return Err(SetError::Room(bytes.len()));
        }
        let (header, mut rest) = Header::ref_from_prefix(bytes).map_err(|_| SetError::Short)?;
        if header.magic != MAGIC {
            return Err(SetError::Magic);
        }
        if header.version.get() != VERSION || header.zero.get() != 0 {
            return Err(SetError::Version(header.version.get()));
        }
        let mut take = |size: U32| {
            let (value, next) = rest
                .split_at_checked(size.get() as usize)
                .ok_or(SetError::Short)?;
            rest = next;
            Ok(value)
        };
        let [pk, kek, db, dbx, dbt, dbr] = header.sizes;
        let set = Self {
            pk: take(pk)?,
            kek: take(kek)?,
            db: take(db)?,
            dbx: take(dbx)?,
            dbt: take(dbt)?,
            dbr: take(dbr)?,
            time: header.time,
        };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(SetError::Trailing);
        }
        set.check()?;
        Ok(Some(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn pk() -> Vec<u8> {
        siglist::single(guids::CERT_EXTERNAL_MANAGEMENT, guids::GLOBAL, &[0]).unwrap()
    }

    fn hash(byte: u8) -> Vec<u8> {
        siglist::single(guids::CERT_SHA256, guids::GLOBAL, &[byte; 32]).unwrap()
    }

    #[test]
    fn a_set_comes_back_as_it_was_written() {
        let (pk, kek, db) = (pk(), hash(1), hash(2));
        let set = InitialSet {
            pk: &pk,
            kek: &kek,
            db: &db,
            time: EfiTime::new(2026, 1, 2, 3, 4, 5),
            ..InitialSet::default()
        };
        let mut bytes = set.encode().unwrap();
        assert_eq!(InitialSet::decode(&bytes), Ok(Some(set)));
        let names: Vec<_> = set.variables().map(|(_, name, _)| name).collect();
        assert_eq!(names, ["PK", "KEK", "db"]);
        bytes.resize(ROOM, 0);
        assert_eq!(InitialSet::decode(&bytes), Ok(Some(set)));
        assert_eq!(InitialSet::decode(&[0; ROOM]), Ok(None));
        assert_eq!(InitialSet::decode(&[]), Ok(None));
    }

    #[test]
    fn what_is_damaged_is_not_taken_for_none() {
        let (pk, kek) = (pk(), hash(1));
        let set = InitialSet {
            pk: &pk,
            kek: &kek,
            ..InitialSet::default()
        };
        let good = set.encode().unwrap();
        for len in 1..good.len() {
            assert!(InitialSet::decode(&good[..len]).is_err(), "{len}");
        }
        let with = |offset: usize, byte: u8| {
            let mut bad = good.clone();
            bad[offset] = byte;
            InitialSet::decode(&bad).map(drop)
        };
        assert_eq!(with(0, 0), Err(SetError::Magic));
        assert_eq!(with(4, 2), Err(SetError::Version(2)));
        assert_eq!(with(6, 1), Err(SetError::Version(1)));
        assert_eq!(with(15, 1), Err(SetError::Time));
        // A size that leaves something out.
        assert_eq!(with(24, 0), Err(SetError::Trailing));
        assert_eq!(with(27, 0xff), Err(SetError::Short));
        assert_eq!(with(28, 0), Err(SetError::Trailing));
        assert!(matches!(
            with(48, 9),
            Err(SetError::Value { name: "PK", .. })
        ));
        let long = [&good[..], &[1]].concat();
        assert_eq!(InitialSet::decode(&long), Err(SetError::Trailing));
        let room = vec![1; ROOM + 1];
        assert_eq!(InitialSet::decode(&room), Err(SetError::Room(ROOM + 1)));
    }

    #[test]
    fn what_no_service_would_take_is_not_written() {
        let (pk, kek) = (pk(), hash(1));
        let set = InitialSet {
            pk: &pk,
            kek: &kek,
            ..InitialSet::default()
        };
        let encode = |change: fn(&mut InitialSet<'_>)| {
            let mut set = set;
            change(&mut set);
            set.encode()
        };
        assert_eq!(encode(|set| set.pk = &[]), Err(SetError::Missing("PK")));
        assert!(matches!(
            encode(|set| set.dbx = b"no list"),
            Err(SetError::Value { name: "dbx", .. })
        ));
        static LARGE: [u8; MAX_DATA + 1] = [0; MAX_DATA + 1];
        assert_eq!(encode(|set| set.db = &LARGE), Err(SetError::TooLarge("db")));
    }
}
