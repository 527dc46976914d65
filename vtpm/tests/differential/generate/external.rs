//! Keys from outside: the same on both sides, so that what they do can be compared exactly.

use std::sync::OnceLock;

use vtpm::crypto::{Crypto, Curve, HashAlg, KdfRng, Native, hash};

use super::{
    Generator,
    create::Wanted,
    model::{HIERARCHIES, NULL, Object, RESTRICTED},
    templates::Kind,
};
use crate::{
    random::Random,
    step::{Handle, Pair, Step, blob, both, split_blob},
};

/// What comes from outside.
const KINDS: &[Kind] = &[
    Kind::Hmac,
    Kind::Cipher,
    Kind::Sealed,
    Kind::Signing,
    Kind::Signing,
    Kind::Ecdh,
    Kind::RsaDecrypt,
    Kind::Storage,
];

/// Modulus and one prime.
type RsaKey = (u16, Vec<u8>, Vec<u8>);

/// A few RSA keys, made once.
fn rsa_keys() -> &'static [RsaKey] {
    static KEYS: OnceLock<Vec<RsaKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut rng = KdfRng::new(HashAlg::Sha256, b"external", "rsa", &[]);
        [1024, 2048]
            .into_iter()
            .filter_map(|bits| {
                let (modulus, prime) = Native.rsa_generate(bits, 65537, &mut rng).ok()?;
                Some((bits, modulus, prime.to_vec()))
            })
            .collect()
    })
}

/// An object and its sensitive area (TPMT_SENSITIVE), the same on both sides.
pub struct Outside {
    pub wanted: Wanted,
    pub sensitive: Vec<u8>,
}

impl Generator {
    /// An object that was made outside, for LoadExternal and Import.
    pub(super) fn outside(&self, random: &mut Random, kind: Option<Kind>) -> Outside {
        let kind = kind.unwrap_or_else(|| random.pick(KINDS));
        let mut wanted = self.wanted(random, kind);
        wanted.template = wanted.template.outside();
        if !random.one_in(8) {
            if kind == Kind::Signing && wanted.template.attributes & RESTRICTED != 0 {
                wanted.template.attributes &= !RESTRICTED;
            }
            // Differing policies would make differing names.
            wanted.recipe = wanted.recipe.filter(|recipe| !recipe.differs);
        }
        let alg = HashAlg::from_id(wanted.template.name_alg).unwrap_or(HashAlg::Sha256);
        let (mut seed, secret) = match wanted.template.algorithm {
            0x23 => {
                let at = wanted.template.parameters.len() - 4;
                let id = u16::from_be_bytes([
                    wanted.template.parameters[at],
                    wanted.template.parameters[at + 1],
                ]);
                let curve = Curve::from_id(id).unwrap_or(Curve::P256);
                let mut rng =
                    KdfRng::new(HashAlg::Sha256, &[random.below(4) as u8], "external", &[]);
                match Native.ecc_generate(curve, &mut rng) {
                    Ok((d, point)) => {
                        wanted.template.unique = [blob(&point.x), blob(&point.y)].concat();
                        (Vec::new(), d.to_vec())
                    }
                    Err(_) => (Vec::new(), Vec::new()),
                }
            }
            0x01 => {
                let Some((bits, modulus, prime)) = random.choose(rsa_keys()).cloned() else {
                    unreachable!("there are RSA keys");
                };
                let at = wanted.template.parameters.len() - 6;
                wanted.template.parameters[at..at + 2].copy_from_slice(&bits.to_be_bytes());
                if !random.one_in(10) {
                    wanted.template.parameters[at + 2..].copy_from_slice(&[0; 4]);
                }
                wanted.template.unique = blob(&modulus);
                (Vec::new(), prime)
            }
            _ => {
                let seed = random.bytes(alg.size());
                let secret = match kind {
                    Kind::Cipher => {
                        let bits = u16::from_be_bytes([
                            wanted.template.parameters[2],
                            wanted.template.parameters[3],
                        ]);
                        random.bytes(usize::from(bits / 8))
                    }
                    Kind::Sealed => wanted.data.clone().unwrap_or_default(),
                    _ => random.bytes(random_key(alg)),
                };
                wanted.template.unique = blob(&hash(alg, &[&seed, &secret]));
                (seed, secret)
            }
        };
        if kind == Kind::Storage {
            // The seed of its children.
            seed = random.bytes(alg.size());
        }
        let sensitive = [
            &wanted.template.algorithm.to_be_bytes()[..],
            &blob(&wanted.auth),
            &blob(&seed),
            &blob(&secret),
        ]
        .concat();
        Outside { wanted, sensitive }
    }

