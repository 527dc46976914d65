//! The authorization area of commands, and what it says in answers (Part 1, 18 to 21).
//!
//! Each side has nonces, keys and names of its own; the HMACs of both sides' answers are
//! verified, and both sides' encrypted parameters decrypted, before anything is compared.

use vtpm::crypto::{CipherMode, Crypto, HashAlg, Native, hash, hmac, kdfa};

use crate::{
    sides::Response,
    step::{Pair, Step, blob, split_blob},
};

pub const CONTINUE: u8 = 1;
pub const EXCLUSIVE: u8 = 2;
pub const RESET: u8 = 4;
pub const DECRYPT: u8 = 0x20;
pub const ENCRYPT: u8 = 0x40;
pub const AUDIT: u8 = 0x80;

const PASSWORD: u32 = 0x4000_0009;

/// How a session encrypts parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symmetric {
    Null,
    Aes(u16),
    Xor(HashAlg),
}

/// A session as a command uses it.
#[derive(Clone)]
pub struct Use {
    pub handle: Pair<u32>,
    pub alg: HashAlg,
    pub symmetric: Symmetric,
    /// The newest nonceTPM.
    pub nonce: Pair<Vec<u8>>,
    pub nonce_caller: Vec<u8>,
    pub attributes: u8,
    /// It is bound to an entity.
    pub bound: bool,
    /// Session key, empty without salt and bind.
    pub key: Pair<Vec<u8>>,
    /// Authorization value that the HMAC's key includes.
    pub value: Vec<u8>,
    /// Authorization value that the key of parameter encryption includes.
    pub encryption_value: Vec<u8>,
    pub proof: Proof,
}

/// What stands in the place of the HMAC.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    Hmac,
    /// A policy that needs none.
    Empty,
    /// A policy's password.
    Plain(Vec<u8>),
}

/// One session of the authorization area.
#[derive(Clone)]
pub enum Auth {
    Password(Vec<u8>),
    Session(Box<Use>),
}

impl Auth {
    pub fn session(&self) -> Option<&Use> {
        match self {
            Self::Password(_) => None,
            Self::Session(used) => Some(used),
        }
    }
}

impl Use {
    fn hmac_key(&self, side: usize, value: &[u8]) -> Vec<u8> {
        [&self.key[side], value].concat()
    }

    fn crypt(&self, side: usize, newer: &[u8], older: &[u8], encrypt: bool, data: &mut [u8]) {
        let key = [&self.key[side][..], &self.encryption_value].concat();
        match self.symmetric {
            Symmetric::Null => {}
            Symmetric::Aes(bits) => {
                let derived = kdfa(self.alg, &key, "CFB", newer, older, u32::from(bits) + 128);
                let (key, iv) = derived.split_at(usize::from(bits / 8));
                let mut iv = iv.to_vec();
                // The sizes are right, so it cannot fail.
                let _ = Native.aes(key, CipherMode::Cfb, encrypt, &mut iv, data);
            }
            Symmetric::Xor(_) => {
                // With the hash of the session (Part 1, 21.2).
                let mask = kdfa(self.alg, &key, "XOR", newer, older, data.len() as u32 * 8);
                data.iter_mut().zip(mask.iter()).for_each(|(a, b)| *a ^= b);
            }
        }
    }
}

impl Step {
    fn with_attribute(&self, attribute: u8) -> Option<&Use> {
        self.auths
            .iter()
            .filter_map(Auth::session)
            .find(|used| used.attributes & attribute != 0)
    }

