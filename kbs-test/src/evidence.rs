//! What does this evidence say, and is it bound to its session?
//!
//! Evidence becomes [`Claims`] only if it is bound to the key and the challenge of its own session and
//! passes every check that does not depend on a volume. `sample` evidence has no signature; its claims
//! are words.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kbs_types::Tee;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::binding::{Binding, Bound};
use crate::claims::{self, Claims, SnpClaims};
use crate::snp::{
    CertTable, ChainError, REPORT_SIZE, Report, ReportError, Roots, TableError, trustee,
};

/// Why evidence was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EvidenceError {
    /// A kind of evidence nobody here can read.
    #[error("evidence of this tee is not supported, only snp and sample are")]
    Unsupported,
    /// Not the JSON that this kind of evidence has.
    #[error("malformed evidence: {0}")]
    Malformed(String),
    /// A refused SNP report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The certificates cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The report does not lead to a trusted root.
    #[error("the SNP report is not believed: {0}")]
    Chain(#[from] ChainError),
    /// Evidence of another session, or for another key.
    #[error("REPORT_DATA does not bind the public key and the challenge of this session")]
    NotBound,
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
    #[serde(rename = "certs-buf", default)]
    certs: Option<String>,
}

/// Reads evidence of `tee`, and checks that it follows `bound` and, where there is a signature, that
/// it leads to one of `roots` at the time `now`. Tells how it is bound.
pub fn verify(
    roots: &Roots,
    tee: Tee,
    evidence: &Value,
    bound: &Bound,
    now: SystemTime,
) -> Result<(Claims, Binding), EvidenceError> {
    match tee {
        Tee::Sample => read_sample(evidence, bound),
        Tee::Snp => verify_snp(roots, evidence, bound, now),
        _ => Err(EvidenceError::Unsupported),
    }
}

fn verify_snp(
    roots: &Roots,
    evidence: &Value,
    bound: &Bound,
    now: SystemTime,
) -> Result<(Claims, Binding), EvidenceError> {
    let (raw, certificates) = read_snp(evidence)?;
    let report = Report::parse(&raw)?;
    let binding = bound
        .of_report(&report.report_data)
        .ok_or(EvidenceError::NotBound)?;
    let raw: &[u8; REPORT_SIZE] = raw[..]
        .try_into()
        .map_err(|_| ReportError::Size(raw.len()))?;
    roots.verify(raw, &report, &certificates, now)?;
    let claims = Claims {
        measurement: Some(report.measurement),
        evidence_digest: claims::report_digest(raw),
        snp: Some(SnpClaims {
            policy_allows_smt: report.policy_allows_smt,
            tcb: report.tcb,
            chip_id: report.chip_id,
        }),
    };
    Ok((claims, binding))
}

fn read_sample(evidence: &Value, bound: &Bound) -> Result<(Claims, Binding), EvidenceError> {
    let evidence = SampleEvidence::deserialize(evidence).map_err(malformed)?;
    let report_data = decode("report_data", &evidence.report_data)?;
    let binding = bound
        .of_sample(&report_data)
        .ok_or(EvidenceError::NotBound)?;
    let text = evidence.measurement.unwrap_or_default();
    let measurement = match text.as_str() {
        "" => None,
        text => Some(text.parse().map_err(malformed)?),
    };
    let digest = claims::sample_digest(&report_data, &text);
    Ok((Claims::sample(measurement, digest), binding))
}

