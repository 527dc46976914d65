//! Storage first, memory after.

use alloc::vec::Vec;

use super::{Backing, Entry, Service};
use crate::storage::{Change, Storage, StorageError};
use crate::variable::Variable;
use crate::{Status, bytes, record};

/// A step of a change.
#[derive(Debug)]
pub(super) enum Update {
    /// Create the variable or give it this content.
    Put(Variable),
    /// Remove the variable at this place.
    Remove(usize),
}

/// A step, worked out.
enum Step {
    Replace { place: usize, entry: Entry },
    Add(Entry),
    Remove(usize),
}

impl From<StorageError> for Status {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Device => Self::DEVICE_ERROR,
            StorageError::NoSpace | StorageError::OutOfMemory => Self::OUT_OF_RESOURCES,
        }
    }
}

/// Record of a step: index and new content, `None` to remove it.
type Write = (u32, Option<Vec<u8>>);

impl<S: Storage> Service<S> {
    /// Carries out all updates or none. What is the same already is not written.
    ///
    /// # Errors
    /// `EFI_DEVICE_ERROR` or `EFI_OUT_OF_RESOURCES`; nothing has changed then.
    pub(super) fn commit(&mut self, updates: Vec<Update>) -> Result<(), Status> {
        let mode = self.mode_after(&updates);
        let derived = if mode == self.mode {
            Vec::new()
        } else {
            self.derived(mode)?
        };

        let mut steps = bytes::with_capacity(updates.len())?;
        let mut writes = bytes::with_capacity(updates.len())?;
        for update in updates {
            self.plan(update, &mut steps, &mut writes)?;
        }
        self.entries
            .try_reserve(steps.len() + derived.len())
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        self.store(&writes)?;

        // From here on nothing can fail.
        for step in &mut steps {
            if let Step::Replace { place, entry } = step {
                core::mem::swap(&mut self.entries[*place], entry);
            }
        }
        let removed = |place| {
            steps
                .iter()
                .any(|step| matches!(step, Step::Remove(removed) if *removed == place))
        };
        let mut place = 0;
        self.entries.retain(|_| {
            place += 1;
            !removed(place - 1)
        });
        for step in steps {
            if let Step::Add(entry) = step {
                self.entries.push(entry);
            }
        }
        if mode != self.mode {
            self.mode = mode;
            self.place_derived(derived);
        }
        Ok(())
    }

    fn plan(
        &self,
        update: Update,
        steps: &mut Vec<Step>,
        writes: &mut Vec<Write>,
    ) -> Result<(), Status> {
        let variable = match update {
            Update::Remove(place) => {
                if let Some(Backing::Record(index)) =
                    self.entries.get(place).map(|entry| entry.backing)
                {
                    writes.push((index, None));
                }
                steps.push(Step::Remove(place));
                return Ok(());
            }
            Update::Put(variable) => variable,
        };
        let place = self.position(&variable.key);
        let there = place.map(|place| &self.entries[place]);
        let backing = match there.map(|entry| entry.backing) {
            Some(Backing::Record(index)) => Backing::Record(index),
            _ if variable.attributes.non_volatile() => Backing::Record(self.free_index(writes)),
            _ => Backing::Memory,
        };
        if there.is_some_and(|entry| entry.backing == backing && entry.variable == variable) {
            return Ok(());
        }
        if let Backing::Record(index) = backing {
            writes.push((index, Some(record::encode(&variable)?)));
        }
        let entry = Entry { variable, backing };
        steps.push(match place {
            Some(place) => Step::Replace { place, entry },
            None => Step::Add(entry),
        });
        Ok(())
    }

    fn store(&mut self, writes: &[Write]) -> Result<(), Status> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut changes = bytes::with_capacity(writes.len())?;
        changes.extend(writes.iter().map(|(index, record)| match record {
            Some(bytes) => Change::Put {
                index: *index,
                bytes,
            },
            None => Change::Remove { index: *index },
        }));
        self.storage.commit(&changes).map_err(|error| {
            log::error!("a UEFI variable could not be stored: {error}");
            self.unsettled = true;
            error.into()
        })
    }

    /// Waits for what became of a commit that failed. Until that is known no answer can say
    /// what is stored: not even that a value is there already.
    ///
    /// # Errors
    /// `EFI_DEVICE_ERROR` or `EFI_OUT_OF_RESOURCES`.
    pub(super) fn settle(&mut self) -> Result<(), Status> {
        if self.unsettled {
            self.storage.settle()?;
            self.unsettled = false;
        }
        Ok(())
    }

    /// An index that no record has: after the last one, so that the order of records is
    /// the order of creation. From 1 on.
    fn free_index(&self, writes: &[Write]) -> u32 {
        let used = || {
            let stored = self.entries.iter().filter_map(|entry| match entry.backing {
                Backing::Record(index) => Some(index),
                _ => None,
            });
            stored.chain(writes.iter().map(|(index, _)| *index))
        };
        match used().max().unwrap_or(0).checked_add(1) {
            Some(index) => index,
            // There are far fewer records than indices.
            None => (1..)
                .find(|index| used().all(|used| used != *index))
                .unwrap_or(1),
        }
    }
}