    /// cpHash with the parameters of one side (Part 1, 18.7).
    pub fn cp_hash(&self, alg: HashAlg, side: usize, parameters: &[u8]) -> Vec<u8> {
        let code = self.code.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&code];
        parts.extend(
            self.handles
                .iter()
                .map(|handle| handle.name[side].as_slice()),
        );
        parts.push(parameters);
        hash(alg, &parts)
    }

    /// The nonces of other sessions that the first session's HMAC covers (Part 1, 19.6.5).
    fn other_nonces(&self, first: bool, handle: u32, side: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if !first {
            return out;
        }
        let (decrypt, encrypt) = (self.with_attribute(DECRYPT), self.with_attribute(ENCRYPT));
        if let Some(decrypt) = decrypt.filter(|used| used.handle[side] != handle) {
            out.extend_from_slice(&decrypt.nonce[side]);
        }
        let decrypt = decrypt.map(|used| used.handle[side]);
        if let Some(encrypt) =
            encrypt.filter(|used| used.handle[side] != handle && decrypt != Some(used.handle[side]))
        {
            out.extend_from_slice(&encrypt.nonce[side]);
        }
        out
    }

    /// Encrypts the first parameter where a session asks for it; gives the area's contents.
    pub fn authorization_area(&self, side: usize, parameters: &mut [u8]) -> Vec<u8> {
        if let Some(used) = self.with_attribute(DECRYPT) {
            let size = parameters
                .first_chunk()
                .map_or(0, |size| usize::from(u16::from_be_bytes(*size)));
            if let Some(data) = parameters.get_mut(2..2 + size) {
                used.crypt(side, &used.nonce_caller, &used.nonce[side], true, data);
            }
        }
        let mut area = Vec::new();
        for (index, auth) in self.auths.iter().enumerate() {
            let (handle, nonce, attributes, proof) = match auth {
                Auth::Password(password) => (PASSWORD, &[][..], CONTINUE, password.clone()),
                Auth::Session(used) => {
                    let proof = match &used.proof {
                        Proof::Hmac => {
                            let others = self.other_nonces(index == 0, used.handle[side], side);
                            hmac(
                                used.alg,
                                &used.hmac_key(side, &used.value),
                                &[
                                    &self.cp_hash(used.alg, side, parameters),
                                    &used.nonce_caller,
                                    &used.nonce[side],
                                    &others,
                                    &[used.attributes],
                                ],
                            )
                        }
                        Proof::Empty => Vec::new(),
                        Proof::Plain(password) => password.clone(),
                    };
                    (
                        used.handle[side],
                        &used.nonce_caller[..],
                        used.attributes,
                        proof,
                    )
                }
            };
            area.extend_from_slice(&handle.to_be_bytes());
            area.extend_from_slice(&blob(nonce));
            area.push(attributes);
            area.extend_from_slice(&blob(&proof));
        }
        area
    }

    /// Decrypts one side's answer and verifies it.
    pub fn open(&self, side: usize, response: &Response) -> Opened {
        let encrypted = response.parameters(self.code);
        let mut opened = Opened {
            parameters: encrypted.to_vec(),
            sessions: Vec::new(),
        };
        let rp_hash = |alg| hash(alg, &[&[0; 4], &self.code.to_be_bytes(), encrypted]);
        let mut area = response.sessions(self.code);
        for (index, auth) in self.auths.iter().enumerate() {
            let Some((nonce, rest)) = split_blob(area) else {
                break;
            };
            let Some((&attributes, rest)) = rest.split_first() else {
                break;
            };
            let Some((proof, rest)) = split_blob(rest) else {
                break;
            };
            area = rest;
            let verified = auth.session().is_none_or(|used| {
                let value = self.new_auth.as_deref().filter(|_| index == 0);
                let key = used.hmac_key(side, value.unwrap_or(&used.value));
                let code = hmac(
                    used.alg,
                    &key,
                    &[&rp_hash(used.alg), nonce, &used.nonce_caller, &[attributes]],
                );
                match used.proof {
                    Proof::Plain(_) => proof.is_empty(),
                    Proof::Empty if key.is_empty() => proof.is_empty(),
                    _ => proof == code,
                }
            });
            if let Some(used) = auth.session().filter(|used| used.attributes & ENCRYPT != 0) {
                let size = encrypted
                    .first_chunk()
                    .map_or(0, |size| usize::from(u16::from_be_bytes(*size)));
                if let Some(data) = opened.parameters.get_mut(2..2 + size) {
                    used.crypt(side, nonce, &used.nonce_caller, false, data);
                }
            }
            opened.sessions.push(Acknowledged {
                nonce: nonce.to_vec(),
                attributes,
                proof: proof.len(),
                verified,
            });
        }
        opened
    }
}

/// An answer in the clear.
pub struct Opened {
    pub parameters: Vec<u8>,
    pub sessions: Vec<Acknowledged>,
}

/// A session's part of an answer.
pub struct Acknowledged {
    pub nonce: Vec<u8>,
    pub attributes: u8,
    /// Bytes of the HMAC.
    pub proof: usize,
    /// The HMAC is right.
    pub verified: bool,
}
