//! A client that builds commands from their parts and prints each.

use std::io::{self, Write};

use vtpm::{Tpm, crypto::Native, storage::Memory};

use crate::{environment::Fixed, layout};

pub const OWNER: u32 = 0x4000_0001;
pub const NULL: u32 = 0x4000_0007;
pub const LOCKOUT: u32 = 0x4000_000A;
pub const ENDORSEMENT: u32 = 0x4000_000B;
pub const PLATFORM: u32 = 0x4000_000C;

/// `TPM_ALG_NULL`, `TPM_ALG_SHA256`
pub const NONE: &[u8] = &[0, 0x10];
pub const SHA256: &[u8] = &[0, 0x0B];

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA
pub const COMMON: u32 = 0x0000_0472;
pub const RESTRICTED: u32 = 0x0001_0000;
pub const DECRYPT: u32 = 0x0002_0000;
pub const SIGN: u32 = 0x0004_0000;

/// `TPM_RC_RETRY`
const RETRY: u32 = 0x922;

/// A TPM2B.
pub fn blob(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u16).to_be_bytes()[..], contents].concat()
}

/// The contents of a TPM2B at the front of `bytes`, and the rest.
pub fn take(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    layout::blob(bytes).ok_or_else(|| io::Error::other("a response is too short"))
}

/// An authorization in the clear or by a policy session.
#[derive(Clone, Copy)]
pub enum Auth {
    Empty,
    /// A session whose HMAC is empty, and its attributes.
    Session(u32, u8),
}

/// What a command answers: its handle and its parameters.
pub struct Answer {
    pub handle: u32,
    pub parameters: Vec<u8>,
}

/// A client of a fresh TPM.
pub struct Client<'a> {
    tpm: Tpm,
    out: &'a mut dyn Write,
}

impl<'a> Client<'a> {
    pub fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        writeln!(out, "new")?;
        let environment = Box::new(Fixed::default());
        let (tpm, _) = Tpm::power_on(environment, Box::new(Memory::new()), &Native)
            .map_err(io::Error::other)?;
        let mut this = Self { tpm, out };
        this.plain(0x144, &[], &[0, 0])?;
        Ok(this)
    }

    fn send(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            writeln!(self.out, "0 {}", hex::encode(command))?;
            let mut response = Vec::new();
            self.tpm.execute(0, command, &mut response);
            if response.get(6..10) != Some(&RETRY.to_be_bytes()) {
                return Ok(response);
            }
        }
    }

    /// Runs a command that must succeed. `auths` are for the first handles; more of them are
    /// sessions for another purpose.
    pub fn run(
        &mut self,
        code: u32,
        handles: &[u32],
        auths: &[Auth],
        parameters: &[u8],
    ) -> io::Result<Answer> {
        let tag: u16 = if auths.is_empty() { 0x8001 } else { 0x8002 };
        let mut body = code.to_be_bytes().to_vec();
        for handle in handles {
            body.extend(handle.to_be_bytes());
        }
        if !auths.is_empty() {
            let mut area = Vec::new();
            for auth in auths {
                let (session, attributes) = match *auth {
                    Auth::Empty => (0x4000_0009, 1),
                    Auth::Session(session, attributes) => (session, attributes),
                };
                area.extend(session.to_be_bytes());
                area.extend([0, 0, attributes, 0, 0]);
            }
            body.extend((area.len() as u32).to_be_bytes());
            body.extend(area);
        }
        body.extend(parameters);
        let size = (body.len() + 6) as u32;
        let command = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &body].concat();
        let response = self.send(&command)?;
        if response.get(6..10) != Some(&[0; 4]) {
            let answer = hex::encode(&response);
            return Err(io::Error::other(format!("{code:#x} answered {answer}")));
        }
        let mut rest = response.get(10..).unwrap_or_default();
        let mut number = || {
            let (number, after) = layout::u32_at(rest)?;
            rest = after;
            Some(number)
        };
        let short = || io::Error::other(format!("the answer of {code:#x} is too short"));
        let mut handle = 0;
        if layout::response_handle(code) {
            handle = number().ok_or_else(short)?;
        }
        if !auths.is_empty() {
            let size = number().ok_or_else(short)? as usize;
            rest = rest.get(..size).ok_or_else(short)?;
        }
        Ok(Answer {
            handle,
            parameters: rest.to_vec(),
        })
    }

    /// Without authorization.
    pub fn plain(&mut self, code: u32, handles: &[u32], parameters: &[u8]) -> io::Result<Answer> {
        self.run(code, handles, &[], parameters)
    }

    /// With an empty authorization value for the first handle.
    pub fn owned(&mut self, code: u32, handles: &[u32], parameters: &[u8]) -> io::Result<Answer> {
        self.run(code, handles, &[Auth::Empty], parameters)
    }

    pub fn flush(&mut self, handle: u32) -> io::Result<()> {
        self.plain(0x165, &[], &handle.to_be_bytes()).map(drop)
    }

    /// A primary object of the owner with this public area (contents of a TPM2B_PUBLIC).
    pub fn primary(&mut self, public: &[u8]) -> io::Result<Answer> {
        let parameters = [blob(&[0; 4]), blob(public), vec![0; 6]].concat();
        self.owned(0x131, &[OWNER], &parameters)
    }

    /// A session without salt and bind: HMAC (0), policy (1) or trial (3).
    pub fn session(&mut self, kind: u8) -> io::Result<u32> {
        let parameters = [&blob(&[1; 16])[..], &[0, 0, kind], NONE, SHA256].concat();
        let answer = self.plain(0x176, &[NULL, NULL], &parameters)?;
        Ok(answer.handle)
    }

    /// An index for owner and platform, which may both read and write.
    pub fn define(
        &mut self,
        by: u32,
        index: u32,
        attributes: u32,
        policy: &[u8],
        size: u16,
    ) -> io::Result<()> {
        let public = [
            &index.to_be_bytes()[..],
            SHA256,
            &attributes.to_be_bytes(),
            &blob(policy),
            &size.to_be_bytes(),
        ]
        .concat();
        let parameters = [blob(b""), blob(&public)].concat();
        self.owned(0x12A, &[by], &parameters).map(drop)
    }
}

/// The public area of a key without policy and scheme of its own. `symmetric` is what a
/// storage key protects with.
pub fn ecc_public(curve: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    [
        &head(0x23, attributes, policy)[..],
        NONE,
        &curve.to_be_bytes(),
        NONE,
        &[0; 4],
    ]
    .concat()
}

/// The same of an RSA key.
pub fn rsa_public(bits: u16, attributes: u32) -> Vec<u8> {
    [
        &head(1, attributes, b"")[..],
        NONE,
        &bits.to_be_bytes(),
        &[0; 6],
    ]
    .concat()
}

/// Type, name algorithm, attributes, policy and symmetric algorithm of a public area.
fn head(kind: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    let symmetric = if attributes & RESTRICTED != 0 {
        AES
    } else {
        NONE
    };
    [
        &kind.to_be_bytes()[..],
        SHA256,
        &attributes.to_be_bytes(),
        &blob(policy),
        symmetric,
    ]
    .concat()
}

/// AES-128 in CFB
pub const AES: &[u8] = &[0, 6, 0, 128, 0, 0x43];
