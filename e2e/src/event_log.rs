//! The log of a measured boot (TCG PC Client Platform Firmware Profile 1.05, section 10): what
//! was extended into which PCR, and why.

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

/// EV_NO_ACTION: in the log only.
const NO_ACTION: u32 = 3;
/// EV_SEPARATOR.
pub const SEPARATOR: u32 = 4;
/// EV_EFI_VARIABLE_DRIVER_CONFIG: the variables of Secure Boot.
pub const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_ACTION.
pub const ACTION: u32 = 0x8000_0007;

const TPM_ALG_SHA256: u16 = 0x000B;
/// Bounds of what is believed of a log.
const MOST_ALGORITHMS: u32 = 16;

/// The PCRs there are.
pub const PCRS: usize = 24;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// One entry that was extended.
#[derive(Clone, Debug)]
pub struct Event {
    /// Into which PCR.
    pub pcr: u32,
    /// Its EV_ number.
    pub kind: u32,
    /// What was extended into the SHA-256 bank.
    pub digest: Digest,
    /// What it is about. For some kinds the digest is that of this.
    pub data: Vec<u8>,
}

/// The SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The events of a log in the crypto agile format, in order.
pub fn parse(log: &[u8]) -> Result<Vec<Event>> {
    let mut log = Reader(log);
    // TCG_PCClientPCREvent with TCG_EfiSpecIDEvent: a PCR, a kind, a SHA-1 digest.
    ensure!(log.u32()? == 0 && log.u32()? == NO_ACTION, "another header");
    log.take(20)?;
    let size = log.u32()?;
    let mut header = Reader(log.take(size as usize)?);
    ensure!(header.take(16)? == b"Spec ID Event03\0", "another version");
    // Platform class, version, size of UINTN.
    header.take(8)?;
    let count = header.u32()?;
    ensure!(count <= MOST_ALGORITHMS, "{count} algorithms");
    let sizes = (0..count)
        .map(|_| Ok((header.u16()?, usize::from(header.u16()?))))
        .collect::<Result<Vec<_>>>()?;
    let mut events = Vec::new();
    while !log.0.is_empty() {
        let (pcr, kind, digests) = (log.u32()?, log.u32()?, log.u32()?);
        ensure!(digests <= MOST_ALGORITHMS, "{digests} digests");
        let mut digest = None;
        for _ in 0..digests {
            let algorithm = log.u16()?;
            let (_, size) = sizes
                .iter()
                .find(|(known, _)| *known == algorithm)
                .context("a digest of an algorithm that the header does not have")?;
            let found = log.take(*size)?;
            if algorithm == TPM_ALG_SHA256 {
                digest = Some(found.try_into()?);
            }
        }
        let size = log.u32()?;
        let data = log.take(size as usize)?.to_vec();
        if kind != NO_ACTION {
            ensure!((pcr as usize) < PCRS, "PCR {pcr}");
            let digest = digest.context("no SHA-256 digest")?;
            events.push(Event {
                pcr,
                kind,
                digest,
                data,
            });
        }
    }
    Ok(events)
}

/// The PCRs of the SHA-256 bank after `events`, from a start at locality 0.
pub fn replay(events: &[Event]) -> [Digest; PCRS] {
    let mut pcrs = [[0; 32]; PCRS];
    // For dynamic launches.
    pcrs[17..=22].fill([0xff; 32]);
    for event in events {
        let pcr = &mut pcrs[event.pcr as usize];
        *pcr = sha256(&[*pcr, event.digest].concat());
    }
    pcrs
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context("the log ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }
}
