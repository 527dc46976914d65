//! Evidence: what the platform can say about the SVSM that asks it.
//!
//! A source binds whatever REPORT_DATA it is given and knows nothing of the exchange;
//! the exchange knows nothing of how evidence is made.

use alloc::string::String;
use libaproxy::v0_1::{Evidence, Tee};

/// Length of REPORT_DATA in bytes (AMD 56860, section 7.3, table of ATTESTATION_REPORT).
pub const REPORT_DATA_LEN: usize = 64;

/// Length of a launch measurement in bytes (SHA-384).
pub const MEASUREMENT_LEN: usize = 48;

/// What evidence is bound to: the digest of an exchange, of at most [`REPORT_DATA_LEN`]
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportData {
    bytes: [u8; REPORT_DATA_LEN],
    len: usize,
}

impl ReportData {
    /// The digest, as long as its hash makes it.
    pub fn digest(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The digest as a field of fixed length has it: with zeros behind.
    pub fn padded(&self) -> &[u8; REPORT_DATA_LEN] {
        &self.bytes
    }
}

impl From<[u8; 64]> for ReportData {
    fn from(bytes: [u8; 64]) -> Self {
        Self { bytes, len: 64 }
    }
}

impl From<[u8; 48]> for ReportData {
    fn from(digest: [u8; 48]) -> Self {
        let mut bytes = [0; REPORT_DATA_LEN];
        bytes[..48].copy_from_slice(&digest);
        Self { bytes, len: 48 }
    }
}

/// Why there is no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The platform was asked and gave none, for the reason named.
    #[error("the platform gave none: {0}")]
    Platform(&'static str),
    /// The self-reported measurement is not what it should look like.
    #[error("the self-reported launch measurement is not {} hex digits", 2 * MEASUREMENT_LEN)]
    Measurement,
}

/// Makes evidence about this SVSM.
pub trait EvidenceSource {
    /// The kind of evidence this source makes.
    fn tee(&self) -> Tee;

    /// Evidence that carries `report_data`.
    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, EvidenceError>;
}

/// The evidence of a platform without a TEE, which is no evidence: anybody can write
/// it. It exists so that the whole exchange runs everywhere, and so that a launch
/// measurement that does not match can be seen to be refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleEvidence {
    /// The launch measurement this SVSM was told it has.
    pub measurement: Option<[u8; MEASUREMENT_LEN]>,
}

impl SampleEvidence {
    /// With a measurement as the host hands it over: 96 hex digits, white space
    /// around them ignored.
    pub fn with_measurement(text: &[u8]) -> Result<Self, EvidenceError> {
        Ok(Self {
            measurement: Some(self_reported(text)?),
        })
    }
}

/// A measurement as the host hands it over, see [`SampleEvidence::with_measurement`].
pub(crate) fn self_reported(text: &[u8]) -> Result<[u8; MEASUREMENT_LEN], EvidenceError> {
    let mut measurement = [0; MEASUREMENT_LEN];
    hex::decode_to_slice(text.trim_ascii(), &mut measurement)
        .map_err(|_| EvidenceError::Measurement)?;
    Ok(measurement)
}

impl EvidenceSource for SampleEvidence {
    fn tee(&self) -> Tee {
        Tee::Sample
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, EvidenceError> {
        Ok(Evidence::Sample {
            svn: String::from("1"),
            report_data: report_data.digest().into(),
            measurement: self.measurement.map(hex::encode),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_carries_report_data_and_measurement() {
        let source =
            SampleEvidence::with_measurement(&[b"Ab".repeat(48), b"\n".to_vec()].concat()).unwrap();
        let Evidence::Sample {
            svn,
            report_data,
            measurement,
        } = source.evidence(&[7; 64].into()).unwrap()
        else {
            panic!("not sample evidence");
        };
        assert_eq!(
            (svn.as_str(), &report_data[..], measurement),
            ("1", &[7; 64][..], Some("ab".repeat(48)))
        );
    }

    #[test]
    fn short_digest_is_padded_only_where_the_field_is_fixed() {
        let bound = ReportData::from([7; 48]);
        assert_eq!(bound.digest(), [7; 48]);
        assert_eq!(bound.padded()[..48], [7; 48]);
        assert_eq!(bound.padded()[48..], [0; 16]);
    }

    #[test]
    fn malformed_measurement_is_refused() {
        for bad in [
            b"".to_vec(),
            b"ab".repeat(47),
            b"ab".repeat(49),
            b"xy".repeat(48),
            b"\xff\x00".repeat(48),
        ] {
            assert_eq!(
                SampleEvidence::with_measurement(&bad),
                Err(EvidenceError::Measurement)
            );
        }
    }
}
