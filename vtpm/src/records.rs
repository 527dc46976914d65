//! The state as records.
//!
//! Always true: a record names its format version and ends in a checksum over its number and
//! contents, so that a record from elsewhere, of another version or damaged is an error and
//! never taken for a new TPM. The first record, the marker, exists from the begin of the
//! manufacture on and says whether it ended; a set of records without a marker is damaged.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    constants::{ht, limit, rh},
    crypto::{self, Bytes, HashAlg},
    state::{
        Boots, Da, NvIndex, Orderly, Owners, Ram, Seeds, Settings, Shutdown, State, StateClear,
        StateReset, encoding::Encode, object::Object,
    },
    storage::{Change, RecordBytes, RecordId},
    tpm::PowerOnError,
    wire::{Put, Reader},
};

/// Version of the format of all records.
pub const VERSION: u32 = 1;
const MAGIC: &[u8; 4] = b"vTPM";
const CHECKSUM: usize = 8;

/// Record numbers. NV indices and persistent objects have their handle as number.
pub mod id {
    #![allow(missing_docs)]
    pub const MARKER: u32 = 1;
    pub const SEEDS: u32 = 2;
    pub const EK_PUBLIC: u32 = 3;
    pub const OWNERS: u32 = 4;
    pub const BOOTS: u32 = 5;
    pub const DA: u32 = 6;
    pub const SETTINGS: u32 = 7;
    pub const ORDERLY: u32 = 8;
    pub const STATE_CLEAR: u32 = 9;
    pub const STATE_RESET: u32 = 10;
}

/// How far the manufacture got, the contents of the marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It began.
    Begun,
    /// It ended: every other record is there.
    Complete,
}

fn checksum(id: RecordId, bytes: &[u8]) -> Vec<u8> {
    let mut digest = crypto::hash(HashAlg::Sha256, &[&id.to_be_bytes(), bytes]);
    digest.truncate(CHECKSUM);
    digest
}

/// Room for a record, so that it does not move while it grows and leave a copy behind.
fn room(id: RecordId) -> usize {
    match id {
        id::STATE_CLEAR | id::STATE_RESET => 8192,
        // NV indices and persistent objects go under their handles.
        rh::NV_FIRST.. => limit::NV_INDEX + 1024,
        _ => 1024,
    }
}

/// A record with its head and checksum.
#[must_use]
pub fn seal(id: RecordId, value: &impl Encode) -> RecordBytes {
    let mut bytes = Bytes::new(Vec::with_capacity(room(id)));
    bytes.raw(MAGIC);
    bytes.put(&VERSION);
    value.encode(&mut bytes);
    let sum = checksum(id, &bytes);
    crypto::concat(&[&bytes, &sum])
}

/// The contents of a record.
///
/// # Errors
/// `Damaged`, or `Version`.
pub fn open<T: Encode>(id: RecordId, bytes: &[u8]) -> Result<T, PowerOnError> {
    let damaged = PowerOnError::Damaged(id);
    let (body, sum) = bytes
        .len()
        .checked_sub(CHECKSUM)
        .and_then(|end| bytes.split_at_checked(end))
        .ok_or(damaged)?;
    let mut reader = Reader::new(body);
    if reader.take(4).ok() != Some(MAGIC) {
        return Err(damaged);
    }
    let version = reader.u32().map_err(|_| damaged)?;
    if version != VERSION {
        return Err(PowerOnError::Version(version));
    }
    if checksum(id, body) != sum {
        return Err(damaged);
    }
    T::decoded(reader.left()).ok_or(damaged)
}

/// The marker record.
#[must_use]
pub fn marker(stage: Stage) -> Change {
    Change::Put(
        id::MARKER,
        seal(id::MARKER, &u8::from(stage == Stage::Complete)),
    )
}

/// What is in the store.
pub enum Loaded {
    /// Nothing.
    Nothing,
    /// A manufacture that did not end.
    Interrupted,
    /// A TPM.
    State(alloc::boxed::Box<State>),
}

struct Records {
    all: BTreeMap<RecordId, RecordBytes>,
}

impl Records {
    fn take<T: Encode>(&mut self, id: RecordId) -> Result<T, PowerOnError> {
        open(id, &self.all.remove(&id).ok_or(PowerOnError::Damaged(id))?)
    }

    fn take_optional<T: Encode>(&mut self, id: RecordId) -> Result<Option<T>, PowerOnError> {
        self.all
            .remove(&id)
            .map(|bytes| open(id, &bytes))
            .transpose()
    }
}

