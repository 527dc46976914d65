//! Authenticated payloads: damaged ones of other tools, and bytes of any kind. A change
//! inside what is signed is never accepted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uefivars::auth::cms::SignedData;
use uefivars::auth::header::Request;
use uefivars::auth::owner;
use uefivars::auth::x509::Certificate;
use uefivars::rules::SecureBootVariable;
use uefivars::siglist;

const ANCHORS: &[u8] = include_bytes!("../../uefivars/tests/vectors/kek-all.esl");
const PAYLOADS: [&[u8]; 8] = [
    include_bytes!("../../uefivars/tests/vectors/db.auth"),
    include_bytes!("../../uefivars/tests/vectors/sb-db.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-rsa2048-attributes.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-rsa4096-sha512-attributes.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-p256.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-p384-sha384.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-chain.auth"),
    include_bytes!("../../uefivars/tests/vectors/way-chain-p256-p384.auth"),
];

/// Damages a payload at places that the input says, three bytes each.
fn damaged(edits: &[u8], base: &[u8]) -> Vec<u8> {
    let mut data = base.to_vec();
    for edit in edits.chunks_exact(4).take(16) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % data.len().max(1);
        match edit[2] % 4 {
            0 => data.insert(at, edit[3]),
            1 if data.len() > 1 => drop(data.remove(at)),
            2 => data[at] ^= edit[3],
            _ => data[at] = edit[3],
        }
    }
    data
}

fn signed_for(request: &Request<'_>, data: &[u8]) -> Vec<u8> {
    let mut content = b"d\0b\0".to_vec();
    content.extend(uefivars::guids::IMAGE_SECURITY_DATABASE.to_bytes());
    content.extend(0x27_u32.to_le_bytes());
    content.extend(&data[..16]);
    content.extend(request.payload);
    content
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let base = PAYLOADS.get(usize::from(*kind));
    let data = match base {
        Some(base) => damaged(rest, base),
        None => rest.to_vec(),
    };
    let _ = Certificate::parse(&data).map(|certificate| {
        (
            certificate.key().is_ok(),
            certificate.common_name().is_ok(),
            certificate.verify_by(&certificate).is_ok(),
        )
    });
    for variable in [
        SecureBootVariable::Pk,
        SecureBootVariable::Kek,
        SecureBootVariable::Database,
    ] {
        if siglist::check(variable, &data).is_ok() {
            let merged = siglist::merge(ANCHORS, &data).expect("memory");
            assert!(siglist::check(SecureBootVariable::Database, &merged).is_ok());
            assert_eq!(siglist::merge(&merged, &data).expect("memory"), merged);
        }
    }
    let Ok(request) = Request::parse(&data) else {
        return;
    };
    let content = signed_for(&request, &data);
    let Ok(signed) = SignedData::parse(request.pkcs7) else {
        return;
    };
    let accepted = signed
        .verify(&[&content], siglist::certificates(ANCHORS))
        .is_ok();
    let _ = owner::of(&signed, &[&content]);
    if accepted {
        // Whoever has no keys can have changed nothing of what is signed.
        let base = base.expect("signed without a key");
        let good = Request::parse(base).expect("a good payload");
        assert_eq!(content, signed_for(&good, base));
    }
});
