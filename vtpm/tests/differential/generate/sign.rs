//! Signatures and their verification, also of the other side's signatures.

use vtpm::crypto::HashAlg;

use super::{
    Generator,
    model::{HASHES, NULL, Object, RESTRICTED, SIGN},
    templates::Kind,
};
use crate::{
    random::Random,
    step::{ENGINE, Step},
};

/// TPMT_SIG_SCHEME for a key: of its own when it has one, else one that fits.
pub fn scheme_for(random: &mut Random, key: &Object) -> Vec<u8> {
    let own = own_scheme(key);
    if own != 0x10 && random.one_in(2) {
        return vec![0, 0x10];
    }
    let id = match (own, key.algorithm()) {
        (0x10, 0x01) => random.pick(&[0x14u16, 0x16]),
        (0x10, 0x23) => random.pick(&[0x18u16, 0x18, 0x1C]),
        (0x10, _) => 5,
        (own, _) => own,
    };
    let id = if random.one_in(25) {
        random.pick(&[0x10, 0x14, 0x16, 0x18, 0x1A, 0x1C, 5, 0x41])
    } else {
        id
    };
    let mut out = id.to_be_bytes().to_vec();
    if id != 0x10 {
        let hash = if own == 0x10 || random.one_in(15) {
            random.pick(HASHES)
        } else {
            own_hash(key)
        };
        out.extend_from_slice(&hash.to_be_bytes());
    }
    if id == 0x1A {
        out.extend_from_slice(&[0, 0]);
    }
    out
}

fn scheme_at(key: &Object) -> usize {
    let parameters = key.parameters(ENGINE);
    match (key.algorithm(), parameters) {
        (0x08, _) | (_, [0, 0x10, ..]) => 2 * usize::from(key.algorithm() != 0x08),
        _ => 6,
    }
}

fn word(key: &Object, at: usize) -> u16 {
    let parameters = key.parameters(ENGINE);
    parameters
        .get(at..at + 2)
        .map_or(0x10, |b| u16::from_be_bytes([b[0], b[1]]))
}

/// The scheme in a key's parameters.
pub fn own_scheme(key: &Object) -> u16 {
    word(key, scheme_at(key))
}

fn own_hash(key: &Object) -> u16 {
    word(key, scheme_at(key) + 2)
}

/// The hash that a key signs with when asked for `scheme`.
fn hash_of(key: &Object, scheme: &[u8]) -> HashAlg {
    let id = match scheme {
        [_, _, a, b, ..] => u16::from_be_bytes([*a, *b]),
        _ => own_hash(key),
    };
    HashAlg::from_id(id).unwrap_or(HashAlg::Sha256)
}

/// Ends a TPM2_Sign whose digest is there already with a scheme for this hash.
pub fn null_scheme(step: Step, key: &Object, alg: HashAlg) -> Step {
    if own_scheme(key) != 0x10 {
        return step.u16(0x10);
    }
    let id = match key.algorithm() {
        0x01 => 0x14u16,
        0x23 => 0x18,
        _ => 5,
    };
    step.u16(id).u16(alg.id())
}

impl Generator {
    /// A TPM2_Sign by `key` up to the digest, and the hash it signs with.
    pub(super) fn signing(
        &mut self,
        random: &mut Random,
        key: &Object,
        wanted: Option<HashAlg>,
    ) -> (Step, HashAlg) {
        let alg = if own_scheme(key) == 0x10 {
            wanted.unwrap_or(HashAlg::Sha256)
        } else {
            HashAlg::from_id(own_hash(key)).unwrap_or(HashAlg::Sha256)
        };
        let auth = self.auth(random, key.handle.handle[ENGINE], &key.auth);
        (Step::new(0x15D).handle(key.handle.clone()).auth(auth), alg)
    }

    pub(super) fn sign(&mut self, random: &mut Random) -> Step {
        let signs =
            |object: &Object| object.has(SIGN) && object.algorithm() != 0x25 && !object.public_only;
        let Some(key) = self.object(random, signs) else {
            return self.provide(random, Kind::Signing);
        };
        if key.has(RESTRICTED) && !random.one_in(5) {
            return self.sign_with_ticket(random, key);
        }
        let scheme = scheme_for(random, &key);
        let size = hash_of(&key, &scheme).size();
        let size = if random.one_in(20) {
            random.pick(&[0, 5, 20, 32, 64, 65])
        } else {
            size
        };
        let digest = random.bytes(size);
        let ecdaa = own_scheme(&key) == 0x1A;
        if ecdaa && !random.one_in(4) {
            return self.sign_committed(random, key, digest);
        }
        self.with_object(random, key, 0x15D, move |_, _, key, auth| {
            let verified = (key.clone(), digest.clone());
            Step::new(0x15D)
                .handle(key.handle)
                .auth(auth)
                .blob(&digest)
                .bytes(scheme)
                .u16(0x8024)
                .u32(NULL)
                .u16(0)
                .then(move |generator, answer| {
                    let (key, digest) = verified;
                    let signature = answer.parameters.clone();
                    generator.soon(move |generator, random| {
                        Some(generator.verify_both(random, key, digest, signature))
                    });
                })
        })
    }

