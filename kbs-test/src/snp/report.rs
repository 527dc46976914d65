//! An SEV-SNP attestation report: the fields that decide over the secret.
//!
//! Layout: ATTESTATION_REPORT, SEV-SNP Firmware ABI Specification (AMD 56860), section 7.3. Fields are
//! read from the raw bytes, which are also what the signature covers; [`super::chain`] verifies it.

use thiserror::Error;

use crate::claims::Tcb;
use crate::config::Measurement;

/// Size of a report in bytes.
pub const REPORT_SIZE: usize = 0x4a0;

/// Report versions whose layout is known.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;

/// POLICY bit 16: the host may run the guest's vCPUs on sibling threads.
const POLICY_SMT: u64 = 1 << 16;

/// POLICY bit 17, which every genuine report has set.
const POLICY_RESERVED_ONE: u64 = 1 << 17;

/// POLICY bit 18: a migration agent may export the guest.
const POLICY_MIGRATE_MA: u64 = 1 << 18;

/// POLICY bit 19: the host may debug, that is read, the guest.
const POLICY_DEBUG: u64 = 1 << 19;

/// KEY_INFO bit 1: the report is not signed.
const KEY_INFO_MASK_CHIP_KEY: u32 = 1 << 1;

/// KEY_INFO bits 4:2: which key signs; 0 is the VCEK.
const KEY_INFO_SIGNING_KEY: u32 = 0b111 << 2;

/// How many bytes the signature covers.
pub const SIGNED_SIZE: usize = 0x2a0;

/// ECDSA P-384 with SHA-384.
const SIG_ALGO_ECDSA_P384: u32 = 1;

/// Why a report is refused before its signature matters.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReportError {
    /// Not a report.
    #[error("the report has {0} bytes, not {REPORT_SIZE}")]
    Size(usize),
    /// A layout this code does not know.
    #[error("report version {0} is not supported, only 2 to 5 are")]
    Version(u32),
    /// Unknown signature algorithm.
    #[error("signature algorithm {0} of the report is not supported")]
    SignatureAlgorithm(u32),
    /// Signed by another key than the chip's own, or not at all.
    #[error("the report is not signed by a VCEK (key information {0:#x}): VLEK is not supported")]
    SigningKey(u32),
    /// A CPU whose firmware versions this code cannot read.
    #[error("CPU family {0:#x} is not supported, only 0x19 (Milan, Genoa) and 0x1a (Turin) are")]
    Cpu(u8),
    /// Requested by software less privileged than the SVSM.
    #[error("the report was requested from VMPL {0}, not from VMPL 0")]
    Vmpl(u32),
    /// A guest the host can look into.
    #[error("the guest policy {0:#x} allows debugging")]
    Debug(u64),
    /// A guest that another may take over.
    #[error("the guest policy {0:#x} allows a migration agent")]
    Migration(u64),
    /// A bit that must be one is zero.
    #[error("the guest policy {0:#x} is not valid")]
    Policy(u64),
}

/// The parts of a report that are compared with what the server expects.
#[derive(Debug)]
pub struct Report {
    /// REPORT_DATA, chosen by the guest.
    pub report_data: [u8; 64],
    /// MEASUREMENT, the launch digest.
    pub measurement: Measurement,
    /// POLICY bit 16.
    pub policy_allows_smt: bool,
    /// REPORTED_TCB.
    pub tcb: Tcb,
    /// CHIP_ID.
    pub chip_id: [u8; 64],
    /// Whose layout of TCB_VERSION the report follows.
    pub generation: Generation,
}

/// Generations of CPUs by their layout of TCB_VERSION (AMD 56860, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Milan and Genoa, family 0x19.
    Milan,
    /// Turin, family 0x1a: with an FMC, and chip ids of 8 bytes.
    Turin,
}

impl Generation {
    /// TCB_VERSION as it stands in a report.
    pub fn tcb(self, raw: [u8; 8]) -> Tcb {
        match self {
            Self::Milan => Tcb {
                fmc: 0,
                bootloader: raw[0],
                tee: raw[1],
                snp: raw[6],
                microcode: raw[7],
            },
            Self::Turin => Tcb {
                fmc: raw[0],
                bootloader: raw[1],
                tee: raw[2],
                snp: raw[3],
                microcode: raw[7],
            },
        }
    }
}

