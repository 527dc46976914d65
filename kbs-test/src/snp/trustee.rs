//! SNP evidence in the form of Trustee: the report as a JSON object, the certificates as a list.
//!
//! The object is turned back into the raw bytes, since those are what is signed. Where it does not say
//! what the bytes were, the signature does not verify.

use serde::Deserialize;
use serde_json::Value;
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

use super::cert_table::CertTable;

/// Largest certificate that is read, in bytes.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// Most certificates that are read.
const MAX_CERTIFICATES: usize = 8;

#[derive(Deserialize)]
struct Evidence {
    attestation_report: AttestationReport,
    #[serde(default)]
    cert_chain: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    cert_type: Value,
    data: Vec<u8>,
}

/// Reads the evidence. The error is a sentence for its sender.
pub fn read(evidence: &Value) -> Result<(Vec<u8>, CertTable), String> {
    let evidence = Evidence::deserialize(evidence).map_err(|e| e.to_string())?;
    let raw = evidence.attestation_report.to_bytes();
    let raw = raw.map_err(|e| format!("attestation_report: {e}"))?;
    let mut table = CertTable::default();
    let entries = evidence.cert_chain.unwrap_or_default();
    if entries.len() > MAX_CERTIFICATES {
        return Err(format!(
            "cert_chain has {} entries, at most {MAX_CERTIFICATES} are read",
            entries.len()
        ));
    }
    for Entry { cert_type, data } in entries {
        if data.len() > MAX_CERTIFICATE {
            return Err(format!(
                "cert_chain has a certificate of {} bytes",
                data.len()
            ));
        }
        let place = match cert_type.as_str() {
            Some("VCEK") => &mut table.vcek,
            Some("VLEK") => &mut table.vlek,
            Some("ASK") => &mut table.ask,
            Some("ARK") => &mut table.ark,
            _ => continue,
        };
        if place.replace(data).is_some() {
            return Err("cert_chain has two certificates of the same kind".to_owned());
        }
    }
    Ok((raw.to_vec(), table))
}

/// Writes evidence in this form: the sender's side, for tests and tools.
pub fn write(raw: &[u8], table: &CertTable) -> Result<Value, String> {
    let report = AttestationReport::from_bytes(raw).map_err(|e| e.to_string())?;
    let entry = |kind: &str, data: &Option<Vec<u8>>| {
        data.as_ref()
            .map(|data| serde_json::json!({"cert_type": kind, "data": data}))
    };
    let chain: Vec<_> = [
        entry("VCEK", &table.vcek),
        entry("VLEK", &table.vlek),
        entry("ASK", &table.ask),
        entry("ARK", &table.ark),
    ]
    .into_iter()
    .flatten()
    .collect();
    let chain = match chain.is_empty() {
        true => Value::Null,
        false => chain.into(),
    };
    let report = serde_json::to_value(report).map_err(|e| e.to_string())?;
    Ok(serde_json::json!({"attestation_report": report, "cert_chain": chain}))
}
