//! The variable policy engine (edk2, VariablePolicyLib): rules that the firmware registers
//! at boot, and that are enforced once it has said EndOfDxe.
//!
//! Each entry was checked when it was registered: its sizes add up, its names end in a
//! zero and have none inside, and no other entry has the same name.

use alloc::vec::Vec;

use uguid::Guid;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::variable::Key;
use crate::{Attributes, Status, bytes, rules};

/// Entries that can be registered.
pub const MAX_ENTRIES: usize = 256;
/// Bytes of all entries together.
pub const MAX_BYTES: usize = 64 * 1024;

const REVISION: u32 = 0x0001_0000;

/// VARIABLE_POLICY_ENTRY. What it is locked by and its name follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    version: U32,
    size: U16,
    offset_to_name: U16,
    namespace: [u8; 16],
    min_size: U32,
    max_size: U32,
    attributes_must_have: U32,
    attributes_cant_have: U32,
    lock: u8,
    padding: [u8; 3],
}

/// VARIABLE_LOCK_ON_VAR_STATE_POLICY. The name of the variable follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StateHeader {
    namespace: [u8; 16],
    value: u8,
    padding: u8,
}

pub const ENTRY_HEADER: usize = size_of::<EntryHeader>();
const STATE_HEADER: usize = size_of::<StateHeader>();
const _: () = assert!(ENTRY_HEADER == 44 && STATE_HEADER == 18);

const NO_LOCK: u8 = 0;
const LOCK_NOW: u8 = 1;
const LOCK_ON_CREATE: u8 = 2;
const LOCK_ON_VAR_STATE: u8 = 3;

/// Code units of a name as they are in an entry.
fn units(raw: &[u8]) -> impl Iterator<Item = u16> + Clone {
    raw.as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
}

/// The part before the terminating zero, which has to be the last unit and the only zero.
fn terminated(raw: &[u8]) -> Option<&[u8]> {
    let (name, end) = raw.split_last_chunk::<2>()?;
    let ok = *end == [0, 0] && raw.len().is_multiple_of(2) && units(name).all(|unit| unit != 0);
    ok.then_some(name)
}

/// One policy, in the bytes that the firmware sent.
#[derive(Debug)]
pub struct Policy {
    raw: Vec<u8>,
    header: EntryHeader,
    /// Order of precedence: no wildcards first, a whole namespace last.
    wildcards: usize,
}

impl Policy {
    /// Reads an entry that begins `body`.
    ///
    /// # Errors
    /// `EFI_BAD_BUFFER_SIZE` where sizes do not fit, `EFI_INVALID_PARAMETER` where the
    /// contents are wrong, `EFI_OUT_OF_RESOURCES`.
    fn parse(body: &[u8]) -> Result<Self, Status> {
        let (header, _) =
            EntryHeader::read_from_prefix(body).map_err(|_| Status::BAD_BUFFER_SIZE)?;
        let raw = body
            .get(..usize::from(header.size.get()))
            .filter(|raw| raw.len() >= ENTRY_HEADER)
            .ok_or(Status::BAD_BUFFER_SIZE)?;
        let offset = usize::from(header.offset_to_name.get());
        let between = raw
            .get(ENTRY_HEADER..offset)
            .ok_or(Status::BAD_BUFFER_SIZE)?;
        let state_fits = match header.lock {
            NO_LOCK | LOCK_NOW | LOCK_ON_CREATE => between.is_empty(),
            LOCK_ON_VAR_STATE => between
                .get(STATE_HEADER..)
                .and_then(terminated)
                .is_some_and(|name| !name.is_empty()),
            _ => false,
        };
        let name = &raw[offset..];
        let name_fits = name.is_empty() || terminated(name).is_some_and(|name| !name.is_empty());
        if header.version.get() != REVISION
            || header.max_size.get() == 0
            || !state_fits
            || !name_fits
        {
            return Err(Status::INVALID_PARAMETER);
        }
        let wildcards = match terminated(name) {
            Some(name) => units(name).filter(|unit| *unit == u16::from(b'#')).count(),
            None => usize::MAX,
        };
        Ok(Self {
            raw: bytes::copy(raw)?,
            header,
            wildcards,
        })
    }

