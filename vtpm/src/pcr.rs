//! Platform configuration registers (Part 1, 17; PC Client Platform TPM Profile, 4.6).
//!
//! Always true: a PCR changes only through [`State::extend_pcr`], [`State::set_pcr`] and a startup, and
//! each change that a policy could have seen moves the PCR counter.

use alloc::vec::Vec;

use crate::{
    constants::{ht, limit, rh},
    crypto::{self, HashAlg},
    rc::{Rc, Result},
    state::{Bank, Pcrs, State, encoding::List},
    wire::structures::{PcrSelection, PcrSelections},
};

/// PCRs that `TPM2_Shutdown(STATE)` saves.
pub const SAVED: u32 = 0x0000_FFFF;
/// PCRs that each locality may extend.
pub const EXTEND: [u32; 5] = [0x81_FFFF, 0x91_FFFF, 0xFF_FFFF, 0x9F_FFFF, 0x87_FFFF];
/// PCRs that each locality may reset; locality 4 does so by a dynamic launch only.
pub const RESET: [u32; 5] = [0x81_0000, 0x81_0000, 0xF1_0000, 0x81_0000, 0x7E_0000];
/// PCRs whose changes do not move the PCR counter.
pub const NO_INCREMENT: u32 = 0xE1_0000;
/// PCRs that a dynamic launch resets; they start as all ones.
pub const DRTM_RESET: u32 = 0x7E_0000;
/// PCRs of the one policy group.
pub const POLICY: u32 = 0x70_0000;
/// PCRs of the one authorization group.
pub const AUTH: u32 = 0x70_0000;
/// All PCRs.
pub const ALL: u32 = 0xFF_FFFF;

const HCRTM_PCR: usize = 0;
const DRTM_PCR: usize = 17;

fn in_set(set: u32, handle: u32) -> bool {
    handle < 32 && set >> handle & 1 != 0
}

/// Can the PCR have an authorization value?
#[must_use]
pub fn has_auth(handle: u32) -> bool {
    in_set(AUTH, handle)
}

/// Can the PCR have a policy?
#[must_use]
pub fn has_policy(handle: u32) -> bool {
    in_set(POLICY, handle)
}

/// May this locality extend the PCR?
#[must_use]
pub fn may_extend(locality: u8, handle: u32) -> bool {
    EXTEND
        .get(usize::from(locality))
        .is_some_and(|set| in_set(*set, handle))
}

/// May this locality reset the PCR?
#[must_use]
pub fn may_reset(locality: u8, handle: u32) -> bool {
    locality < 4
        && RESET
            .get(usize::from(locality))
            .is_some_and(|set| in_set(*set, handle))
}

impl Bank {
    fn range(&self, pcr: usize) -> core::ops::Range<usize> {
        let size = self.hash.size();
        pcr * size..(pcr + 1) * size
    }

    /// The digest of an allocated PCR.
    #[must_use]
    pub fn digest(&self, pcr: usize) -> Option<&[u8]> {
        if pcr < limit::PCR_COUNT && self.pcrs >> pcr & 1 != 0 {
            self.digests.get(self.range(pcr))
        } else {
            None
        }
    }

    fn digest_mut(&mut self, pcr: usize) -> Option<&mut [u8]> {
        if pcr < limit::PCR_COUNT && self.pcrs >> pcr & 1 != 0 {
            let range = self.range(pcr);
            self.digests.get_mut(range)
        } else {
            None
        }
    }
}

impl Pcrs {
    /// The bank of `hash`.
    #[must_use]
    pub fn bank(&self, hash: HashAlg) -> Option<&Bank> {
        self.banks.0.iter().find(|bank| bank.hash == hash)
    }

    /// Are the PCRs that a shutdown saves the same?
    #[must_use]
    pub fn resume_like(&self, other: &Self) -> bool {
        let saved = |bank: &Bank| {
            let size = SAVED.count_ones() as usize * bank.hash.size();
            (
                bank.hash,
                bank.pcrs,
                bank.digests.get(..size).map(<[u8]>::to_vec),
            )
        };
        self.banks
            .0
            .iter()
            .map(saved)
            .eq(other.banks.0.iter().map(saved))
    }
}

impl State {
    /// Extends an allocated PCR with a digest, and counts that; does nothing in a bank without
    /// the PCR.
    pub fn extend_pcr(&mut self, handle: u32, hash: HashAlg, digest: &[u8]) {
        let pcr = handle as usize;
        let bank = self
            .pcrs_mut()
            .banks
            .0
            .iter_mut()
            .find(|bank| bank.hash == hash);
        if let Some(old) = bank.and_then(|bank| bank.digest_mut(pcr)) {
            let new = crypto::hash(hash, &[old, digest]);
            old.copy_from_slice(&new);
            self.pcr_changed(handle);
        }
    }

    /// Counts a change of the PCR.
    pub fn pcr_changed(&mut self, handle: u32) {
        if !in_set(NO_INCREMENT, handle) {
            let reset = self.reset_mut();
            reset.pcr_counter = reset.pcr_counter.wrapping_add(1);
        }
    }

    /// Sets a PCR of every bank to `fill` in all bytes, and `last` in the last one.
    pub fn set_pcr(&mut self, handle: u32, fill: u8, last: u8) {
        for bank in &mut self.pcrs_mut().banks.0 {
            if let Some(digest) = bank.digest_mut(handle as usize) {
                digest.fill(fill);
                if let Some(byte) = digest.last_mut() {
                    *byte = last;
                }
            }
        }
    }

