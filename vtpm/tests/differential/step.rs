//! A command for two TPMs, whose handles, names and blobs differ.

use crate::{authorize::Auth, generate::Effect};

/// A value of each side: the engine's, the reference's.
pub type Pair<T> = [T; 2];

/// The engine's side of a [`Pair`].
pub const ENGINE: usize = 0;
/// The reference's side of a [`Pair`].
pub const REFERENCE: usize = 1;

/// The same on both sides.
pub fn both<T: Clone>(value: T) -> Pair<T> {
    [value.clone(), value]
}

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
    /// One that is its own name: hierarchies, PCRs, sessions.
    pub fn fixed(handle: u32) -> Self {
        Self::of(both(handle))
    }

    /// Known to be the same on both sides.
    fn is_same(&self) -> bool {
        // An object or index that is only a number may be anything.
        let strange = matches!(self.handle[ENGINE] >> 24, 0x01 | 0x80 | 0x81)
            && matches!(self.name[ENGINE].len(), 0 | 4);
        !strange && self.name[ENGINE] == self.name[REFERENCE]
    }

    pub fn of(handle: Pair<u32>) -> Self {
        Self {
            handle,
            name: handle.map(|handle| handle.to_be_bytes().to_vec()),
        }
    }
}

/// Damage done to the finished bytes of both sides, or to the parameters before they are
/// authorized.
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

/// What to do before a command.
#[derive(Clone, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Power off and on again.
    PowerCycle,
    /// A dynamic launch is measured (`_TPM_Hash_Start`, `_Data`, `_End`).
    Measure(Vec<u8>),
}

/// What the generator asks for.
pub struct Step {
    pub before: Before,
    pub locality: u8,
    pub code: u32,
    pub handles: Vec<Handle>,
    pub auths: Vec<Auth>,
    pub parameters: Vec<Part>,
    /// Done to the parameters before they are authorized.
    pub mutation: Option<Damage>,
    /// Nothing is done to it.
    pub intact: bool,
    /// lockoutAuth failed before the power was last lost.
    pub lockout_before: bool,
    /// Done to the finished bytes.
    pub damage: Option<Damage>,
    /// The answers may differ though the commands are the same: other secrets are behind them.
    pub differs: bool,
    /// What the first sized buffer of the answer must hold.
    pub expect: Option<Vec<u8>>,
    /// The authorization value that the answer of a command that changes it is made with.
    pub new_auth: Option<Vec<u8>>,
    /// What a success means.
    pub effect: Option<Effect>,
}

impl Step {
    pub fn new(code: u32) -> Self {
        Self {
            before: Before::Nothing,
            locality: 0,
            code,
            handles: Vec::new(),
            auths: Vec::new(),
            parameters: Vec::new(),
            mutation: None,
            intact: false,
            lockout_before: false,
            damage: None,
            differs: false,
            expect: None,
            new_auth: None,
            effect: None,
        }
    }

    pub fn handle(mut self, handle: Handle) -> Self {
        self.handles.push(handle);
        self
    }

    pub fn fixed(self, handle: u32) -> Self {
        self.handle(Handle::fixed(handle))
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

    /// A TPM2B of each side's bytes.
    pub fn each_blob(self, pair: &Pair<Vec<u8>>) -> Self {
        self.each(&[blob(&pair[ENGINE]), blob(&pair[REFERENCE])])
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

    pub fn then(
        mut self,
        effect: impl FnOnce(&mut crate::generate::Generator, &Answer) + 'static,
    ) -> Self {
        self.effect = Some(Box::new(effect));
        self
    }

    pub fn expecting(mut self, contents: &[u8]) -> Self {
        self.expect = Some(contents.to_vec());
        self
    }

    pub fn differing(mut self, differs: bool) -> Self {
        self.differs = differs;
        self
    }

    pub fn at(mut self, locality: u8) -> Self {
        self.locality = locality;
        self
    }

    /// Whether both sides are asked the same about the same.
    pub fn is_same(&self) -> bool {
        !self.differs
            && self.plain_parameters(ENGINE) == self.plain_parameters(REFERENCE)
            && self.handles.iter().all(Handle::is_same)
    }

    /// The parameters of one side before any encryption.
    pub fn plain_parameters(&self, side: usize) -> Vec<u8> {
        let mut parameters = Vec::new();
        for part in &self.parameters {
            parameters.extend_from_slice(match part {
                Part::Same(bytes) => bytes,
                Part::Each(pair) => &pair[side],
            });
        }
        if let Some(mutation) = self.mutation {
            mutation.apply_inside(&mut parameters);
        }
        parameters
    }

    /// The bytes for one side.
    pub fn build(&self, side: usize) -> Vec<u8> {
        let mut parameters = self.plain_parameters(side);
        let area = self.authorization_area(side, &mut parameters);
        let mut body = self.code.to_be_bytes().to_vec();
        for handle in &self.handles {
            body.extend_from_slice(&handle.handle[side].to_be_bytes());
        }
        let mut tag: u16 = 0x8001;
        if !self.auths.is_empty() {
            tag = 0x8002;
            body.extend_from_slice(&(area.len() as u32).to_be_bytes());
            body.extend_from_slice(&area);
        }
        body.extend_from_slice(&parameters);
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.extend_from_slice(&((body.len() + 6) as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        if let Some(damage) = self.damage {
            damage.apply(&mut bytes);
        }
        bytes
    }
}

/// What came back, in the clear.
pub struct Answer {
    pub handle: Pair<u32>,
    pub parameters: Pair<Vec<u8>>,
}

impl Answer {
    /// The n-th of the TPM2Bs at the start of the parameters.
    pub fn blob(&self, n: usize) -> Pair<Vec<u8>> {
        [ENGINE, REFERENCE].map(|side| {
            let mut rest = &self.parameters[side][..];
            for _ in 0..n {
                rest = split_blob(rest).map_or(&[], |(_, rest)| rest);
            }
            split_blob(rest).map_or_else(Vec::new, |(found, _)| found.to_vec())
        })
    }

    /// What follows the first n TPM2Bs.
    pub fn after(&self, n: usize) -> Pair<Vec<u8>> {
        [ENGINE, REFERENCE].map(|side| {
            let mut rest = &self.parameters[side][..];
            for _ in 0..n {
                rest = split_blob(rest).map_or(&[], |(_, rest)| rest);
            }
            rest.to_vec()
        })
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

    fn apply_inside(self, parameters: &mut Vec<u8>) {
        match self {
            Self::Flip(offset, mask) => {
                if let Some(last) = parameters.len().checked_sub(1) {
                    parameters[last - offset % (last + 1)] ^= mask;
                }
            }
            Self::Shorten(count) => parameters.truncate(parameters.len().saturating_sub(count)),
            Self::Lengthen(count) => parameters.resize(parameters.len() + count, 0),
            // These two put a number with a meaning in some place.
            Self::Size(number) => {
                overwrite(parameters, number as usize, &(number as u16).to_be_bytes())
            }
            Self::Tag(number) => overwrite(parameters, usize::from(number), &number.to_be_bytes()),
        }
    }
}

fn overwrite(parameters: &mut [u8], place: usize, bytes: &[u8]) {
    let room = parameters.len().saturating_sub(bytes.len() - 1);
    if room > 0 {
        let at = place % room;
        parameters[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A TPM2B.
pub fn blob(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u16).to_be_bytes()[..], contents].concat()
}

/// A TPM2B's contents, and the rest.
pub fn split_blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}
