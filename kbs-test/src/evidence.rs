//! Does this evidence earn the secret?
//!
//! Evidence is accepted only if it is bound to the key and the challenge of its own session, shows
//! the expected launch measurement, and is of a kind that the policy allows.
//!
//! `snp` evidence is a raw report whose signature this version does not verify; it is therefore
//! refused unless a development option says otherwise. `sample` evidence has no signature at all.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kbs_types::Tee;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha512};
use thiserror::Error;

use crate::config::{Measurement, Policy};
use crate::snp::{Report, ReportError};
use crate::tee_key::TeeKey;

/// Why evidence was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EvidenceError {
    /// `sample` without `--allow-sample`.
    #[error(
        "sample evidence proves nothing and is not allowed: start kbs-test with --allow-sample"
    )]
    SampleNotAllowed,
    /// `snp` without the development option.
    #[error(
        "snp evidence is not accepted: this version does not verify report signatures (for \
         development only: --insecure-no-snp-signature)"
    )]
    SnpNotVerified,
    /// A kind of evidence nobody here can read.
    #[error("evidence of this tee is not supported, only snp and sample are")]
    Unsupported,
    /// Not the JSON that this kind of evidence has.
    #[error("malformed evidence: {0}")]
    Malformed(String),
    /// A refused SNP report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Evidence of another session, or for another key.
    #[error("REPORT_DATA does not bind the public key and the challenge of this session")]
    NotBound,
    /// Another program was launched.
    #[error("launch measurement not as expected")]
    Measurement {
        /// What `--measurement` says.
        expected: Measurement,
        /// What the evidence says, if it says anything.
        found: Option<Measurement>,
    },
}

impl EvidenceError {
    /// The documented three lines about a measurement that does not match.
    pub(crate) fn measurement_lines(&self) -> Option<String> {
        let Self::Measurement { expected, found } = self else {
            return None;
        };
        let found = found.map_or_else(|| "none".to_owned(), |m| m.to_string());
        Some(format!(
            "{self}\nexpected:\"{expected}\"\nfound:\"{found}\""
        ))
    }
}

/// `primary_evidence` of tee `sample`.
#[derive(Deserialize)]
struct SampleEvidence {
    /// Security version; carried by the format, it says nothing about anything.
    #[serde(rename = "svn")]
    _svn: String,
    report_data: String,
    #[serde(default)]
    measurement: Option<String>,
}

/// `primary_evidence` of tee `snp` as `aproxy` sends it.
#[derive(Deserialize)]
struct SnpEvidence {
    #[serde(rename = "snp-report")]
    report: String,
}

/// What REPORT_DATA has to be: SHA-512 over the key's coordinates x and y in fixed width and the
/// challenge.
pub fn report_data(key: &TeeKey, nonce: &[u8]) -> [u8; 64] {
    Sha512::new()
        .chain_update(key.x())
        .chain_update(key.y())
        .chain_update(nonce)
        .finalize()
        .into()
}

/// Checks evidence of `tee` against `policy` and the session's REPORT_DATA. Returns the measurement it
/// shows; `sample` evidence may show none.
pub fn verify(
    policy: &Policy,
    tee: Tee,
    evidence: &Value,
    expected_report_data: &[u8; 64],
) -> Result<Option<Measurement>, EvidenceError> {
    let (report_data, found) = match tee {
        Tee::Sample if !policy.allow_sample => return Err(EvidenceError::SampleNotAllowed),
        Tee::Snp if !policy.insecure_no_snp_signature => return Err(EvidenceError::SnpNotVerified),
        Tee::Sample => read_sample(evidence)?,
        Tee::Snp => read_snp(evidence)?,
        _ => return Err(EvidenceError::Unsupported),
    };
    if report_data != expected_report_data {
        return Err(EvidenceError::NotBound);
    }
    match policy.measurement {
        Some(expected) if found != Some(expected) => {
            Err(EvidenceError::Measurement { expected, found })
        }
        _ => Ok(found),
    }
}

fn read_sample(evidence: &Value) -> Result<(Vec<u8>, Option<Measurement>), EvidenceError> {
    let evidence = SampleEvidence::deserialize(evidence).map_err(malformed)?;
    let measurement = evidence
        .measurement
        .map(|text| text.parse())
        .transpose()
        .map_err(malformed)?;
    Ok((decode("report_data", &evidence.report_data)?, measurement))
}

fn read_snp(evidence: &Value) -> Result<(Vec<u8>, Option<Measurement>), EvidenceError> {
    let evidence = SnpEvidence::deserialize(evidence).map_err(malformed)?;
    let report = Report::parse(&decode("snp-report", &evidence.report)?)?;
    Ok((report.report_data.to_vec(), Some(report.measurement)))
}

fn decode(member: &str, text: &str) -> Result<Vec<u8>, EvidenceError> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|_| EvidenceError::Malformed(format!("{member} is not standard padded base64")))
}

