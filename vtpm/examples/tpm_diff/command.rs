//! A command for two TPMs, whose handles, names and blobs differ.

use vtpm::crypto::{HashAlg, hash, hmac};

/// A value of each side: the engine's, the reference's.
pub type Pair<T> = [T; 2];

/// The engine's side of a [`Pair`].
pub const ENGINE: usize = 0;
/// The reference's side of a [`Pair`].
pub const REFERENCE: usize = 1;

/// A piece of the parameters.
#[derive(Clone)]
pub enum Part {
    Same(Vec<u8>),
    Each(Pair<Vec<u8>>),
}

/// A handle with the name that HMACs cover.
#[derive(Clone)]
pub struct Handle {
    pub handle: Pair<u32>,
    pub name: Pair<Vec<u8>>,
}

impl Handle {
    pub fn fixed(handle: u32) -> Self {
        Self {
            handle: [handle; 2],
            name: [handle.to_be_bytes().to_vec(), handle.to_be_bytes().to_vec()],
        }
    }
}

/// One session of the authorization area.
#[derive(Clone)]
pub enum Auth {
    Password(Vec<u8>),
    /// A policy session whose HMAC is empty, or carries this in its place.
    Policy(Pair<u32>, u8, Vec<u8>),
    /// An HMAC session without salt and bind: handle, hash, nonceTPM, attributes, key.
    Hmac(Pair<u32>, HashAlg, Pair<Vec<u8>>, u8, Vec<u8>),
}

/// Damage done to the finished bytes of both sides.
#[derive(Clone, Copy)]
pub enum Damage {
    /// XOR a byte at this offset, counted from the end.
    Flip(usize, u8),
    /// Cut bytes off the end, the size being right again.
    Shorten(usize),
    /// Add bytes, the size being right again.
    Lengthen(usize),
    /// A size that is wrong.
    Size(u32),
    /// Another tag.
    Tag(u16),
}

/// What the generator asks for.
#[derive(Clone)]
pub struct Step {
    /// Power off and on again before.
    pub power_cycle: bool,
    pub locality: u8,
    pub code: u32,
    pub handles: Vec<Handle>,
    pub auths: Vec<Auth>,
    pub parameters: Vec<Part>,
    pub damage: Option<Damage>,
}

impl Step {
    pub fn new(code: u32) -> Self {
        Self {
            power_cycle: false,
            locality: 0,
            code,
            handles: Vec::new(),
            auths: Vec::new(),
            parameters: Vec::new(),
            damage: None,
        }
    }

    pub fn handle(mut self, handle: Handle) -> Self {
        self.handles.push(handle);
        self
    }

    pub fn auth(mut self, auth: Auth) -> Self {
        self.auths.push(auth);
        self
    }

    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.parameters.push(Part::Same(bytes.as_ref().to_vec()));
        self
    }

    pub fn each(mut self, pair: &Pair<Vec<u8>>) -> Self {
        self.parameters.push(Part::Each(pair.clone()));
        self
    }

    pub fn u8(self, number: u8) -> Self {
        self.bytes([number])
    }

    pub fn u16(self, number: u16) -> Self {
        self.bytes(number.to_be_bytes())
    }

    pub fn u32(self, number: u32) -> Self {
        self.bytes(number.to_be_bytes())
    }

    pub fn u64(self, number: u64) -> Self {
        self.bytes(number.to_be_bytes())
    }

    pub fn blob(self, contents: impl AsRef<[u8]>) -> Self {
        self.bytes(blob(contents.as_ref()))
    }

    /// Whether both sides get the same bytes.
    pub fn is_same(&self) -> bool {
        self.build(ENGINE) == self.build(REFERENCE)
    }

    /// The bytes for one side.
    pub fn build(&self, side: usize) -> Vec<u8> {
        let mut parameters = Vec::new();
        for part in &self.parameters {
            parameters.extend_from_slice(match part {
                Part::Same(bytes) => bytes,
                Part::Each(pair) => &pair[side],
            });
        }
        let mut body = self.code.to_be_bytes().to_vec();
        for handle in &self.handles {
            body.extend_from_slice(&handle.handle[side].to_be_bytes());
        }
        if !self.auths.is_empty() {
            let area: Vec<u8> = self
                .auths
                .iter()
                .flat_map(|auth| self.session(auth, side, &parameters))
                .collect();
            body.extend_from_slice(&(area.len() as u32).to_be_bytes());
            body.extend_from_slice(&area);
        }
        body.extend_from_slice(&parameters);
        let tag: u16 = if self.auths.is_empty() {
            0x8001
        } else {
            0x8002
        };
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.extend_from_slice(&((body.len() + 6) as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        if let Some(damage) = self.damage {
            damage.apply(&mut bytes);
        }
        bytes
    }

    fn session(&self, auth: &Auth, side: usize, parameters: &[u8]) -> Vec<u8> {
        let build = |handle: u32, nonce: &[u8], attributes: u8, code: &[u8]| {
            [
                &handle.to_be_bytes()[..],
                &blob(nonce),
                &[attributes],
                &blob(code),
            ]
            .concat()
        };
        match auth {
            Auth::Password(password) => build(0x4000_0009, &[], 1, password),
            Auth::Policy(handle, attributes, code) => {
                build(handle[side], &[1; 16], *attributes, code)
            }
            Auth::Hmac(handle, alg, nonce, attributes, key) => {
                let code = self.code.to_be_bytes();
                let mut parts: Vec<&[u8]> = vec![&code];
                parts.extend(
                    self.handles
                        .iter()
                        .map(|handle| handle.name[side].as_slice()),
                );
                parts.push(parameters);
                let digest = hash(*alg, &parts);
                let caller = [2; 16];
                let mac = hmac(*alg, key, &[&digest, &caller, &nonce[side], &[*attributes]]);
                build(handle[side], &caller, *attributes, &mac)
            }
        }
    }
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let resize = |bytes: &mut Vec<u8>| {
            let size = (bytes.len() as u32).to_be_bytes();
            bytes[2..6].copy_from_slice(&size);
        };
        match self {
            Self::Flip(offset, mask) => {
                let index = bytes.len() - 1 - offset % (bytes.len() - 6);
                bytes[index] ^= mask;
            }
            Self::Shorten(count) => {
                bytes.truncate(bytes.len().saturating_sub(count).max(10));
                resize(bytes);
            }
            Self::Lengthen(count) => {
                bytes.resize(bytes.len() + count, 0);
                resize(bytes);
            }
            Self::Size(size) => bytes[2..6].copy_from_slice(&size.to_be_bytes()),
            Self::Tag(tag) => bytes[..2].copy_from_slice(&tag.to_be_bytes()),
        }
    }
}

/// A TPM2B.
pub fn blob(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u16).to_be_bytes()[..], contents].concat()
}
