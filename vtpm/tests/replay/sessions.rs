//! Sessions: nonces, and HMACs made again with them. Covered are sessions without salt and
//! bind, whose HMAC key is the authorization value; the recorded HMAC shows which of the
//! values known so far was used.

use std::collections::BTreeMap;

use vtpm::crypto::{HashAlg, hash, hmac};

use crate::layout::{blob, u32_at};

/// One session of the authorization area.
#[derive(Clone)]
pub struct Auth {
    pub handle: u32,
    pub nonce: Vec<u8>,
    pub attributes: u8,
    pub hmac: Vec<u8>,
}

pub const PASSWORD: u32 = 0x4000_0009;
/// TPMA_SESSION: the first parameter of the command is encrypted
pub const DECRYPT: u8 = 0x20;
/// TPMA_SESSION: the first parameter of the command, of the response, is encrypted
pub const ENCRYPTION: u8 = 0x20 | 0x40;

/// The sessions of a command's authorization area (without its size).
pub fn parse_command(mut area: &[u8]) -> Option<Vec<Auth>> {
    let mut sessions = Vec::new();
    while !area.is_empty() {
        let (handle, rest) = u32_at(area)?;
        let (nonce, rest) = blob(rest)?;
        let (attributes, rest) = rest.split_first()?;
        let (hmac, rest) = blob(rest)?;
        sessions.push(Auth {
            handle,
            nonce: nonce.to_vec(),
            attributes: *attributes,
            hmac: hmac.to_vec(),
        });
        area = rest;
    }
    Some(sessions)
}

/// The sessions of a response, in the order of the command's.
pub fn parse_response(mut area: &[u8], handles: impl Iterator<Item = u32>) -> Option<Vec<Auth>> {
    let mut sessions = Vec::new();
    for handle in handles {
        let (nonce, rest) = blob(area)?;
        let (attributes, rest) = rest.split_first()?;
        let (hmac, rest) = blob(rest)?;
        sessions.push(Auth {
            handle,
            nonce: nonce.to_vec(),
            attributes: *attributes,
            hmac: hmac.to_vec(),
        });
        area = rest;
    }
    area.is_empty().then_some(sessions)
}

pub fn build(sessions: &[Auth]) -> Vec<u8> {
    let mut area = Vec::new();
    for session in sessions {
        area.extend_from_slice(&session.handle.to_be_bytes());
        for (part, is_hmac) in [(&session.nonce, false), (&session.hmac, true)] {
            if is_hmac {
                area.push(session.attributes);
            }
            area.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            area.extend_from_slice(part);
        }
    }
    area
}

/// The sessions of one TPM, by its handles: hash and newest nonceTPM.
#[derive(Default)]
pub struct Sessions(BTreeMap<u32, (HashAlg, Vec<u8>)>);

impl Sessions {
    pub fn start(&mut self, handle: u32, alg: HashAlg, nonce: &[u8]) {
        self.0.insert(handle, (alg, nonce.to_vec()));
    }

    pub fn roll(&mut self, handle: u32, nonce: &[u8]) {
        if let Some((_, old)) = self.0.get_mut(&handle) {
            *old = nonce.to_vec();
        }
    }

    /// The HMAC of a command's session.
    pub fn command_hmac(
        &self,
        session: &Auth,
        key: &[u8],
        code: u32,
        names: &[Vec<u8>],
        parameters: &[u8],
    ) -> Option<Vec<u8>> {
        let (alg, nonce_tpm) = self.0.get(&session.handle)?;
        let code = code.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&code];
        parts.extend(names.iter().map(Vec::as_slice));
        parts.push(parameters);
        let digest = hash(*alg, &parts);
        Some(hmac(
            *alg,
            key,
            &[&digest, &session.nonce, nonce_tpm, &[session.attributes]],
        ))
    }

    /// The HMAC of a response's session.
    pub fn response_hmac(
        &self,
        session: &Auth,
        caller: &[u8],
        key: &[u8],
        code: u32,
        parameters: &[u8],
    ) -> Option<Vec<u8>> {
        let (alg, _) = self.0.get(&session.handle)?;
        let digest = hash(*alg, &[&[0; 4], &code.to_be_bytes(), parameters]);
        Some(hmac(
            *alg,
            key,
            &[&digest, &session.nonce, caller, &[session.attributes]],
        ))
    }
}