    /// The policy that locks one variable at once.
    fn lock(key: &Key) -> Result<Self, Status> {
        let size = ENTRY_HEADER + key.name.size();
        let header = EntryHeader {
            version: REVISION.into(),
            size: u16::try_from(size)
                .map_err(|_| Status::BAD_BUFFER_SIZE)?
                .into(),
            offset_to_name: (ENTRY_HEADER as u16).into(),
            namespace: key.guid.to_bytes(),
            min_size: 0.into(),
            max_size: u32::MAX.into(),
            attributes_must_have: 0.into(),
            attributes_cant_have: 0.into(),
            lock: LOCK_NOW,
            padding: [0; 3],
        };
        let mut raw = bytes::with_capacity(size)?;
        raw.extend_from_slice(header.as_bytes());
        raw.extend(key.name.le_bytes());
        raw.extend_from_slice(&[0, 0]);
        Self::parse(&raw)
    }

    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// The name with its zero; empty for a policy that covers a namespace.
    pub fn name(&self) -> &[u8] {
        &self.raw[usize::from(self.header.offset_to_name.get())..]
    }

    fn namespace(&self) -> Guid {
        Guid::from_bytes(self.header.namespace)
    }

    fn same_name(&self, other: &Self) -> bool {
        self.header.namespace == other.header.namespace && self.name() == other.name()
    }

    fn covers(&self, key: &Key) -> bool {
        self.namespace() == key.guid
            && match terminated(self.name()) {
                // Exactly the same also covers a variable with a # in its own name.
                Some(name) => {
                    units(name).eq(key.name.units().iter().copied())
                        || rules::matches(units(name), key.name.units())
                }
                None => true,
            }
    }

    /// What a lock by the state of another variable depends on: header, and name with
    /// its zero.
    pub fn state(&self) -> Option<(StateHeader, &[u8])> {
        if self.header.lock != LOCK_ON_VAR_STATE {
            return None;
        }
        let offset = usize::from(self.header.offset_to_name.get());
        let (state, name) = StateHeader::read_from_prefix(&self.raw[ENTRY_HEADER..offset]).ok()?;
        Some((state, name))
    }
}

/// What a policy is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub key: &'a Key,
    /// Whether the variable is there already.
    pub exists: bool,
    /// Attributes and size after the write; `None` deletes the variable.
    pub after: Option<(Attributes, usize)>,
}

/// All policies of this boot.
#[derive(Debug, Default)]
pub struct Policies {
    /// By precedence, and in the order of registration where that is the same.
    entries: Vec<Policy>,
    locked: bool,
    /// Whether the table has not changed since the first page of a dump was asked for.
    dumping: bool,
}

impl Policies {
    /// Registers the policy at the beginning of `body`.
    ///
    /// # Errors
    /// `EFI_WRITE_PROTECTED` after [`Policies::lock`], `EFI_ALREADY_STARTED` for a name that
    /// has a policy, `EFI_OUT_OF_RESOURCES` when there are too many, and what is wrong with
    /// the entry.
    pub fn register(&mut self, body: &[u8]) -> Result<(), Status> {
        if self.locked {
            return Err(Status::WRITE_PROTECTED);
        }
        self.add(Policy::parse(body)?)
    }

    fn add(&mut self, policy: Policy) -> Result<(), Status> {
        if self.entries.iter().any(|known| known.same_name(&policy)) {
            return Err(Status::ALREADY_STARTED);
        }
        let used: usize = self.entries.iter().map(|entry| entry.raw.len()).sum();
        if self.entries.len() >= MAX_ENTRIES || used + policy.raw.len() > MAX_BYTES {
            return Err(Status::OUT_OF_RESOURCES);
        }
        let place = self
            .entries
            .partition_point(|entry| entry.wildcards <= policy.wildcards);
        bytes::push(&mut self.entries, policy)?;
        self.entries[place..].rotate_right(1);
        self.dumping = false;
        Ok(())
    }

    /// Locks one variable, whatever its policy was.
    ///
    /// # Errors
    /// As [`Policies::register`], without `EFI_ALREADY_STARTED`.
    pub fn lock_variable(&mut self, key: &Key) -> Result<(), Status> {
        if self.locked {
            return Err(Status::WRITE_PROTECTED);
        }
        let policy = Policy::lock(key)?;
        let place = self
            .entries
            .iter()
            .position(|known| known.same_name(&policy));
        match place {
            Some(place) => {
                self.entries[place] = policy;
                self.dumping = false;
                Ok(())
            }
            None => self.add(policy),
        }
    }

    /// No policy is added until the next boot.
    pub fn lock(&mut self) {
        self.locked = true;
    }

    /// The policy that decides about a variable.
    pub fn of(&self, key: &Key) -> Option<&Policy> {
        self.entries.iter().find(|policy| policy.covers(key))
    }

