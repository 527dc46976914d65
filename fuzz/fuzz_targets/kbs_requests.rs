//! What a client sends to the key broker, and what it takes from a host behind it: request bodies,
//! keys, evidence in both forms, certificate tables, reports. The first byte says what the rest is.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kbs_test::binding::Bound;
use kbs_test::ledger::{self, ReportSession, SessionKey};
use kbs_test::snp::certificate::{Certificate, Role};
use kbs_test::snp::{CertTable, REPORT_SIZE, Report, Roots, trustee};
use kbs_test::tee_key::TeeKey;
use kbs_test::volume::{LedgerMode, Policy, Volume, VolumeName};
use kbs_test::{evidence, jws, requests};
use kbs_types::Tee;
use libfuzzer_sys::fuzz_target;

static AMD: LazyLock<Roots> = LazyLock::new(|| Roots::amd().expect("built-in roots are valid"));

/// A genuine report, for certificates to be compared with.
static MILAN: LazyLock<[u8; REPORT_SIZE]> = LazyLock::new(|| {
    let hex = include_str!("../../kbs-test/tests/vectors/milan-report.hex").trim();
    let digit = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16);
    std::array::from_fn(|i| digit(i).expect("the report is hexadecimal"))
});

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

fn verify(raw: &[u8], table: &CertTable) {
    if let (Ok(report), Ok(raw)) = (Report::parse(raw), raw.try_into()) {
        // Only the genuine report has a chain to AMD that anyone could know.
        if AMD.verify(raw, &report, table, now()).is_ok() {
            assert_eq!(raw[..0x2a0], MILAN[..0x2a0]);
        }
    }
}

fn attestation(body: &[u8]) {
    let Ok(request) = requests::attestation(body) else {
        return;
    };
    let Ok(key) = TeeKey::from_jwk(&request.runtime_data.tee_pubkey) else {
        return;
    };
    let evidence = &request.tee_evidence.primary_evidence;
    for only_runtime_data in [false, true] {
        let bound = Bound::new(&key, &[0; 32], &request.runtime_data.nonce, only_runtime_data);
        for tee in [Tee::Sample, Tee::Snp] {
            let _ = evidence::verify(&AMD, tee, evidence, &bound, now());
        }
    }
    if let Ok((raw, table)) = trustee::read(evidence) {
        verify(&raw, &table);
    }
}

fn report(body: &[u8]) {
    let Ok(report) = serde_json::from_slice::<ledger::Report>(body) else {
        return;
    };
    let mut volume = Volume::new(Policy::default());
    volume.mode = LedgerMode::Commit;
    volume.ledger.epoch = 3;
    volume.ledger.counter = 7;
    let session = ReportSession {
        volume: VolumeName::default(),
        number: 1,
        since: 0,
        key: SessionKey::new([0; 32]),
        told_epoch: 3,
        own_epoch: Some(3),
        last: None,
    };
    if let Ok(ledger) = ledger::record(&volume, &session, &report) {
        assert!(ledger.epoch >= 3 && ledger.counter >= 7);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 7 {
        0 => drop(requests::auth(rest)),
        1 => attestation(rest),
        2 => drop(requests::report(rest)),
        3 => report(rest),
        4 => {
            if let Ok(table) = CertTable::parse(rest) {
                assert_eq!(CertTable::parse(&table.to_bytes()), Ok(table.clone()));
                verify(&*MILAN, &table);
            }
        }
        5 => {
            if let Ok(certificate) = Certificate::parse(rest) {
                for role in [Role::Ark, Role::Ask, Role::Vcek] {
                    let _ = certificate.check(role, now());
                }
                let _ = certificate.hardware_id();
                assert!(certificate.to_der().is_ok());
                let table = CertTable {
                    vcek: Some(rest.to_vec()),
                    ..CertTable::default()
                };
                verify(&*MILAN, &table);
            }
        }
        _ => {
            verify(rest, &CertTable::default());
            if let Ok(text) = std::str::from_utf8(rest) {
                let _ = text.parse::<VolumeName>();
                let _ = jws::verify(&[], text);
            }
        }
    }
});
