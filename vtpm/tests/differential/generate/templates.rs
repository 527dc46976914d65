//! Public areas of every kind, right ones and nearly right ones.

use super::model::{ADMIN_WITH_POLICY, DECRYPT, HASHES, NO_DA, RESTRICTED, SIGN, USER_WITH_AUTH};
use crate::{
    random::Random,
    step::{Pair, blob},
};

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
    /// A parent of derived objects.
    Derivation,
}

const KINDS: &[Kind] = &[
    Kind::Storage,
    Kind::Storage,
    Kind::Signing,
    Kind::Signing,
    Kind::Signing,
    Kind::Ecdh,
    Kind::Hmac,
    Kind::Sealed,
    Kind::Cipher,
    Kind::Derivation,
];

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const ORIGIN: u32 = 1 << 5;
const X509_SIGN: u32 = 1 << 19;
const NULL: [u8; 2] = [0, 0x10];

pub fn kind(random: &mut Random) -> Kind {
    if random.one_in(40) {
        Kind::RsaDecrypt
    } else {
        random.pick(KINDS)
    }
}

/// A public area whose policy is not there yet.
#[derive(Clone)]
pub struct Template {
    pub algorithm: u16,
    pub name_alg: u16,
    pub attributes: u32,
    /// Parameters.
    pub parameters: Vec<u8>,
    pub unique: Vec<u8>,
}

impl Template {
    /// TPMT_PUBLIC
    pub fn with_policy(&self, policy: &[u8]) -> Vec<u8> {
        [
            &self.algorithm.to_be_bytes()[..],
            &self.name_alg.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &blob(policy),
            &self.parameters,
            &self.unique,
        ]
        .concat()
    }

    /// TPMT_PUBLIC of each side.
    pub fn with_policies(&self, policy: &Pair<Vec<u8>>) -> Pair<Vec<u8>> {
        policy.each_ref().map(|policy| self.with_policy(policy))
    }

    /// Not made by a TPM: fixedTPM, fixedParent and sensitiveDataOrigin clear.
    pub fn outside(mut self) -> Self {
        self.attributes &= !(FIXED_TPM | FIXED_PARENT | ORIGIN);
        self
    }

    pub fn duplicable(mut self) -> Self {
        self.attributes &= !(FIXED_TPM | FIXED_PARENT);
        self
    }
}