fn malformed(e: impl std::fmt::Display) -> EvidenceError {
    EvidenceError::Malformed(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp::tests::raw_report;
    use crate::tee_key::tests::key_pair;
    use serde_json::json;

    const BOUND: [u8; 64] = [9; 64];

    fn policy(measurement: Option<u8>) -> Policy {
        Policy {
            measurement: measurement.map(|b| Measurement([b; 48])),
            allow_sample: true,
            insecure_no_snp_signature: true,
        }
    }

    fn sample(report_data: &[u8], measurement: Option<&str>) -> Value {
        let mut v = json!({"svn": "1", "report_data": BASE64_STANDARD.encode(report_data)});
        if let Some(m) = measurement {
            v["measurement"] = m.into();
        }
        v
    }

    fn snp(raw: &[u8]) -> Value {
        json!({"snp-report": BASE64_STANDARD.encode(raw), "certs-buf": null})
    }

    #[test]
    fn evidence_needs_permission() {
        let none = Policy::default();
        let s = verify(&none, Tee::Sample, &sample(&BOUND, None), &BOUND);
        assert_eq!(s, Err(EvidenceError::SampleNotAllowed));
        let s = verify(&none, Tee::Snp, &snp(&raw_report(&BOUND, &[1; 48])), &BOUND);
        assert_eq!(s, Err(EvidenceError::SnpNotVerified));
        let s = verify(&policy(None), Tee::Tdx, &sample(&BOUND, None), &BOUND);
        assert_eq!(s, Err(EvidenceError::Unsupported));
    }

    #[test]
    fn evidence_of_another_session_is_refused() {
        let mut other = BOUND;
        other[63] ^= 1;
        for report_data in [&other[..], &BOUND[..63], &[]] {
            let s = verify(
                &policy(None),
                Tee::Sample,
                &sample(report_data, None),
                &BOUND,
            );
            assert_eq!(s, Err(EvidenceError::NotBound));
        }
        let raw = raw_report(&other, &[1; 48]);
        let s = verify(&policy(None), Tee::Snp, &snp(&raw), &BOUND);
        assert_eq!(s, Err(EvidenceError::NotBound));
    }

    #[test]
    fn expected_measurement_is_accepted() {
        let found = Some(Measurement([1; 48]));
        let upper = hex::encode_upper([1; 48]);
        let s = verify(
            &policy(Some(1)),
            Tee::Sample,
            &sample(&BOUND, Some(&upper)),
            &BOUND,
        );
        assert_eq!(s, Ok(found));
        let raw = raw_report(&BOUND, &[1; 48]);
        assert_eq!(
            verify(&policy(Some(1)), Tee::Snp, &snp(&raw), &BOUND),
            Ok(found)
        );
        assert_eq!(
            verify(&policy(None), Tee::Snp, &snp(&raw), &BOUND),
            Ok(found)
        );
        let s = verify(&policy(None), Tee::Sample, &sample(&BOUND, None), &BOUND);
        assert_eq!(s, Ok(None));
    }

    #[test]
    fn other_measurement_is_refused_and_both_are_shown() {
        let raw = raw_report(&BOUND, &[2; 48]);
        let e = verify(&policy(Some(1)), Tee::Snp, &snp(&raw), &BOUND).unwrap_err();
        let lines = e.measurement_lines().unwrap();
        let (expected, found) = ("01".repeat(48), "02".repeat(48));
        assert_eq!(
            lines,
            format!(
                "launch measurement not as expected\nexpected:\"{expected}\"\nfound:\"{found}\""
            )
        );
    }

    #[test]
    fn absent_measurement_does_not_match() {
        let e = verify(&policy(Some(1)), Tee::Sample, &sample(&BOUND, None), &BOUND).unwrap_err();
        assert!(e.measurement_lines().unwrap().ends_with("found:\"none\""));
    }

    #[test]
    fn malformed_evidence_is_refused() {
        let not_base64 = json!({"svn": "1", "report_data": "%"});
        for (tee, bad) in [
            (Tee::Sample, json!(null)),
            (Tee::Sample, json!([])),
            (Tee::Sample, json!({"svn": 1, "report_data": ""})),
            (Tee::Sample, not_base64),
            (Tee::Sample, sample(&BOUND, Some("0102"))),
            (Tee::Snp, json!({"report": ""})),
            (Tee::Snp, json!({"snp-report": [1, 2]})),
            (Tee::Snp, json!({"snp-report": "AQI"})),
        ] {
            let e = verify(&policy(None), tee, &bad, &BOUND).unwrap_err();
            assert!(matches!(e, EvidenceError::Malformed(_)), "{bad}: {e}");
        }
        let e = verify(&policy(None), Tee::Snp, &snp(&[0; 7]), &BOUND).unwrap_err();
        assert_eq!(e, EvidenceError::Report(ReportError::Size(7)));
    }

    #[test]
    fn report_data_covers_key_and_challenge() {
        let (one, two) = (key_pair(1).1, key_pair(2).1);
        assert_ne!(report_data(&one, &[0; 32]), report_data(&two, &[0; 32]));
        assert_ne!(report_data(&one, &[0; 32]), report_data(&one, &[1; 32]));
        let whole = Sha512::digest([&one.x()[..], &one.y()[..], &[0; 32]].concat());
        assert_eq!(report_data(&one, &[0; 32]), *whole);
    }
}
