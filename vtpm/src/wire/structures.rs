//! Smaller structures: PCR selections, NV publics, tickets, clock, contexts (Part 2, 10, 13, 14).

use alloc::vec::Vec;

use super::{Marshal, Put, Reader, Unmarshal, algorithms};
use crate::{
    constants::{alg, ht, limit, nva, rh, st},
    crypto::{self, HashAlg},
    rc::{Rc, Result},
};

/// `TPMS_PCR_SELECTION`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcrSelection {
    /// The bank.
    pub hash: HashAlg,
    /// Bit n selects PCR n.
    pub pcrs: u32,
}

impl PcrSelection {
    /// Is PCR `index` selected?
    #[must_use]
    pub fn has(&self, index: usize) -> bool {
        index < 32 && self.pcrs >> index & 1 != 0
    }
}

impl Unmarshal for PcrSelection {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let hash = algorithms::hash(reader)?;
        if usize::from(reader.u8()?) != limit::PCR_SELECT {
            return Err(Rc::VALUE);
        }
        let bits = reader.take(limit::PCR_SELECT)?;
        let pcrs = bits
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u32::from(*byte));
        Ok(Self { hash, pcrs })
    }
}

impl Marshal for PcrSelection {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.hash.id());
        out.put(&(limit::PCR_SELECT as u8));
        out.raw(
            self.pcrs
                .to_le_bytes()
                .get(..limit::PCR_SELECT)
                .unwrap_or_default(),
        );
    }
}

/// `TPML_PCR_SELECTION`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PcrSelections(pub Vec<PcrSelection>);

impl Unmarshal for PcrSelections {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let count = reader.u32()? as usize;
        if count > limit::BANKS {
            return Err(Rc::SIZE);
        }
        (0..count)
            .map(|_| PcrSelection::unmarshal(reader))
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl Marshal for PcrSelections {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&(self.0.len() as u32));
        for selection in &self.0 {
            out.put(selection);
        }
    }
}

/// `TPML_DIGEST_VALUES`
pub struct DigestValues(pub Vec<(HashAlg, Vec<u8>)>);

impl Unmarshal for DigestValues {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let count = reader.u32()? as usize;
        if count > limit::BANKS {
            return Err(Rc::SIZE);
        }
        let one = |_| {
            let hash = algorithms::hash(reader)?;
            Ok((hash, reader.take(hash.size())?.to_vec()))
        };
        (0..count).map(one).collect::<Result<_>>().map(Self)
    }
}

/// `TPML_DIGEST` with `min` to 8 digests.
pub fn digests(reader: &mut Reader<'_>, min: usize) -> Result<Vec<Vec<u8>>> {
    let count = reader.u32()? as usize;
    if count < min || count > limit::POLICY_OR {
        return Err(Rc::SIZE);
    }
    (0..count)
        .map(|_| reader.sized_vec(limit::DIGEST))
        .collect()
}

/// `TPML_CC`: at most as many as a capability buffer holds.
pub fn command_codes(reader: &mut Reader<'_>) -> Result<Vec<u32>> {
    let count = reader.u32()? as usize;
    if count > (limit::CAP_BUFFER - 8) / 4 {
        return Err(Rc::SIZE);
    }
    (0..count).map(|_| reader.u32()).collect()
}

/// `TPML_ALG`
pub fn algorithms_list(reader: &mut Reader<'_>) -> Result<Vec<u16>> {
    let count = reader.u32()? as usize;
    if count > 64 {
        return Err(Rc::SIZE);
    }
    (0..count).map(|_| reader.u16()).collect()
}

/// `TPMS_NV_PUBLIC`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NvPublic {
    /// Handle of the index.
    pub index: u32,
    /// Hash of the name, and of the data of an extend index.
    pub name_alg: HashAlg,
    /// `TPMA_NV`, see [`nva`].
    pub attributes: u32,
    /// Policy digest, or empty.
    pub policy: Vec<u8>,
    /// Bytes of data.
    pub size: u16,
}

impl NvPublic {
    /// Are all of `bits` set?
    #[must_use]
    pub fn has(&self, bits: u32) -> bool {
        self.attributes & bits == bits
    }

    /// `TPM_NT` of the index.
    #[must_use]
    pub fn kind(&self) -> u32 {
        (self.attributes & nva::TYPE_MASK) >> nva::TYPE_SHIFT
    }

    /// The name of the index, which changes with its attributes (Part 1, 16).
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let mut name = self.name_alg.id().to_be_bytes().to_vec();
        name.extend_from_slice(&crypto::hash(self.name_alg, &[&self.to_bytes()]));
        name
    }
}

impl Unmarshal for NvPublic {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let index = reader.u32()?;
        if ht::of(index) != ht::NV_INDEX {
            return Err(Rc::VALUE);
        }
        let name_alg = algorithms::hash(reader)?;
        let attributes = reader.u32()?;
        if attributes & nva::RESERVED != 0 {
            return Err(Rc::RESERVED_BITS);
        }
        let policy = reader.sized_vec(limit::DIGEST)?;
        let size = reader.u16()?;
        if usize::from(size) > limit::NV_INDEX {
            return Err(Rc::SIZE);
        }
        Ok(Self {
            index,
            name_alg,
            attributes,
            policy,
            size,
        })
    }
}