fn signing_scheme(random: &mut Random, ecc: bool) -> Vec<u8> {
    let ids: &[u16] = if ecc {
        &[0x10, 0x10, 0x18, 0x18, 0x1A, 0x1C]
    } else {
        &[0x10, 0x14, 0x16]
    };
    let mut id = random.pick(ids);
    if random.one_in(50) {
        id = random.pick(&[
            0, 5, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x22, 0x41,
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

fn attributes(random: &mut Random, kind: Kind) -> u32 {
    let mut attributes = FIXED_TPM | FIXED_PARENT | ORIGIN | USER_WITH_AUTH;
    attributes |= match kind {
        Kind::Storage | Kind::Derivation => RESTRICTED | DECRYPT,
        Kind::Signing | Kind::Hmac => SIGN,
        Kind::Ecdh | Kind::RsaDecrypt => DECRYPT,
        Kind::Cipher => random.pick(&[DECRYPT | SIGN, DECRYPT | SIGN, DECRYPT, SIGN]),
        Kind::Sealed => 0,
    };
    if kind == Kind::Sealed {
        attributes &= !ORIGIN;
    }
    if random.one_in(2) {
        attributes |= NO_DA;
    }
    if kind == Kind::Signing && random.one_in(5) {
        attributes |= RESTRICTED;
    }
    if kind == Kind::Signing && random.one_in(4) {
        attributes |= X509_SIGN;
    }
    if kind == Kind::Signing && random.one_in(10) {
        attributes |= DECRYPT;
    }
    if random.one_in(20) {
        attributes |= ADMIN_WITH_POLICY;
    }
    if random.one_in(5) {
        attributes &= !(FIXED_TPM | FIXED_PARENT);
        if random.one_in(6) {
            // encryptedDuplication
            attributes |= 1 << 11;
        }
    }
    if random.one_in(30) {
        // stClear
        attributes |= 1 << 2;
    }
    if random.one_in(40) {
        attributes ^= 1 << random.below(32);
    }
    attributes
}

/// A template; RSA keys are rare, since they take long.
pub fn template(random: &mut Random, kind: Kind) -> Template {
    let rsa = kind == Kind::RsaDecrypt
        || (matches!(kind, Kind::Storage | Kind::Signing) && random.one_in(40));
    let algorithm: u16 = match kind {
        Kind::Hmac | Kind::Sealed | Kind::Derivation => 0x08,
        Kind::Cipher => 0x25,
        _ if rsa => 0x01,
        _ => 0x23,
    };
    let attributes = attributes(random, kind);
    let name_alg = if random.one_in(80) {
        random.pick(&[0x10u16, 0x12, 0x27, 0])
    } else {
        random.pick(HASHES)
    };
    let restricted = attributes & RESTRICTED != 0;
    let parameters = parameters(
        random,
        kind,
        rsa,
        name_alg,
        restricted && attributes & DECRYPT != 0,
    );
    let unique = if algorithm == 0x23 {
        vec![0; 4]
    } else {
        vec![0; 2]
    };
    Template {
        algorithm,
        name_alg,
        attributes,
        parameters,
        unique,
    }
}

fn symmetric(random: &mut Random, out: &mut Vec<u8>) {
    let (alg, bits, mode) = if random.one_in(40) {
        (
            random.pick(&[6u16, 0x10, 0x13, 0x0A]),
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

fn parameters(random: &mut Random, kind: Kind, rsa: bool, name_alg: u16, parent: bool) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        Kind::Hmac => {
            if random.one_in(3) {
                out.extend_from_slice(&NULL);
            } else {
                out.extend_from_slice(&[0, 5]);
                out.extend_from_slice(&random.pick(HASHES).to_be_bytes());
            }
        }
        Kind::Sealed => out.extend_from_slice(&NULL),
        Kind::Derivation => {
            out.extend_from_slice(&[0, 0x0A]);
            let hash = if random.one_in(10) {
                random.pick(HASHES)
            } else {
                name_alg
            };
            out.extend_from_slice(&hash.to_be_bytes());
            let kdf: u16 = if random.one_in(15) {
                random.pick(&[0x20, 0x10, 0x07])
            } else {
                0x22
            };
            out.extend_from_slice(&kdf.to_be_bytes());
        }
        Kind::Cipher => {
            let mode = random.pick(&[0x43u16, 0x40, 0x41, 0x42, 0x44, 0x10, 0x10]);
            out.extend_from_slice(&[0, 6]);
            let bits = if random.one_in(20) {
                192
            } else {
                random.pick(&[128u16, 256])
            };
            out.extend_from_slice(&bits.to_be_bytes());
            out.extend_from_slice(&mode.to_be_bytes());
        }
        _ => asymmetric(random, kind, rsa, parent, &mut out),
    }
    out
}

fn asymmetric(random: &mut Random, kind: Kind, rsa: bool, parent: bool, out: &mut Vec<u8>) {
    if parent {
        symmetric(random, out);
    } else {
        out.extend_from_slice(&NULL);
    }
    match kind {
        Kind::Signing => out.extend_from_slice(&signing_scheme(random, !rsa)),
        Kind::RsaDecrypt if random.one_in(2) => {
            out.extend_from_slice(random.pick(&[
                &[0, 0x15][..],
                &[0, 0x17, 0, 0x0B],
                &[0, 0x17, 0, 4],
            ]));
        }
        Kind::Ecdh if random.one_in(3) => out.extend_from_slice(&[0, 0x19, 0, 0x0B]),
        _ => out.extend_from_slice(&NULL),
    }
    if rsa {
        let bits = if random.one_in(10) {
            random.pick(&[512u16, 2047, 4096, 3072])
        } else {
            random.pick(&[1024, 2048, 2048])
        };
        out.extend_from_slice(&bits.to_be_bytes());
        let exponent = if random.one_in(10) {
            random.pick(&[3u32, 65537, 65536, 257])
        } else {
            0
        };
        out.extend_from_slice(&exponent.to_be_bytes());
    } else {
        let curve = if random.one_in(60) {
            random.pick(&[0u16, 9])
        } else {
            random.pick(&[3, 3, 3, 3, 3, 3, 3, 4, 5, 0x10])
        };
        out.extend_from_slice(&curve.to_be_bytes());
        out.extend_from_slice(&NULL);
    }
}

/// A sensitive area for creation: authorization value and data.
pub fn sensitive(auth: &[u8], data: &[u8]) -> Vec<u8> {
    [blob(auth), blob(data)].concat()
}

/// Data for an object of this kind.
pub fn data(random: &mut Random, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Sealed => {
            let size = random.pick(&[1, 8, 32, 64, 128]);
            random.bytes(size)
        }
        _ if random.one_in(60) => random.bytes(16),
        _ => Vec::new(),
    }
}
