//! What the generator knows about what the TPMs hold.

use std::rc::Rc;

use vtpm::crypto::{Curve, HashAlg, Point, hash};

use super::templates::Kind;
use crate::{
    authorize::{Auth, Proof, Symmetric, Use},
    fields,
    random::Random,
    step::{ENGINE, Handle, Pair, Part, REFERENCE, Step, split_blob},
};

pub const OWNER: u32 = 0x4000_0001;
pub const NULL: u32 = 0x4000_0007;
pub const LOCKOUT: u32 = 0x4000_000A;
pub const ENDORSEMENT: u32 = 0x4000_000B;
pub const PLATFORM: u32 = 0x4000_000C;
pub const HIERARCHIES: &[u32] = &[OWNER, OWNER, NULL, ENDORSEMENT, PLATFORM];
pub const PASSWORDS: &[&[u8]] = &[b"", b"", b"secret", b"0123456789abcdef"];
pub const HASHES: &[u16] = &[0x0B, 0x0B, 0x0B, 0x0C, 0x04, 0x0D];

pub const USER_WITH_AUTH: u32 = 1 << 6;
pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
pub const NO_DA: u32 = 1 << 10;
pub const RESTRICTED: u32 = 1 << 16;
pub const DECRYPT: u32 = 1 << 17;
pub const SIGN: u32 = 1 << 18;

/// creationHash and creationTicket.
pub type Creation = (Pair<Vec<u8>>, Pair<Vec<u8>>);

/// A loaded or persistent object.
#[derive(Clone)]
pub struct Object {
    pub handle: Handle,
    pub kind: Kind,
    pub auth: Vec<u8>,
    /// TPMT_PUBLIC
    pub public: Pair<Vec<u8>>,
    /// The policy it was made with.
    pub recipe: Option<Rc<Recipe>>,
    /// What was sealed.
    pub data: Option<Vec<u8>>,
    /// Only the public part is loaded.
    pub public_only: bool,
    pub hierarchy: u32,
    /// Name of the parent it was loaded under.
    pub parent: Option<Pair<Vec<u8>>>,
    /// creationHash and ticket, of a primary object.
    pub creation: Option<Creation>,
}

impl Object {
    pub fn is_persistent(&self) -> bool {
        self.handle.handle[ENGINE] >> 24 == 0x81
    }

    fn word(&self, at: usize) -> u16 {
        let public = &self.public[REFERENCE];
        u16::from_be_bytes([
            public.get(at).copied().unwrap_or(0),
            public.get(at + 1).copied().unwrap_or(0),
        ])
    }

    pub fn algorithm(&self) -> u16 {
        self.word(0)
    }

    pub fn name_alg(&self) -> Option<HashAlg> {
        HashAlg::from_id(self.word(2))
    }

    pub fn attributes(&self) -> u32 {
        u32::from(self.word(4)) << 16 | u32::from(self.word(6))
    }

    pub fn has(&self, attribute: u32) -> bool {
        self.attributes() & attribute != 0
    }

    /// What follows the policy in the public area: parameters and unique.
    pub fn parameters(&self, side: usize) -> &[u8] {
        self.public[side]
            .get(8..)
            .and_then(split_blob)
            .map_or(&[], |(_, rest)| rest)
    }

    /// The unique part of the public area.
    pub fn unique(&self, side: usize) -> &[u8] {
        let parameters = self.parameters(side);
        fields::parameters(parameters, self.algorithm())
            .and_then(|size| parameters.get(size..))
            .unwrap_or_default()
    }

    /// The curve of an ECC key.
    pub fn curve(&self) -> Option<Curve> {
        let parameters = self.parameters(ENGINE);
        let word = |at: usize| {
            Some(u16::from_be_bytes([
                *parameters.get(at)?,
                *parameters.get(at + 1)?,
            ]))
        };
        let mut at = if word(0)? == 0x10 { 2 } else { 6 };
        at += match word(at)? {
            0x10 => 2,
            0x1A => 6,
            _ => 4,
        };
        Curve::from_id(word(at)?).filter(|_| self.algorithm() == 0x23)
    }