    /// Checks a write. `value` gives the value of another variable.
    ///
    /// # Errors
    /// `EFI_INVALID_PARAMETER` for sizes and attributes, `EFI_WRITE_PROTECTED` for locks.
    pub fn check<'a>(
        &self,
        write: Write<'_>,
        value: impl FnOnce(Guid, &[u8]) -> Option<&'a [u8]>,
    ) -> Result<(), Status> {
        let Some(policy) = self.of(write.key) else {
            return Ok(());
        };
        let header = &policy.header;
        // A deletion has no size and no attributes that could be wrong; locks hold it off.
        if let Some((attributes, size)) = write.after {
            let must = header.attributes_must_have.get();
            let size_fits = u32::try_from(size)
                .is_ok_and(|size| (header.min_size.get()..=header.max_size.get()).contains(&size));
            if !size_fits
                || attributes.0 & must != must
                || attributes.0 & header.attributes_cant_have.get() != 0
            {
                return Err(Status::INVALID_PARAMETER);
            }
        }
        let locked = match header.lock {
            LOCK_NOW => true,
            LOCK_ON_CREATE => write.exists,
            LOCK_ON_VAR_STATE => policy.state().is_some_and(|(state, name)| {
                value(Guid::from_bytes(state.namespace), name) == Some(&[state.value])
            }),
            _ => false,
        };
        if locked {
            Err(Status::WRITE_PROTECTED)
        } else {
            Ok(())
        }
    }

    /// Size of the whole table, in bytes.
    pub fn dump_size(&self) -> usize {
        self.entries.iter().map(|entry| entry.raw.len()).sum()
    }

    /// Begins a dump.
    pub fn begin_dump(&mut self) {
        self.dumping = true;
    }

    /// Copies the table from `offset` on into `page`, and returns how many bytes there were.
    ///
    /// # Errors
    /// `EFI_TIMEOUT` where the table has changed since [`Policies::begin_dump`].
    pub fn dump(&self, offset: usize, page: &mut [u8]) -> Result<usize, Status> {
        if !self.dumping {
            return Err(Status::TIMEOUT);
        }
        let table = self
            .entries
            .iter()
            .flat_map(|entry| &entry.raw)
            .skip(offset);
        let copied = page
            .iter_mut()
            .zip(table)
            .map(|(to, from)| *to = *from)
            .count();
        Ok(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guids;

    /// An entry with a lock, what it depends on and a name, each with its zero.
    fn entry(lock: u8, state: &[u8], name: &str) -> Vec<u8> {
        let mut tail = Vec::from(state);
        if !name.is_empty() {
            tail.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        }
        let header = EntryHeader {
            version: REVISION.into(),
            size: ((ENTRY_HEADER + tail.len()) as u16).into(),
            offset_to_name: ((ENTRY_HEADER + state.len()) as u16).into(),
            namespace: guids::CUSTOM_MODE.to_bytes(),
            min_size: 2.into(),
            max_size: 4.into(),
            attributes_must_have: 1.into(),
            attributes_cant_have: 4.into(),
            lock,
            padding: [0; 3],
        };
        let mut raw = Vec::from(header.as_bytes());
        raw.extend(tail);
        raw
    }

    fn state() -> Vec<u8> {
        let mut state = Vec::from(guids::GLOBAL.to_bytes());
        state.extend([7, 0, b'S', 0, 0, 0]);
        state
    }

    fn check(
        policies: &Policies,
        name: &str,
        exists: bool,
        after: Option<(u32, usize)>,
    ) -> Result<(), Status> {
        let key = Key::new(guids::CUSTOM_MODE, name).unwrap();
        let after = after.map(|(attributes, size)| (Attributes(attributes), size));
        policies.check(
            Write {
                key: &key,
                exists,
                after,
            },
            |_, _| None,
        )
    }

    #[test]
    fn sizes_and_attributes_bind_writes_and_not_deletions() {
        let mut policies = Policies::default();
        policies.register(&entry(NO_LOCK, &[], "A")).unwrap();
        for good in [Some((3, 2)), Some((3, 4)), None] {
            assert_eq!(check(&policies, "A", true, good), Ok(()));
        }
        for bad in [(3, 1), (3, 5), (2, 2), (7, 2)] {
            assert_eq!(
                check(&policies, "A", true, Some(bad)),
                Err(Status::INVALID_PARAMETER)
            );
        }
        assert_eq!(check(&policies, "B", true, Some((2, 9))), Ok(()));
    }

    #[test]
    fn the_most_specific_policy_decides() {
        let mut policies = Policies::default();
        policies.register(&entry(LOCK_NOW, &[], "")).unwrap();
        policies.register(&entry(NO_LOCK, &[], "A##")).unwrap();
        policies.register(&entry(LOCK_NOW, &[], "A#1")).unwrap();
        policies.register(&entry(NO_LOCK, &[], "A11")).unwrap();
        let locked = |name| check(&policies, name, false, Some((3, 2))).is_err();
        assert!(!locked("A11") && locked("A21") && !locked("A22"));
        assert!(locked("B") && locked("AXX"));
    }

    #[test]
    fn locks_on_creation_and_on_the_state_of_another_variable() {
        let mut policies = Policies::default();
        policies.register(&entry(LOCK_ON_CREATE, &[], "A")).unwrap();
        policies
            .register(&entry(LOCK_ON_VAR_STATE, &state(), "B"))
            .unwrap();
        assert_eq!(check(&policies, "A", false, Some((3, 2))), Ok(()));
        assert_eq!(
            check(&policies, "A", true, Some((3, 2))),
            Err(Status::WRITE_PROTECTED)
        );
        assert_eq!(
            check(&policies, "A", true, None),
            Err(Status::WRITE_PROTECTED)
        );
        let key = Key::new(guids::CUSTOM_MODE, "B").unwrap();
        for (value, expected) in [
            (None, Ok(())),
            (Some(&[6][..]), Ok(())),
            (Some(&[7, 7]), Ok(())),
            (Some(&[7]), Err(Status::WRITE_PROTECTED)),
        ] {
            let write = Write {
                key: &key,
                exists: true,
                after: Some((Attributes(3), 2)),
            };
            let checked = policies.check(write, |guid, name| {
                assert_eq!((guid, name), (guids::GLOBAL, &b"S\0\0\0"[..]));
                value
            });
            assert_eq!(checked, expected);
        }
    }

    #[test]
    fn registering_ends_with_the_lock_and_takes_no_name_twice() {
        let mut policies = Policies::default();
        policies.register(&entry(NO_LOCK, &[], "A")).unwrap();
        assert_eq!(
            policies.register(&entry(LOCK_NOW, &[], "A")),
            Err(Status::ALREADY_STARTED)
        );
        policies.lock();
        assert_eq!(
            policies.register(&entry(NO_LOCK, &[], "B")),
            Err(Status::WRITE_PROTECTED)
        );
    }

    #[test]
    fn a_locked_variable_stays_locked_whatever_its_policy_was() {
        let mut policies = Policies::default();
        policies.register(&entry(NO_LOCK, &[], "A")).unwrap();
        policies
            .lock_variable(&Key::new(guids::CUSTOM_MODE, "A").unwrap())
            .unwrap();
        assert_eq!(
            check(&policies, "A", false, Some((3, 2))),
            Err(Status::WRITE_PROTECTED)
        );
    }

    #[test]
    fn malformed_entries_are_refused() {
        let good = entry(LOCK_ON_VAR_STATE, &state(), "Name");
        assert!(Policy::parse(&good).is_ok());
        for len in 0..good.len() {
            assert!(Policy::parse(&good[..len]).is_err(), "{len}");
        }
        for (offset, value) in [
            (0, 1),
            (2, 2),
            (4, 20),
            (4, 71),
            (6, 10),
            (6, 64),
            (6, 67),
            (40, 4),
            (40, 0),
            (62, 0),
        ] {
            let mut bad = good.clone();
            bad[offset] = value;
            assert!(Policy::parse(&bad).is_err(), "{offset} = {value}");
        }
        let mut never = good;
        never[28..32].fill(0);
        assert!(Policy::parse(&never).is_err());
    }

    #[test]
    fn there_are_only_so_many() {
        let mut policies = Policies::default();
        for n in 0..MAX_ENTRIES {
            policies
                .register(&entry(NO_LOCK, &[], &alloc::format!("A{n}")))
                .unwrap();
        }
        assert_eq!(
            policies.register(&entry(NO_LOCK, &[], "B")),
            Err(Status::OUT_OF_RESOURCES)
        );
        let mut policies = Policies::default();
        let long = "x".repeat(20_000);
        policies.register(&entry(NO_LOCK, &[], &long)).unwrap();
        assert_eq!(
            policies.register(&entry(NO_LOCK, &[], &(long + "y"))),
            Err(Status::OUT_OF_RESOURCES)
        );
    }

    #[test]
    fn a_dump_gives_every_entry_or_starts_again() {
        let mut policies = Policies::default();
        let (a, b) = (entry(NO_LOCK, &[], "A"), entry(LOCK_NOW, &[], "B"));
        policies.register(&a).unwrap();
        policies.register(&b).unwrap();
        assert_eq!(policies.dump(0, &mut [0; 9]), Err(Status::TIMEOUT));
        policies.begin_dump();
        let all = [a, b].concat();
        let mut page = [0; 30];
        assert_eq!(policies.dump(70, &mut page), Ok(all.len() - 70));
        assert_eq!(page[..all.len() - 70], all[70..]);
        policies.register(&entry(NO_LOCK, &[], "C")).unwrap();
        assert_eq!(policies.dump(0, &mut page), Err(Status::TIMEOUT));
    }
}