    /// A restricted key signs what the TPM has hashed.
    fn sign_with_ticket(&mut self, random: &mut Random, key: Object) -> Step {
        let scheme = scheme_for(random, &key);
        let alg = hash_of(&key, &scheme);
        let size = random.pick(&[10usize, 100, 1024]);
        let mut data = random.bytes(size);
        if random.one_in(8) {
            // What only the TPM itself may sign.
            data[..4].copy_from_slice(&[0xFF, 0x54, 0x43, 0x47]);
        }
        let hierarchy = if key.hierarchy == NULL {
            super::model::OWNER
        } else {
            key.hierarchy
        };
        Step::new(0x17D)
            .blob(data)
            .u16(alg.id())
            .u32(hierarchy)
            .then(move |generator, answer| {
                let (digest, ticket) = (answer.blob(0), answer.after(1));
                generator.soon(move |generator, random| {
                    let auth = generator.auth(random, key.handle.handle[ENGINE], &key.auth);
                    Some(
                        Step::new(0x15D)
                            .handle(key.handle)
                            .auth(auth)
                            .each_blob(&digest)
                            .bytes(scheme)
                            .each(&ticket),
                    )
                });
            })
    }

    /// Verifies a signature with the key that made it; sometimes a wrong one.
    fn verify_both(
        &mut self,
        random: &mut Random,
        key: Object,
        digest: Vec<u8>,
        signature: [Vec<u8>; 2],
    ) -> Step {
        let mut digest = digest;
        if random.one_in(6)
            && let Some(byte) = digest.first_mut()
        {
            *byte ^= 1;
        }
        // Crosswise: each side's signature goes to the other side.
        if random.one_in(2) && self.slots() < 3 && matches!(key.algorithm(), 1 | 0x23) {
            let (mut public, mut signature) = (key.public.clone(), signature.clone());
            public.reverse();
            signature.reverse();
            return Step::new(0x167).u16(0).each_blob(&public).u32(NULL).then(
                move |generator, answer| {
                    let handle = answer.handle;
                    let name = answer.blob(0);
                    generator.soon(move |generator, _| {
                        generator.soon(move |_, _| Some(super::session::flush(handle)));
                        Some(
                            Step::new(0x177)
                                .handle(crate::step::Handle { handle, name })
                                .blob(&digest)
                                .each(&signature),
                        )
                    });
                },
            );
        }
        Step::new(0x177)
            .handle(key.handle)
            .blob(&digest)
            .each(&signature)
    }

    /// Signatures that cannot verify.
    pub(super) fn verify(&mut self, random: &mut Random) -> Step {
        if !random.one_in(3) {
            return self.sign(random);
        }
        let Some(object) = self.object(random, |object| object.has(SIGN)) else {
            return self.sign(random);
        };
        let alg = random.pick(HASHES);
        let digest = random.bytes(HashAlg::from_id(alg).map_or(32, HashAlg::size));
        let step = Step::new(0x177).handle(object.handle.clone()).blob(digest);
        match random.below(7) {
            0 => step.u16(0x10),
            1 => step
                .u16(random.pick(&[0x14, 0x16]))
                .u16(alg)
                .blob(random.bytes(256)),
            2 => step
                .u16(5)
                .u16(alg)
                .bytes(random.bytes(HashAlg::from_id(alg).map_or(20, HashAlg::size))),
            3 => step
                .u16(0x1C)
                .u16(alg)
                .blob(random.bytes(32))
                .blob(random.bytes(32)),
            4 => step
                .u16(0x1A)
                .u16(alg)
                .blob(random.bytes(32))
                .blob(random.bytes(32)),
            5 => step.u16(0x18).u16(alg).blob(random.bytes(20)).blob(b""),
            _ => step
                .u16(0x18)
                .u16(alg)
                .blob(random.bytes(32))
                .blob(random.bytes(32)),
        }
    }
}
