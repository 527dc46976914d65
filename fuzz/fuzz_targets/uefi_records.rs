//! Stored records of UEFI variables: what is read is written the same, and a store of such
//! records loads or says why not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uefivars::memory::Memory;
use uefivars::{Config, Service, record};

/// Fills in magic, version and sizes, so that more than the header is looked at.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 60 {
        return bytes;
    }
    bytes[..8].copy_from_slice(b"SVUV\x01\0\0\0");
    bytes[6] = u8::from(bytes[8] & 0x20 != 0 && bytes.len() > 100);
    if bytes[8] & 0x20 == 0 {
        bytes[12..28].fill(0);
    }
    let room = bytes.len() - 52 - usize::from(bytes[6]) * 32;
    let name = (usize::from(bytes[44]) % room) & !1;
    bytes[44..48].copy_from_slice(&(name as u32).to_le_bytes());
    bytes[48..52].copy_from_slice(&((room - name) as u32).to_le_bytes());
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let mut records = Vec::new();
    let mut rest = rest;
    while let Some((len, bytes)) = rest.split_first().filter(|_| records.len() < 8) {
        let len = (usize::from(*len) * 2).min(bytes.len());
        let (bytes, next) = bytes.split_at(len);
        rest = next;
        let bytes = if how & 1 == 0 {
            mended(bytes)
        } else {
            bytes.to_vec()
        };
        if let Ok(variable) = record::decode(&bytes) {
            assert_eq!(record::encode(&variable).expect("memory"), bytes);
        }
        records.push((records.len() as u32 * 7 + u32::from(*how), bytes));
    }
    let disk = Memory::with(records.clone());
    match Service::new(disk, Config::default()) {
        Ok(service) => {
            let stored = service.storage().records();
            assert!(
                records
                    .iter()
                    .all(|(index, bytes)| stored.get(index) == Some(bytes))
            );
            assert!(
                records
                    .iter()
                    .all(|(_, bytes)| record::decode(bytes).is_ok())
            );
        }
        Err(error) => drop(error.to_string()),
    }
});