    /// A way to an object of this kind; first room for it.
    pub(super) fn provide(&mut self, random: &mut Random, kind: Kind) -> Step {
        if self.slots() >= 3 && !random.one_in(10) {
            return self.flush_object(random);
        }
        if !matches!(kind, Kind::Storage | Kind::Derivation) && random.one_in(2) {
            return self.load_outside(random, Some(kind), false);
        }
        self.primary_of(random, kind)
    }

    pub(super) fn load_external(&mut self, random: &mut Random) -> Step {
        let hierarchy = if random.one_in(2) {
            NULL
        } else {
            random.pick(HIERARCHIES)
        };
        if random.one_in(4)
            && let Some(object) = self.object(random, |_| true)
        {
            // The public part of something that is there; or of the other side's, crosswise.
            let mut public = object.public.clone();
            if random.one_in(2) {
                public.reverse();
            }
            return Step::new(0x167)
                .u16(0)
                .each_blob(&public.clone())
                .u32(hierarchy)
                .then(move |generator, answer| {
                    generator.objects.push(Object {
                        handle: Handle {
                            handle: answer.handle,
                            name: answer.blob(0),
                        },
                        public,
                        public_only: true,
                        hierarchy,
                        parent: None,
                        creation: None,
                        ..object
                    });
                });
        }
        let public_only = random.one_in(5);
        self.load_outside(random, None, public_only)
    }

    fn load_outside(&mut self, random: &mut Random, kind: Option<Kind>, public_only: bool) -> Step {
        let hierarchy = random.pick(HIERARCHIES);
        let Outside { wanted, sensitive } = self.outside(random, kind);
        let public = wanted.public();
        let hierarchy = if public_only || random.one_in(20) {
            hierarchy
        } else {
            NULL
        };
        let step = Step::new(0x167);
        let step = if public_only {
            step.u16(0)
        } else {
            step.blob(&sensitive)
        };
        step.each_blob(&public)
            .u32(hierarchy)
            .then(move |generator, answer| {
                generator.objects.push(Object {
                    handle: Handle {
                        handle: answer.handle,
                        name: answer.blob(0),
                    },
                    kind: wanted.kind,
                    auth: wanted.auth,
                    public,
                    recipe: wanted.recipe,
                    data: wanted.data,
                    public_only,
                    hierarchy,
                    parent: None,
                    creation: None,
                });
            })
    }
}

fn random_key(alg: HashAlg) -> usize {
    alg.size()
}

/// The last TPM2B of answers whose TPM2Bs and tickets follow one another, as a name does.
pub fn last_blob(parameters: &Pair<Vec<u8>>) -> Pair<Vec<u8>> {
    let mut out = both(Vec::new());
    for (out, bytes) in out.iter_mut().zip(parameters) {
        // A name: algorithm and digest. Its size says where it begins.
        for size in [22usize, 34, 50, 66] {
            let Some(start) = bytes.len().checked_sub(size + 2) else {
                continue;
            };
            if let Some((name, [])) = split_blob(&bytes[start..])
                && HashAlg::from_id(u16::from_be_bytes([name[0], name[1]]))
                    .is_some_and(|alg| alg.size() + 2 == size)
            {
                *out = name.to_vec();
            }
        }
    }
    out
}
