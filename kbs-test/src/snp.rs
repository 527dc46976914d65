//! An SEV-SNP attestation report: the fields that decide over the secret.
//!
//! Layout: ATTESTATION_REPORT, SEV-SNP Firmware ABI Specification (AMD 56860), section 7.3. Nothing
//! here verifies the signature of the report; see [`crate::evidence`].

use thiserror::Error;

use crate::config::Measurement;

/// Size of a report in bytes.
pub const REPORT_SIZE: usize = 0x4a0;

/// Report versions whose layout is known.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;

/// POLICY bit 17, which every genuine report has set.
const POLICY_RESERVED_ONE: u64 = 1 << 17;

/// POLICY bit 19: the host may debug, that is read, the guest.
const POLICY_DEBUG: u64 = 1 << 19;

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
    /// Requested by software less privileged than the SVSM.
    #[error("the report was requested from VMPL {0}, not from VMPL 0")]
    Vmpl(u32),
    /// A guest the host can look into.
    #[error("the guest policy {0:#x} allows debugging")]
    Debug(u64),
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
        let vmpl = u32::from_le_bytes(field(raw, 0x30));
        if vmpl != 0 {
            return Err(ReportError::Vmpl(vmpl));
        }
        let algorithm = u32::from_le_bytes(field(raw, 0x34));
        if algorithm != SIG_ALGO_ECDSA_P384 {
            return Err(ReportError::SignatureAlgorithm(algorithm));
        }
        Ok(Self {
            report_data: field(raw, 0x50),
            measurement: Measurement(field(raw, 0x90)),
        })
    }
}

/// `N` bytes at `offset`; every caller's range is inside the report.
fn field<const N: usize>(raw: &[u8; REPORT_SIZE], offset: usize) -> [u8; N] {
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
    fn report_of_a_lower_privilege_level_is_refused() {
        assert_eq!(changed(0x30, 2), ReportError::Vmpl(2));
        assert_eq!(changed(0x33, 0x80), ReportError::Vmpl(0x8000_0000));
    }
}