    /// The point of an ECC key.
    pub fn point(&self, side: usize) -> Option<Point> {
        let (x, rest) = split_blob(self.unique(side))?;
        let (y, _) = split_blob(rest)?;
        Some(Point {
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }
}

/// A private and public part that can be loaded.
#[derive(Clone)]
pub struct Created {
    pub private: Pair<Vec<u8>>,
    pub public: Pair<Vec<u8>>,
    pub kind: Kind,
    pub auth: Vec<u8>,
    pub recipe: Option<Rc<Recipe>>,
    pub data: Option<Vec<u8>>,
    /// Name of the parent.
    pub parent: Pair<Vec<u8>>,
    pub creation: Option<Creation>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionKind {
    Hmac,
    Policy,
    Trial,
}

#[derive(Clone)]
pub struct Session {
    pub handle: Pair<u32>,
    pub kind: SessionKind,
    pub alg: HashAlg,
    pub symmetric: Symmetric,
    pub nonce: Pair<Vec<u8>>,
    pub key: Pair<Vec<u8>>,
    /// Handle and authorization value of the entity it is bound to.
    pub bound: Option<(u32, Vec<u8>)>,
    /// What its policy asks for.
    pub needs_value: bool,
    pub needs_password: bool,
    /// Its policy digest depends on something that differs between the sides.
    pub differs: bool,
}

impl Session {
    pub fn as_handle(&self) -> Handle {
        Handle::of(self.handle)
    }

    fn uses(&self, random: &mut Random, attributes: u8) -> Use {
        let size = random.pick(&[16, 16, 20, 32]);
        Use {
            handle: self.handle,
            alg: self.alg,
            symmetric: self.symmetric,
            nonce: self.nonce.clone(),
            nonce_caller: random.bytes(size),
            attributes,
            bound: self.bound.is_some(),
            key: self.key.clone(),
            value: Vec::new(),
            encryption_value: Vec::new(),
            proof: Proof::Hmac,
        }
    }

    /// To authorize an entity with this value.
    pub fn authorize(
        &self,
        random: &mut Random,
        attributes: u8,
        entity: u32,
        value: &[u8],
    ) -> Auth {
        let mut used = self.uses(random, attributes);
        used.encryption_value = value.to_vec();
        match self.kind {
            SessionKind::Hmac => {
                let bound = self
                    .bound
                    .as_ref()
                    .is_some_and(|(handle, bound)| *handle == entity && bound == value);
                if !bound {
                    used.value = value.to_vec();
                }
            }
            _ if self.needs_password => used.proof = Proof::Plain(value.to_vec()),
            _ => {
                if self.needs_value {
                    used.value = value.to_vec();
                }
                if self.key[ENGINE].is_empty() && used.value.is_empty() {
                    used.proof = Proof::Empty;
                }
            }
        }
        Auth::Session(Box::new(used))
    }

    /// To audit or to encrypt, without authorizing anything.
    pub fn accompany(&self, random: &mut Random, attributes: u8) -> Auth {
        let mut used = self.uses(random, attributes);
        if self.kind != SessionKind::Hmac && self.key[ENGINE].is_empty() {
            used.proof = Proof::Empty;
        }
        Auth::Session(Box::new(used))
    }
}

/// A policy command without its session.
#[derive(Clone)]
pub struct Assertion {
    pub code: u32,
    /// Handles before the policy session's.
    pub handles: Vec<Handle>,
    pub auths: Vec<Auth>,
    pub parameters: Vec<Part>,
    pub locality: u8,
    /// What it adds to the digest differs between the sides.
    pub differs: bool,
}

impl Assertion {
    pub fn new(code: u32) -> Self {
        Self {
            code,
            handles: Vec::new(),
            auths: Vec::new(),
            parameters: Vec::new(),
            locality: 0,
            differs: false,
        }
    }

    /// Takes over what a step has besides its session.
    pub fn of(step: Step) -> Self {
        Self {
            code: step.code,
            handles: step.handles,
            auths: step.auths,
            parameters: step.parameters,
            locality: step.locality,
            differs: step.differs,
        }
    }
}

/// A policy: what to assert, and the digest that comes of it.
pub struct Recipe {
    pub alg: HashAlg,
    pub assertions: Vec<Assertion>,
    pub digest: Pair<Vec<u8>>,
    pub differs: bool,
    /// Only for this command.
    pub code: Option<u32>,
    /// Only from this locality.
    pub locality: u8,
}

/// An NV index.
#[derive(Clone)]
pub struct Index {
    pub index: u32,
    pub size: u16,
    pub auth: Vec<u8>,
    pub attributes: u32,
    /// TPMS_NV_PUBLIC
    pub public: Pair<Vec<u8>>,
    pub recipe: Option<Rc<Recipe>>,
    /// Its contents differ between the sides.
    pub differs: bool,
}

pub const NV_WRITTEN: u32 = 1 << 29;
pub const NV_PLATFORM_CREATE: u32 = 1 << 30;

impl Index {
    pub fn kind(&self) -> u32 {
        self.attributes >> 4 & 0xF
    }

    pub fn has(&self, attribute: u32) -> bool {
        self.attributes & attribute != 0
    }

    pub fn handle(&self) -> Handle {
        let name = [ENGINE, REFERENCE].map(|side| {
            let public = &self.public[side];
            let id = u16::from_be_bytes([public[4], public[5]]);
            HashAlg::from_id(id).map_or_else(Vec::new, |alg| {
                [&id.to_be_bytes()[..], &hash(alg, &[public])].concat()
            })
        });
        Handle {
            handle: [self.index; 2],
            name,
        }
    }

    pub fn set(&mut self, attributes: u32) {
        self.attributes |= attributes;
        for public in &mut self.public {
            public[6..10].copy_from_slice(&self.attributes.to_be_bytes());
        }
    }
}

/// A saved context.
#[derive(Clone)]
pub struct SavedContext {
    pub bytes: Pair<Vec<u8>>,
    pub what: Saved,
}

#[derive(Clone)]
pub enum Saved {
    Object(Object),
    Session(Session),
    Sequence(Sequence),
}

/// A hash, HMAC or event sequence.
#[derive(Clone)]
pub struct Sequence {
    pub handle: Pair<u32>,
    pub auth: Vec<u8>,
    /// It began with an algorithm of TPM_ALG_NULL.
    pub event: bool,
    /// It has another key on each side.
    pub differs: bool,
}

impl Sequence {
    pub fn as_handle(&self) -> Handle {
        Handle {
            handle: self.handle,
            name: [Vec::new(), Vec::new()],
        }
    }
}

/// What TPM2_Commit or TPM2_EC_Ephemeral began.
#[derive(Clone)]
pub struct Commit {
    pub counter: Pair<u16>,
    /// Name of the key, empty for an ephemeral one.
    pub name: Pair<Vec<u8>>,
}
