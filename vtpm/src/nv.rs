//! NV indices (Part 1, 37; Part 3, 31).
//!
//! Always true: an ordinary index changes only together with its record. An orderly index
//! changes in RAM and its record follows at shutdown; a counter's record is moved on before
//! its RAM copy passes the next multiple of 256, so that no value is ever shown twice.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    constants::{limit, nva, rh},
    context::Context,
    crypto::Bytes,
    rc::{Rc, Result, ensure},
    state::{NvIndex, State},
};

/// Orderly counters pass this many values between writes of their record.
pub const ORDERLY_STEP: u64 = 1 << limit::ORDERLY_BITS;

/// `pinCount` and `pinLimit` of a written PIN index.
#[must_use]
pub fn pin(index: &NvIndex) -> Option<(u32, u32)> {
    let mut reader = crate::wire::Reader::new(&index.data);
    Some((reader.u32().ok()?, reader.u32().ok()?))
}

/// May the authorization value of the PIN index still be tried?
#[must_use]
pub fn pin_is_open(index: &NvIndex) -> bool {
    index.public.has(nva::WRITTEN) && pin(index).is_some_and(|(count, limit)| count < limit)
}

/// Counts the use of a PIN index after a right or wrong password.
pub fn count_pin(state: &mut State, handle: u32, right: bool) {
    let Some(index) = state.nv_index(handle) else {
        return;
    };
    let Some((count, _)) = pin(index) else { return };
    let count = match (index.public.kind(), right) {
        (nva::NT_PIN_FAIL, true) => 0,
        (nva::NT_PIN_FAIL, false) | (nva::NT_PIN_PASS, true) => count.saturating_add(1),
        _ => return,
    };
    state.change_nv(handle, |index| {
        if let Some(bytes) = index.data.get_mut(..4) {
            bytes.copy_from_slice(&count.to_be_bytes());
        }
    });
}

/// The value of a counter or bit field.
#[must_use]
pub fn number(index: &NvIndex) -> u64 {
    index
        .data
        .get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

impl State {
    /// Changes an index where it lives: in its record, or in RAM if it is orderly.
    pub fn change_nv(&mut self, handle: u32, change: impl FnOnce(&mut NvIndex)) {
        let index = match self.ram.orderly_nv.get_mut(&handle) {
            Some(index) => Some(index),
            None => self.nv.get_mut(&handle),
        };
        if let Some(index) = index {
            change(Arc::make_mut(index));
        }
    }

    /// Writes the RAM copy of an orderly index to its record.
    pub fn flush_nv(&mut self, handle: u32) {
        if let Some(copy) = self.ram.orderly_nv.get(&handle) {
            self.nv.insert(handle, copy.clone());
        }
    }

    /// Removes an index; a counter's value is remembered for the next one.
    pub fn remove_nv(&mut self, handle: u32) {
        if let Some(index) = self.nv_index(handle)
            && index.public.kind() == nva::NT_COUNTER
            && index.public.has(nva::WRITTEN)
            && number(index) > self.boots.max_counter
        {
            let value = number(index);
            self.boots_mut().max_counter = value;
        }
        self.nv.remove(&handle);
        self.ram.orderly_nv.remove(&handle);
    }

    /// Bytes of NV memory in use, as the budget counts them.
    #[must_use]
    pub fn nv_used(&self) -> usize {
        let indices = self
            .nv
            .values()
            .map(|index| 64 + usize::from(index.public.size) + index.auth.len());
        indices.sum::<usize>() + self.persistent.len() * 1536
    }

    /// Bytes of RAM that the orderly indices use, as their budget counts them.
    #[must_use]
    pub fn orderly_used(&self) -> usize {
        self.ram
            .orderly_nv
            .values()
            .map(|index| 12 + usize::from(index.public.size))
            .sum()
    }

    /// Puts the locks and the written state of all indices as a startup does, and the orderly
    /// ones into RAM.
    pub fn start_nv(&mut self, reset: bool, resume: bool, orderly: bool) {
        let handles: Vec<u32> = self.nv.keys().copied().collect();
        for handle in handles {
            let Some(index) = self.nv.get(&handle) else {
                continue;
            };
            let mut copy = (**index).clone();
            let counter = copy.public.kind() == nva::NT_COUNTER;
            if !resume {
                copy.public.attributes &= !nva::READLOCKED;
                let forgets = copy.public.has(nva::CLEAR_STCLEAR) || (reset && copy.is_orderly());
                if forgets && !counter {
                    copy.public.attributes &= !nva::WRITTEN;
                    copy.data = Bytes::default();
                }
                if !copy.public.has(nva::WRITTEN) || !copy.public.has(nva::WRITEDEFINE) {
                    copy.public.attributes &= !nva::WRITELOCKED;
                }
            }
            if copy.is_orderly() {
                if !orderly && counter && copy.public.has(nva::WRITTEN) {
                    let value = number(&copy) | (ORDERLY_STEP - 1);
                    copy.data = Bytes::new(value.to_be_bytes().to_vec());
                }
                self.ram.orderly_nv.insert(handle, Arc::new(copy));
            } else if copy.public.attributes != index.public.attributes {
                self.nv.insert(handle, Arc::new(copy));
            }
        }
    }
}

/// Checks that the authorization handle may read the index (Part 3, 31.1).
///
/// # Errors
/// `TPM_RC_NV_AUTHORIZATION`, `TPM_RC_NV_LOCKED`, `TPM_RC_NV_UNINITIALIZED`
pub fn check_read<'a>(context: &'a Context<'_>, auth: u32, handle: u32) -> Result<&'a NvIndex> {
    let index = context.state.nv_index(handle).ok_or(Rc::HANDLE)?;
    ensure(!index.public.has(nva::READLOCKED), Rc::NV_LOCKED)?;
    let allowed = match auth {
        rh::OWNER => index.public.has(nva::OWNERREAD),
        rh::PLATFORM => index.public.has(nva::PPREAD),
        _ => auth == handle,
    };
    ensure(allowed, Rc::NV_AUTHORIZATION)?;
    ensure(index.public.has(nva::WRITTEN), Rc::NV_UNINITIALIZED)?;
    Ok(index)
}

/// Checks that the authorization handle may write the index.
///
/// # Errors
/// `TPM_RC_NV_AUTHORIZATION`, `TPM_RC_NV_LOCKED`
pub fn check_write(context: &Context<'_>, auth: u32, handle: u32) -> Result<NvIndex> {
    let index = context.state.nv_index(handle).ok_or(Rc::HANDLE)?;
    ensure(!index.public.has(nva::WRITELOCKED), Rc::NV_LOCKED)?;
    let allowed = match auth {
        rh::OWNER => index.public.has(nva::OWNERWRITE),
        rh::PLATFORM => index.public.has(nva::PPWRITE),
        _ => auth == handle,
    };
    ensure(allowed, Rc::NV_AUTHORIZATION)?;
    Ok(index.clone())
}

/// `size` bytes at `offset` of an index.
///
/// # Errors
/// `TPM_RC_NV_RANGE`
pub fn slice(index: &NvIndex, offset: u16, size: u16) -> Result<&[u8]> {
    let offset = usize::from(offset);
    index
        .data
        .get(offset..)
        .and_then(|data| data.get(..usize::from(size)))
        .ok_or(Rc::NV_RANGE)
}

/// Stores new data and marks the index as written.
pub fn store(state: &mut State, handle: u32, data: Bytes) {
    state.change_nv(handle, |index| {
        index.data = data;
        index.public.attributes |= nva::WRITTEN;
    });
}