    /// The allocated PCRs of each bank.
    #[must_use]
    pub fn pcr_allocation(&self) -> PcrSelections {
        let banks = &self.ram.pcrs.banks.0;
        PcrSelections(
            banks
                .iter()
                .map(|bank| PcrSelection {
                    hash: bank.hash,
                    pcrs: bank.pcrs,
                })
                .collect(),
        )
    }

    /// Selected PCRs that are allocated.
    #[must_use]
    pub fn filter_selection(&self, selections: &PcrSelections) -> PcrSelections {
        let one = |selection: &PcrSelection| PcrSelection {
            hash: selection.hash,
            pcrs: selection.pcrs
                & self
                    .ram
                    .pcrs
                    .bank(selection.hash)
                    .map_or(0, |bank| bank.pcrs),
        };
        PcrSelections(selections.0.iter().map(one).collect())
    }

    /// The digests of a filtered selection, in its order.
    pub fn selected_pcrs<'a>(
        &'a self,
        selections: &'a PcrSelections,
    ) -> impl Iterator<Item = &'a [u8]> {
        selections.0.iter().flat_map(move |selection| {
            let bank = self.ram.pcrs.bank(selection.hash);
            (0..limit::PCR_COUNT)
                .filter(|pcr| selection.has(*pcr))
                .filter_map(move |pcr| bank.and_then(|bank| bank.digest(pcr)))
        })
    }

    /// Digest over the selected PCRs (Part 1, 17.6), and the selection as far as it is allocated.
    #[must_use]
    pub fn pcr_digest(
        &self,
        hash: HashAlg,
        selections: &PcrSelections,
    ) -> (PcrSelections, Vec<u8>) {
        let filtered = self.filter_selection(selections);
        let parts: Vec<&[u8]> = self.selected_pcrs(&filtered).collect();
        let digest = crypto::hash(hash, &parts);
        (filtered, digest)
    }

    /// Sets all PCRs as a startup does.
    pub fn start_pcrs(&mut self, resume: bool, locality: u8) {
        let saved = self.clear.pcrs.clone().filter(|_| resume);
        let hcrtm = if self.ram.hcrtm {
            Some((*self.ram.pcrs).clone())
        } else {
            None
        };
        let allocation = self.settings.allocation;
        let mut banks = Vec::new();
        for (hash, pcrs) in HashAlg::ALL.iter().zip(allocation) {
            let mut bank = Bank {
                hash: *hash,
                pcrs,
                digests: alloc::vec![0; hash.size() * limit::PCR_COUNT],
            };
            for pcr in 0..limit::PCR_COUNT {
                let old = saved
                    .as_ref()
                    .filter(|_| in_set(SAVED, pcr as u32))
                    .and_then(|saved| saved.bank(*hash)?.digest(pcr));
                let measured = hcrtm
                    .as_ref()
                    .filter(|_| pcr == HCRTM_PCR)
                    .and_then(|pcrs| pcrs.bank(*hash)?.digest(pcr));
                let Some(digest) = bank.digest_mut(pcr) else {
                    continue;
                };
                if let Some(old) = old.or(measured).filter(|old| old.len() == digest.len()) {
                    digest.copy_from_slice(old);
                } else if in_set(DRTM_RESET, pcr as u32) {
                    digest.fill(0xFF);
                } else if pcr == HCRTM_PCR
                    && let Some(last) = digest.last_mut()
                {
                    *last = locality;
                }
            }
            banks.push(bank);
        }
        *self.pcrs_mut() = Pcrs { banks: List(banks) };
        self.ram.reallocated = false;
        let set = if resume { !SAVED } else { ALL };
        let reset = self.reset_mut();
        let counted = (set & ALL & !NO_INCREMENT).count_ones();
        reset.pcr_counter = reset.pcr_counter.wrapping_add(counted);
    }

    /// Ends a measurement of locality 4: into PCR 0 before startup, else PCR 17.
    pub fn finish_drtm(&mut self, digests: &[(HashAlg, Vec<u8>)]) {
        if self.ram.started {
            for pcr in DRTM_PCR..limit::PCR_COUNT - 1 {
                self.set_pcr(pcr as u32, 0, 0);
            }
            for (hash, digest) in digests {
                self.extend_pcr(DRTM_PCR as u32, *hash, digest);
            }
            // A dynamic launch counts as a restart (Part 1, 36.4).
            let reset = self.reset_mut();
            reset.restarts = reset.restarts.wrapping_add(1);
        } else {
            self.ram.hcrtm = false;
            self.start_pcrs(false, 4);
            for (hash, digest) in digests {
                self.extend_pcr(HCRTM_PCR as u32, *hash, digest);
            }
            self.ram.hcrtm = true;
        }
    }
}

/// The PCR a command may extend, `None` for `TPM_RH_NULL`.
///
/// # Errors
/// `TPM_RC_LOCALITY` when its locality may not.
pub fn extendable(handle: u32, locality: u8) -> Result<Option<u32>> {
    if handle == rh::NULL || ht::of(handle) != ht::PCR {
        return Ok(None);
    }
    if may_extend(locality, handle) {
        Ok(Some(handle))
    } else {
        Err(Rc::LOCALITY)
    }
}