impl Report {
    /// Reads a raw report and checks everything in it that does not depend on the session.
    pub fn parse(raw: &[u8]) -> Result<Self, ReportError> {
        let raw: &[u8; REPORT_SIZE] = raw.try_into().map_err(|_| ReportError::Size(raw.len()))?;
        let version = u32::from_le_bytes(field(raw, 0));
        if !VERSIONS.contains(&version) {
            return Err(ReportError::Version(version));
        }
        let policy = u64::from_le_bytes(field(raw, 0x08));
        if policy & POLICY_RESERVED_ONE == 0 {
            return Err(ReportError::Policy(policy));
        }
        if policy & POLICY_DEBUG != 0 {
            return Err(ReportError::Debug(policy));
        }
        if policy & POLICY_MIGRATE_MA != 0 {
            return Err(ReportError::Migration(policy));
        }
        let vmpl = u32::from_le_bytes(field(raw, 0x30));
        if vmpl != 0 {
            return Err(ReportError::Vmpl(vmpl));
        }
        let algorithm = u32::from_le_bytes(field(raw, 0x34));
        if algorithm != SIG_ALGO_ECDSA_P384 {
            return Err(ReportError::SignatureAlgorithm(algorithm));
        }
        let key_info = u32::from_le_bytes(field(raw, 0x48));
        if key_info & (KEY_INFO_MASK_CHIP_KEY | KEY_INFO_SIGNING_KEY) != 0 {
            return Err(ReportError::SigningKey(key_info));
        }
        let chip_id: [u8; 64] = field(raw, 0x1a0);
        let generation = match (version, raw[0x188]) {
            // Version 2 does not name the CPU; only Turin's chip ids are this short.
            (2, _) if chip_id[8..].iter().all(|&b| b == 0) && chip_id != [0; 64] => {
                Generation::Turin
            }
            (2, _) | (_, 0x19) => Generation::Milan,
            (_, 0x1a) => Generation::Turin,
            (_, family) => return Err(ReportError::Cpu(family)),
        };
        Ok(Self {
            report_data: field(raw, 0x50),
            measurement: Measurement(field(raw, 0x90)),
            policy_allows_smt: policy & POLICY_SMT != 0,
            tcb: generation.tcb(field(raw, 0x180)),
            chip_id,
            generation,
        })
    }
}

/// `N` bytes at `offset`; every caller's range is inside the report.
pub(super) fn field<const N: usize>(raw: &[u8; REPORT_SIZE], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| raw[offset + i])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn raw_report(report_data: &[u8; 64], measurement: &[u8; 48]) -> Vec<u8> {
        let mut raw = vec![0; REPORT_SIZE];
        raw[0] = 3;
        raw[0x08..0x10].copy_from_slice(&0x3_0000u64.to_le_bytes());
        raw[0x34] = 1;
        raw[0x180..0x188].copy_from_slice(&[3, 0, 0, 0, 0, 0, 8, 115]);
        raw[0x188] = 0x19;
        raw[0x1a0..0x1e0].copy_from_slice(&std::array::from_fn::<u8, 64, _>(|i| i as u8));
        raw[0x50..0x90].copy_from_slice(report_data);
        raw[0x90..0xc0].copy_from_slice(measurement);
        raw
    }

    fn changed(offset: usize, value: u8) -> ReportError {
        let mut raw = raw_report(&[1; 64], &[2; 48]);
        raw[offset] = value;
        Report::parse(&raw).unwrap_err()
    }

    #[test]
    fn fields_are_read_from_their_offsets() {
        let mut raw = raw_report(&[1; 64], &[2; 48]);
        (raw[0x4f], raw[0xc0]) = (0xee, 0xee);
        let report = Report::parse(&raw).unwrap();
        assert_eq!(report.report_data, [1; 64]);
        assert_eq!(report.measurement, Measurement([2; 48]));
    }

    #[test]
    fn report_of_another_size_is_refused() {
        for size in [0, 1183, 1185] {
            let e = Report::parse(&vec![0; size]).unwrap_err();
            assert_eq!(e, ReportError::Size(size));
        }
    }

    #[test]
    fn unknown_version_or_algorithm_is_refused() {
        assert_eq!(changed(0, 1), ReportError::Version(1));
        assert_eq!(changed(0, 6), ReportError::Version(6));
        assert_eq!(changed(0x34, 0), ReportError::SignatureAlgorithm(0));
    }

    #[test]
    fn debuggable_guest_is_refused() {
        assert_eq!(changed(0x0a, 0x0b), ReportError::Debug(0xb_0000));
        assert_eq!(changed(0x0a, 0x01), ReportError::Policy(0x1_0000));
    }

    #[test]
    fn guest_with_a_migration_agent_is_refused() {
        assert_eq!(changed(0x0a, 0x07), ReportError::Migration(0x7_0000));
    }

    #[test]
    fn report_by_another_key_is_refused() {
        assert_eq!(changed(0x48, 0b00100), ReportError::SigningKey(4)); // VLEK
        assert_eq!(changed(0x48, 0b11100), ReportError::SigningKey(0x1c)); // none
        assert_eq!(changed(0x48, 0b00010), ReportError::SigningKey(2)); // masked
    }

    #[test]
    fn firmware_versions_follow_the_generation() {
        let mut raw = raw_report(&[1; 64], &[2; 48]);
        raw[0x180..0x188].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let tcb = Report::parse(&raw).unwrap().tcb;
        assert_eq!(tcb.parts().map(|p| p.1), [0, 1, 2, 7, 8]);
        raw[0x188] = 0x1a;
        let tcb = Report::parse(&raw).unwrap().tcb;
        assert_eq!(tcb.parts().map(|p| p.1), [1, 2, 3, 4, 8]);
        raw[0x188] = 0x17;
        assert_eq!(Report::parse(&raw).unwrap_err(), ReportError::Cpu(0x17));
        raw[0] = 2;
        assert_eq!(Report::parse(&raw).unwrap().generation, Generation::Milan);
        raw[0x1a8..0x1e0].fill(0);
        assert_eq!(Report::parse(&raw).unwrap().generation, Generation::Turin);
    }

    #[test]
    fn report_of_a_lower_privilege_level_is_refused() {
        assert_eq!(changed(0x30, 2), ReportError::Vmpl(2));
        assert_eq!(changed(0x33, 0x80), ReportError::Vmpl(0x8000_0000));
    }
}
