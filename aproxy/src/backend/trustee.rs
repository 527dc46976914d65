//! SNP evidence in the form that Trustee reads: the fields of the report as numbers and lists, and the
//! certificates one by one.

use serde_json::{Value, json};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

/// Length of ATTESTATION_REPORT in bytes (AMD 56860, section 7.3).
const REPORT_LEN: usize = 1184;

/// The most certificates that are passed on; a host has some four.
const MAX_CERTIFICATES: usize = 16;

/// Kinds of certificates by their GUID (GHCB specification, section on the extended guest request),
/// in the byte order of a table.
const KINDS: [([u8; 16], &str); 5] = [
    (
        [
            0xa4, 0x06, 0xb4, 0xc0, 0x03, 0xa8, 0x52, 0x49, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c,
            0xd0, 0xae,
        ],
        "ARK",
    ),
    (
        [
            0x79, 0xb3, 0xb7, 0x4a, 0xac, 0xbb, 0xe4, 0x4f, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27,
            0xc7, 0x82,
        ],
        "ASK",
    ),
    (
        [
            0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8,
            0xac, 0xcd,
        ],
        "VCEK",
    ),
    (
        [
            0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0,
            0xb8, 0xa1,
        ],
        "VLEK",
    ),
    (
        [
            0xc3, 0x1b, 0xf8, 0x92, 0x11, 0x58, 0x3d, 0x4d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc,
            0x67, 0xea,
        ],
        "CRL",
    ),
];

/// Converts a raw report and the table of certificates that came with it.
pub(super) fn evidence(report: &[u8], certificates: Option<&[u8]>) -> Result<Value, &'static str> {
    if report.len() != REPORT_LEN {
        return Err("an SNP report has 1184 bytes");
    }
    let report = AttestationReport::from_bytes(report)
        .map_err(|_| "the SNP report is not of a known form")?;
    let report = serde_json::to_value(report).map_err(|_| "the SNP report has no JSON form")?;
    let chain = match certificates {
        None => Value::Null,
        Some(table) => chain(table).ok_or("the table of certificates is malformed")?,
    };
    Ok(json!({"attestation_report": report, "cert_chain": chain}))
}

/// The certificates of a table: entries of GUID, offset and length, the last one all zeros, and what
/// they point to.
fn chain(table: &[u8]) -> Option<Value> {
    let mut chain = Vec::new();
    for entry in table.chunks_exact(24) {
        let (guid, place) = entry.split_at(16);
        if guid.iter().all(|&byte| byte == 0) {
            return Some(match chain.is_empty() {
                true => Value::Null,
                false => Value::Array(chain),
            });
        }
        let number = |at: usize| -> Option<usize> {
            let bytes = place.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        let (offset, length) = (number(0)?, number(4)?);
        let data = table.get(offset..offset.checked_add(length)?)?;
        // Kinds that nobody knows are left out.
        if let Some((_, kind)) = KINDS.iter().find(|(known, _)| known == guid) {
            chain.push(json!({"cert_type": kind, "data": data}));
        }
        if chain.len() > MAX_CERTIFICATES {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(certificates: &[(&[u8; 16], &[u8])]) -> Vec<u8> {
        let mut table = Vec::new();
        let mut offset = 24 * (certificates.len() + 1);
        for (guid, data) in certificates {
            table.extend(*guid);
            table.extend((offset as u32).to_le_bytes());
            table.extend((data.len() as u32).to_le_bytes());
            offset += data.len();
        }
        table.extend([0; 24]);
        certificates
            .iter()
            .for_each(|(_, data)| table.extend(*data));
        table
    }

    /// A report of version 3 for a Milan CPU, as the specification lays it out.
    fn report() -> Vec<u8> {
        let mut report = vec![0; REPORT_LEN];
        report[0] = 3;
        report[0x08..0x10].copy_from_slice(&0x30000u64.to_le_bytes());
        report[0x34] = 1;
        report[0x50..0x90].fill(0xd1);
        report[0x90..0xc0].fill(0x3e);
        report[0x188..0x18b].copy_from_slice(&[0x19, 0x01, 0x01]);
        report[0x1a0..0x1e0].fill(0xc1);
        report
    }

    #[test]
    fn report_is_taken_apart_into_its_fields() {
        let value = evidence(&report(), None).unwrap();
        let fields = &value["attestation_report"];
        assert_eq!(fields["version"], 3);
        assert_eq!(fields["policy"], 0x30000);
        assert_eq!(fields["vmpl"], 0);
        assert_eq!(fields["sig_algo"], 1);
        assert_eq!(fields["report_data"], json!(vec![0xd1; 64]));
        assert_eq!(fields["measurement"], json!(vec![0x3e; 48]));
        assert_eq!(fields["chip_id"], json!(vec![0xc1; 64]));
        assert!(fields["signature"]["r"].is_array() && fields["signature"]["s"].is_array());
        assert_eq!(value["cert_chain"], Value::Null);
    }

    #[test]
    fn report_of_another_form_is_refused() {
        assert!(evidence(&report()[..1183], None).is_err());
        assert!(evidence(&[report(), vec![0]].concat(), None).is_err());
        let mut reserved = report();
        reserved[0x4c..0x50].fill(0xff);
        assert!(evidence(&reserved, None).is_err());
    }

    #[test]
    fn certificates_are_named_by_their_kind() {
        let unknown = [0x77; 16];
        let table = table(&[
            (&KINDS[2].0, b"vcek"),
            (&unknown, b"?"),
            (&KINDS[1].0, b"as"),
        ]);
        let value = evidence(&report(), Some(&table)).unwrap();
        assert_eq!(
            value["cert_chain"],
            json!([
                {"cert_type": "VCEK", "data": b"vcek"},
                {"cert_type": "ASK", "data": b"as"},
            ])
        );
        let empty = evidence(&report(), Some(&[0; 24])).unwrap();
        assert_eq!(empty["cert_chain"], Value::Null);
    }

    #[test]
    fn table_that_points_outside_is_refused() {
        let good = table(&[(&KINDS[2].0, b"vcek")]);
        for (at, value) in [(16, u32::MAX), (20, u32::MAX), (20, 5), (16, 49)] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(evidence(&report(), Some(&bad)).is_err());
        }
        for len in 0..48 {
            assert!(evidence(&report(), Some(&good[..len])).is_err(), "{len}");
        }
        let mut many = vec![];
        (0..100).for_each(|_| many.push((&KINDS[2].0, &b"x"[..])));
        assert!(evidence(&report(), Some(&table(&many))).is_err());
    }
}