/// The state that the records hold.
///
/// # Errors
/// `Damaged` with the number of the first record that is damaged, missing or unknown.
pub fn load(records: Vec<(RecordId, RecordBytes)>) -> Result<Loaded, PowerOnError> {
    let mut records = Records {
        all: records.into_iter().collect(),
    };
    if records.all.is_empty() {
        return Ok(Loaded::Nothing);
    }
    match records.take(id::MARKER)? {
        0u8 => return Ok(Loaded::Interrupted),
        1 => {}
        _ => return Err(PowerOnError::Damaged(id::MARKER)),
    }
    let boots: Boots = records.take(id::BOOTS)?;
    if boots.left > Shutdown::LAST {
        return Err(PowerOnError::Damaged(id::BOOTS));
    }
    let clear: Option<StateClear> = records.take_optional(id::STATE_CLEAR)?;
    let reset: Option<StateReset> = records.take_optional(id::STATE_RESET)?;
    let saved = Shutdown::is_saved(boots.left);
    let need = |there: bool, id| {
        if saved && !there {
            Err(PowerOnError::Damaged(id))
        } else {
            Ok(())
        }
    };
    need(clear.is_some(), id::STATE_CLEAR)?;
    need(reset.is_some(), id::STATE_RESET)?;
    let mut state = State {
        seeds: Arc::new(records.take::<Seeds>(id::SEEDS)?),
        ek_public: Arc::new(records.take(id::EK_PUBLIC)?),
        owners: Arc::new(records.take::<Owners>(id::OWNERS)?),
        boots: Arc::new(boots),
        da: Arc::new(records.take::<Da>(id::DA)?),
        settings: Arc::new(records.take::<Settings>(id::SETTINGS)?),
        nv: BTreeMap::new(),
        persistent: BTreeMap::new(),
        orderly: Arc::new(records.take::<Orderly>(id::ORDERLY)?),
        clear: Arc::new(clear.filter(|_| saved).unwrap_or_default()),
        reset: Arc::new(reset.filter(|_| saved).unwrap_or_default()),
        ram: Ram::default(),
    };
    for (id, bytes) in records.all {
        match ht::of(id) {
            ht::NV_INDEX => {
                let index: NvIndex = open(id, &bytes)?;
                if index.public.index != id {
                    return Err(PowerOnError::Damaged(id));
                }
                state.nv.insert(id, Arc::new(index));
            }
            ht::PERSISTENT => {
                state
                    .persistent
                    .insert(id, Arc::new(open::<Object>(id, &bytes)?));
            }
            _ => return Err(PowerOnError::Damaged(id)),
        }
    }
    Ok(Loaded::State(alloc::boxed::Box::new(state)))
}

fn put_changed<T: Encode>(changes: &mut Vec<Change>, id: RecordId, old: &Arc<T>, new: &Arc<T>) {
    if !Arc::ptr_eq(old, new) {
        changes.push(Change::Put(id, seal(id, &**new)));
    }
}

fn map_changed<T: Encode>(
    changes: &mut Vec<Change>,
    old: &BTreeMap<u32, Arc<T>>,
    new: &BTreeMap<u32, Arc<T>>,
) {
    for (id, value) in new {
        if old.get(id).is_none_or(|old| !Arc::ptr_eq(old, value)) {
            changes.push(Change::Put(*id, seal(*id, &**value)));
        }
    }
    changes.extend(
        old.keys()
            .filter(|id| !new.contains_key(id))
            .map(|id| Change::Remove(*id)),
    );
}

/// The records in which `new` differs from `old`.
#[must_use]
pub fn changes(old: &State, new: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    put_changed(&mut changes, id::SEEDS, &old.seeds, &new.seeds);
    put_changed(&mut changes, id::EK_PUBLIC, &old.ek_public, &new.ek_public);
    put_changed(&mut changes, id::OWNERS, &old.owners, &new.owners);
    put_changed(&mut changes, id::BOOTS, &old.boots, &new.boots);
    put_changed(&mut changes, id::DA, &old.da, &new.da);
    put_changed(&mut changes, id::SETTINGS, &old.settings, &new.settings);
    map_changed(&mut changes, &old.nv, &new.nv);
    map_changed(&mut changes, &old.persistent, &new.persistent);
    if new.ram.write_orderly {
        changes.push(Change::Put(id::ORDERLY, seal(id::ORDERLY, &*new.orderly)));
    }
    if new.ram.write_saved {
        changes.push(Change::Put(
            id::STATE_CLEAR,
            seal(id::STATE_CLEAR, &*new.clear),
        ));
        changes.push(Change::Put(
            id::STATE_RESET,
            seal(id::STATE_RESET, &*new.reset),
        ));
    }
    changes
}

/// All records of a TPM, the marker among them.
#[must_use]
pub fn all(state: &State) -> Vec<Change> {
    let mut changes = alloc::vec![
        Change::Put(id::SEEDS, seal(id::SEEDS, &*state.seeds)),
        Change::Put(id::EK_PUBLIC, seal(id::EK_PUBLIC, &*state.ek_public)),
        Change::Put(id::OWNERS, seal(id::OWNERS, &*state.owners)),
        Change::Put(id::BOOTS, seal(id::BOOTS, &*state.boots)),
        Change::Put(id::DA, seal(id::DA, &*state.da)),
        Change::Put(id::SETTINGS, seal(id::SETTINGS, &*state.settings)),
        Change::Put(id::ORDERLY, seal(id::ORDERLY, &*state.orderly)),
    ];
    map_changed(&mut changes, &BTreeMap::new(), &state.nv);
    map_changed(&mut changes, &BTreeMap::new(), &state.persistent);
    changes.push(marker(Stage::Complete));
    changes
}