impl Marshal for NvPublic {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.index);
        out.put(&self.name_alg.id());
        out.put(&self.attributes);
        out.sized(&self.policy);
        out.put(&self.size);
    }
}

/// `TPMS_CLOCK_INFO`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockInfo {
    /// Milliseconds the TPM was powered, over all its life.
    pub clock: u64,
    /// Number of TPM Resets.
    pub reset_count: u32,
    /// Number of restarts and resumes since the last reset.
    pub restart_count: u32,
    /// No value of the clock was ever reported higher than this one.
    pub safe: bool,
}

impl Marshal for ClockInfo {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.clock);
        out.put(&self.reset_count);
        out.put(&self.restart_count);
        out.put(&u8::from(self.safe));
    }
}

/// A ticket: proof that this TPM saw something (Part 2, 10.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// What it proves.
    pub tag: u16,
    /// Whose proof value made it.
    pub hierarchy: u32,
    /// HMAC; empty for a null ticket.
    pub digest: Vec<u8>,
}

impl Ticket {
    /// The null ticket of `tag`.
    #[must_use]
    pub fn null(tag: u16) -> Self {
        Self {
            tag,
            hierarchy: rh::NULL,
            digest: Vec::new(),
        }
    }

    /// A ticket with one of `tags`, else `TPM_RC_TAG`.
    pub fn read(reader: &mut Reader<'_>, tags: &[u16]) -> Result<Self> {
        let tag = reader.u16()?;
        if !tags.contains(&tag) {
            return Err(if st::is_known(tag) {
                Rc::TAG
            } else {
                Rc::VALUE
            });
        }
        let hierarchy = hierarchy_or_null(reader)?;
        Ok(Self {
            tag,
            hierarchy,
            digest: reader.sized_vec(limit::DIGEST)?,
        })
    }

    /// `TPMT_TK_CREATION`
    pub fn creation(reader: &mut Reader<'_>) -> Result<Self> {
        Self::read(reader, &[st::CREATION])
    }
    /// `TPMT_TK_VERIFIED`
    pub fn verified(reader: &mut Reader<'_>) -> Result<Self> {
        Self::read(reader, &[st::VERIFIED])
    }
    /// `TPMT_TK_HASHCHECK`
    pub fn hash_check(reader: &mut Reader<'_>) -> Result<Self> {
        Self::read(reader, &[st::HASHCHECK])
    }
    /// `TPMT_TK_AUTH`
    pub fn auth(reader: &mut Reader<'_>) -> Result<Self> {
        Self::read(reader, &[st::AUTH_SIGNED, st::AUTH_SECRET])
    }
}

impl Marshal for Ticket {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.tag);
        out.put(&self.hierarchy);
        out.sized(&self.digest);
    }
}

/// `TPMI_RH_HIERARCHY+`
pub fn hierarchy_or_null(reader: &mut Reader<'_>) -> Result<u32> {
    match reader.u32()? {
        hierarchy @ (rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::NULL) => Ok(hierarchy),
        _ => Err(Rc::VALUE),
    }
}

/// `TPMS_CONTEXT`
pub struct SavedContext {
    /// Number of the context; orders contexts of one TPM.
    pub sequence: u64,
    /// Handle of the saved session, or 0x80000000 to 2 for the kinds of object.
    pub handle: u32,
    /// Hierarchy whose proof protects it.
    pub hierarchy: u32,
    /// Integrity and encrypted contents.
    pub blob: Vec<u8>,
}

impl Unmarshal for SavedContext {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let sequence = reader.u64()?;
        let handle = reader.u32()?;
        let known = match ht::of(handle) {
            ht::HMAC_SESSION | ht::POLICY_SESSION => {
                (handle & 0x00FF_FFFF) < limit::ACTIVE_SESSIONS as u32
            }
            ht::TRANSIENT => handle <= rh::TRANSIENT_FIRST + 2,
            _ => false,
        };
        if !known {
            return Err(Rc::VALUE);
        }
        let hierarchy = hierarchy_or_null(reader)?;
        Ok(Self {
            sequence,
            handle,
            hierarchy,
            blob: reader.sized_vec(limit::CONTEXT)?,
        })
    }
}

impl Marshal for SavedContext {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.sequence);
        out.put(&self.handle);
        out.put(&self.hierarchy);
        out.sized(&self.blob);
    }
}

/// `TPMI_ALG_CIPHER_MODE+`
pub fn cipher_mode(reader: &mut Reader<'_>) -> Result<u16> {
    algorithms::mode_or_null(reader)
}

/// `TPM_ALG_ID` that is only compared.
pub const ALG_NULL: u16 = alg::NULL;
