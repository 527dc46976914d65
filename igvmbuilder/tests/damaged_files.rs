//! Files that somebody damaged or made up give an error, never a panic.

mod common;

use common::{all_directives, inputs, serialized, snp_file};
use igvmbuilder::measure::{Options, measure};
use igvmbuilder::platform::Native;
use igvmbuilder::{flatten, igvm_file, igvm_reader};

/// Does everything the tools do with a file.
fn use_file(bytes: &[u8]) -> bool {
    let Ok(file) = igvm_reader::read(bytes) else {
        return false;
    };
    for check_kvm in [false, true] {
        let options = Options {
            check_kvm,
            ..Options::default()
        };
        let _ = measure(&file, &options);
    }
    let _ = flatten::flatten(bytes, 64);
    true
}

/// Where the headers end and the data begins.
fn headers_end(bytes: &[u8]) -> usize {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    (word(8) + word(12)) as usize
}

/// Makes the checksum right again, so that damage reaches the parser.
fn fix_checksum(bytes: &mut [u8]) {
    let end = headers_end(bytes);
    if end > bytes.len() {
        return;
    }
    bytes[20..24].fill(0);
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
}

fn samples() -> [Vec<u8>; 2] {
    let (stage2, kernel) = inputs();
    [
        igvm_file::build(&stage2, &kernel, &Native).expect("builds"),
        serialized(&snp_file(all_directives())),
    ]
}

#[test]
fn every_truncation_is_refused() {
    for good in samples() {
        assert!(use_file(&good));
        for length in (0..good.len()).step_by(13).chain(0..200) {
            assert!(!use_file(&good[..length]), "{length} bytes");
            let mut cut = good[..length].to_vec();
            if length >= 24 {
                cut[16..20].copy_from_slice(&(length as u32).to_le_bytes());
                fix_checksum(&mut cut);
                use_file(&cut);
            }
        }
    }
}

#[test]
fn damage_without_a_right_checksum_is_refused() {
    for good in samples() {
        for offset in 0..headers_end(&good) {
            let mut bytes = good.clone();
            bytes[offset] ^= 0x10;
            assert!(!use_file(&bytes), "offset {offset:#x}");
        }
    }
}

#[test]
fn damage_with_a_right_checksum_does_not_panic() {
    let mut refused = 0;
    for good in samples() {
        // The first headers hold one of each kind; the rest are pages like them.
        for offset in (0..headers_end(&good).min(1200)).filter(|o| !(20..24).contains(o)) {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[offset] = value;
                fix_checksum(&mut bytes);
                refused += usize::from(!use_file(&bytes));
            }
        }
    }
    assert!(refused > 1000, "the damage must reach the checks");
}

#[test]
fn random_damage_does_not_panic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    for good in samples() {
        let end = headers_end(&good);
        for _ in 0..2000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random(6) {
                bytes[8 + random(end - 8)] = random(256) as u8;
            }
            // Words are where offsets and sizes are.
            let word = 8 + random(end / 4 - 2) * 4;
            bytes[word..word + 4].copy_from_slice(&(random(1 << 20) as u32).to_le_bytes());
            fix_checksum(&mut bytes);
            use_file(&bytes);
        }
    }
}