/// The raw report and its certificates, from the form of `aproxy` or that of Trustee.
fn read_snp(evidence: &Value) -> Result<(Vec<u8>, CertTable), EvidenceError> {
    if evidence.get("attestation_report").is_some() {
        return trustee::read(evidence).map_err(EvidenceError::Malformed);
    }
    let evidence = SnpEvidence::deserialize(evidence).map_err(malformed)?;
    let raw = decode("snp-report", &evidence.report)?;
    let table = match &evidence.certs {
        Some(text) => CertTable::parse(&decode("certs-buf", text)?)?,
        None => CertTable::default(),
    };
    Ok((raw, table))
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
    use crate::binding::tests::{NONCE, NONCE_TEXT};
    use crate::binding::{key_and_nonce, runtime_data};
    use crate::config::Measurement;
    use crate::snp::chain::tests::test_root;
    use crate::snp::report::tests::raw_report;
    use crate::snp::test_root::Vcek;
    use crate::tee_key::TeeKey;
    use crate::tee_key::tests::key_pair;
    use serde_json::json;
    use sha2::{Digest, Sha384};

    fn key() -> TeeKey {
        key_pair(1).1
    }

    fn bound() -> Bound {
        Bound::new(&key(), &NONCE, NONCE_TEXT, false)
    }

    fn verify(
        tee: Tee,
        evidence: &Value,
        bound: &Bound,
    ) -> Result<(Claims, Binding), EvidenceError> {
        let roots = Roots::only(test_root().ark());
        super::verify(&roots, tee, evidence, bound, SystemTime::now())
    }

    fn with_certs(raw: &[u8], vcek: &Vcek) -> Value {
        json!({"snp-report": BASE64_STANDARD.encode(raw),
            "certs-buf": BASE64_STANDARD.encode(vcek.table.to_bytes())})
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
    fn evidence_of_another_session_is_refused() {
        let mut other = key_and_nonce(&key(), &NONCE);
        other[63] ^= 1;
        for report_data in [&other[..], &other[..63], &[]] {
            let e = verify(Tee::Sample, &sample(report_data, None), &bound()).unwrap_err();
            assert_eq!(e, EvidenceError::NotBound);
        }
        let raw = raw_report(&other, &[1; 48]);
        let e = verify(Tee::Snp, &snp(&raw), &bound()).unwrap_err();
        assert_eq!(e, EvidenceError::NotBound);
    }

    #[test]
    fn measurement_of_a_sample_is_read_in_either_case() {
        let data = runtime_data(&key(), NONCE_TEXT);
        let upper = hex::encode_upper([0xab; 48]);
        let (claims, binding) =
            verify(Tee::Sample, &sample(&data, Some(&upper)), &bound()).unwrap();
        assert_eq!(binding, Binding::RuntimeData);
        assert_eq!(claims.measurement, Some(Measurement([0xab; 48])));
        // The digest covers the text as it was written.
        let signed = [b"sample\0", &data[..], upper.as_bytes()].concat();
        assert_eq!(claims.evidence_digest, *Sha384::digest(signed));
        let (claims, _) = verify(Tee::Sample, &sample(&data, None), &bound()).unwrap();
        assert_eq!(claims.measurement, None);
    }

    #[test]
    fn both_forms_of_a_report_say_the_same() {
        let vcek = test_root().issue().unwrap();
        let raw = vcek.report(&key_and_nonce(&key(), &NONCE), &[1; 48]);
        let (claims, binding) = verify(Tee::Snp, &with_certs(&raw, &vcek), &bound()).unwrap();
        assert_eq!(binding, Binding::KeyAndNonce);
        assert_eq!(claims.measurement, Some(Measurement([1; 48])));
        assert_eq!(claims.evidence_digest, *Sha384::digest(raw));
        assert!(claims.snp.is_some());
        let trustee = trustee::write(&raw, &vcek.table).unwrap();
        assert_eq!(verify(Tee::Snp, &trustee, &bound()).unwrap().0, claims);
    }

    #[test]
    fn report_without_certificates_is_refused() {
        let raw = raw_report(&key_and_nonce(&key(), &NONCE), &[1; 48]);
        let e = verify(Tee::Snp, &snp(&raw), &bound()).unwrap_err();
        assert_eq!(e, EvidenceError::Chain(ChainError::NoVcek));
    }

    #[test]
    fn malformed_evidence_is_refused() {
        let data = key_and_nonce(&key(), &NONCE);
        let not_base64 = json!({"svn": "1", "report_data": "%"});
        for (tee, bad) in [
            (Tee::Sample, json!(null)),
            (Tee::Sample, json!([])),
            (Tee::Sample, json!({"svn": 1, "report_data": ""})),
            (Tee::Sample, not_base64),
            (Tee::Sample, sample(&data, Some("0102"))),
            (Tee::Snp, json!({"report": ""})),
            (Tee::Snp, json!({"snp-report": [1, 2]})),
            (Tee::Snp, json!({"snp-report": "AQI"})),
            (Tee::Snp, json!({"attestation_report": {}})),
        ] {
            let e = verify(tee, &bad, &bound()).unwrap_err();
            assert!(matches!(e, EvidenceError::Malformed(_)), "{bad}: {e}");
        }
        let e = verify(Tee::Snp, &snp(&[0; 7]), &bound()).unwrap_err();
        assert_eq!(e, EvidenceError::Report(ReportError::Size(7)));
        let e = verify(Tee::Tdx, &json!({}), &bound()).unwrap_err();
        assert_eq!(e, EvidenceError::Unsupported);
    }
}
