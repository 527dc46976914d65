//! Public areas of every kind, right ones and nearly right ones.

use crate::{command::blob, random::Random};

/// What an object can do, as far as the generator cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Storage,
    Signing,
    Ecdh,
    RsaDecrypt,
    Hmac,
    Sealed,
    Cipher,
}

const KINDS: &[Kind] = &[
    Kind::Storage,
    Kind::Storage,
    Kind::Signing,
    Kind::Signing,
    Kind::Ecdh,
    Kind::Hmac,
    Kind::Sealed,
    Kind::Cipher,
];

pub const HASHES: &[u16] = &[0x0B, 0x0B, 0x0B, 0x0C, 0x04, 0x0D];
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth
const COMMON: u32 = 0x0000_0072;
const NO_DA: u32 = 0x0000_0400;
const RESTRICTED: u32 = 0x0001_0000;
const DECRYPT: u32 = 0x0002_0000;
const SIGN: u32 = 0x0004_0000;

pub fn kind(random: &mut Random, slow: bool) -> Kind {
    if slow && random.one_in(20) {
        Kind::RsaDecrypt
    } else {
        random.pick(KINDS)
    }
}

fn signing_scheme(random: &mut Random, ecc: bool) -> Vec<u8> {
    let ids: &[u16] = if ecc {
        &[0x10, 0x18, 0x1A, 0x1C]
    } else {
        &[0x10, 0x14, 0x16]
    };
    let mut id = random.pick(ids);
    if random.one_in(15) {
        id = random.pick(&[
            0, 5, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x22, 0x41,
        ]);
    }
    let mut out = id.to_be_bytes().to_vec();
    if id != 0x10 && id != 0x15 {
        out.extend_from_slice(&random.pick(HASHES).to_be_bytes());
        if id == 0x1A {
            out.extend_from_slice(&[0, 0]);
        }
    }
    out
}

/// The contents of a TPM2B_PUBLIC.
pub fn public(random: &mut Random, kind: Kind, slow: bool) -> Vec<u8> {
    let rsa = kind == Kind::RsaDecrypt
        || (slow && matches!(kind, Kind::Storage | Kind::Signing) && random.one_in(12));
    let object: u16 = match kind {
        Kind::Hmac | Kind::Sealed => 0x08,
        Kind::Cipher => 0x25,
        _ if rsa => 0x01,
        _ => 0x23,
    };
    let mut attributes = COMMON
        | match kind {
            Kind::Storage => RESTRICTED | DECRYPT,
            Kind::Signing | Kind::Hmac => SIGN,
            Kind::Ecdh | Kind::RsaDecrypt => DECRYPT,
            Kind::Cipher => DECRYPT | SIGN,
            Kind::Sealed => 0,
        };
    if kind == Kind::Sealed {
        attributes &= !0x20;
    }
    if random.one_in(2) {
        attributes |= NO_DA;
    }
    if kind == Kind::Signing && random.one_in(4) {
        attributes |= RESTRICTED;
    }
    if random.one_in(5) {
        // Duplicable.
        attributes &= !0x12;
    }
    if random.one_in(12) {
        attributes ^= 1 << random.below(32);
    }
    let mut out = object.to_be_bytes().to_vec();
    out.extend_from_slice(&random.pick(HASHES).to_be_bytes());
    if random.one_in(40) {
        out[2..4].copy_from_slice(&random.pick(&[0x10u16, 0x12, 0x27, 0]).to_be_bytes());
    }
    out.extend_from_slice(&attributes.to_be_bytes());
    let policy = if random.one_in(12) {
        random.pick(&[32, 20, 48, 5])
    } else {
        0
    };
    out.extend_from_slice(&blob(&vec![7; policy]));
    parameters(random, kind, rsa, &mut out);
    if random.one_in(25) {
        let at = random.below(out.len());
        out[at] ^= random.next() as u8;
    }
    out
}

fn symmetric(random: &mut Random, out: &mut Vec<u8>) {
    let (alg, bits, mode) = if random.one_in(12) {
        (
            random.pick(&[6u16, 0x10, 0x13, 0x26, 0x0A]),
            random.pick(&[128u16, 192, 256, 64]),
            random.pick(&[0x43u16, 0x40, 0x10]),
        )
    } else {
        (6, random.pick(&[128, 128, 256]), 0x43)
    };
    out.extend_from_slice(&alg.to_be_bytes());
    if alg != 0x10 {
        out.extend_from_slice(&bits.to_be_bytes());
        out.extend_from_slice(&mode.to_be_bytes());
    }
}

fn parameters(random: &mut Random, kind: Kind, rsa: bool, out: &mut Vec<u8>) {
    const NULL: [u8; 2] = [0, 0x10];
    match kind {
        Kind::Hmac => {
            if random.one_in(3) {
                out.extend_from_slice(&NULL);
            } else {
                out.extend_from_slice(&[0, 5]);
                out.extend_from_slice(&random.pick(HASHES).to_be_bytes());
            }
            out.extend_from_slice(&[0, 0]);
        }
        Kind::Sealed => out.extend_from_slice(&[0, 0x10, 0, 0]),
        Kind::Cipher => {
            let mode = random.pick(&[0x43u16, 0x40, 0x41, 0x42, 0x44, 0x10, 0x10]);
            out.extend_from_slice(&[0, 6]);
            out.extend_from_slice(&random.pick(&[128u16, 256, 192]).to_be_bytes());
            out.extend_from_slice(&mode.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
        _ => {
            if kind == Kind::Storage {
                symmetric(random, out);
                out.extend_from_slice(&NULL);
            } else {
                out.extend_from_slice(&NULL);
                match kind {
                    Kind::Signing => {
                        let scheme = signing_scheme(random, !rsa);
                        out.extend_from_slice(&scheme);
                    }
                    _ => out.extend_from_slice(&NULL),
                }
            }
            if rsa {
                let bits = if random.one_in(10) {
                    random.pick(&[1024u16, 512, 2047, 4096])
                } else {
                    2048
                };
                out.extend_from_slice(&bits.to_be_bytes());
                let exponent = if random.one_in(10) {
                    random.pick(&[3u32, 65537, 65536, 257])
                } else {
                    0
                };
                out.extend_from_slice(&exponent.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            } else {
                let curve = if random.one_in(12) {
                    random.pick(&[4u16, 5, 0x10, 0, 9])
                } else {
                    3
                };
                out.extend_from_slice(&curve.to_be_bytes());
                out.extend_from_slice(&NULL);
                out.extend_from_slice(&[0, 0, 0, 0]);
            }
        }
    }
}

/// A sensitive area for creation: authorization value and data.
pub fn sensitive(random: &mut Random, kind: Kind, auth: &[u8]) -> Vec<u8> {
    let data = match kind {
        Kind::Sealed => {
            let size = random.pick(&[1, 8, 32, 64, 128]);
            random.bytes(size)
        }
        _ if random.one_in(30) => random.bytes(16),
        _ => Vec::new(),
    };
    [blob(auth), blob(&data)].concat()
}
