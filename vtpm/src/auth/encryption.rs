//! Encryption of the first parameter (Part 1, 21).

use super::{Authorization, SessionUse, number};
use crate::{
    context::Context,
    crypto::{self, Bytes, HashAlg},
    rc::{Numbered, Rc, Result},
    state::{State, session::Session},
    wire::{Reader, algorithms::SymDef},
};

impl Authorization {
    /// Decrypts the first parameter, in place.
    ///
    /// # Errors
    /// `TPM_RC_SIZE` or `TPM_RC_INSUFFICIENT` about the session when it is no `TPM2B` inside the
    /// parameters.
    pub fn decrypt(&self, context: &Context<'_>, params: &mut [u8]) -> Result<()> {
        let Some(index) = self.decrypt else {
            return Ok(());
        };
        let Some((used, session)) = self.pair(context.state, index) else {
            return Err(Rc::FAILURE);
        };
        let data = first_sized(params).s(number(index))?;
        let key = encryption_key(context.state, used, session);
        crypt(
            context,
            session,
            &key,
            &used.nonce,
            &session.nonce,
            false,
            data,
        )
    }

    /// Encrypts the first parameter of an answer, in place.
    ///
    /// # Errors
    /// `TPM_RC_SIZE` when it is no `TPM2B`, `TPM_RC_FAILURE`.
    pub(super) fn encrypt(&self, context: &Context<'_>, reply: &mut [u8]) -> Result<()> {
        let session = self.encrypt.and_then(|n| self.pair(context.state, n));
        let Some((used, session)) = session else {
            return Ok(());
        };
        let data = first_sized(reply)?;
        let key = encryption_key(context.state, used, session);
        crypt(
            context,
            session,
            &key,
            &session.nonce,
            &used.nonce,
            true,
            data,
        )
    }
}

fn encryption_key(state: &State, used: &SessionUse, session: &Session) -> Bytes {
    crypto::concat(&[&session.key, &used.value(state)])
}

/// The contents of the `TPM2B` at the start of `bytes`.
fn first_sized(bytes: &mut [u8]) -> Result<&mut [u8]> {
    let size = usize::from(Reader::new(bytes).u16()?);
    bytes
        .get_mut(2..)
        .and_then(|rest| rest.get_mut(..size))
        .ok_or(Rc::SIZE)
}

fn crypt(
    context: &Context<'_>,
    session: &Session,
    key: &[u8],
    newer: &[u8],
    older: &[u8],
    encrypt: bool,
    data: &mut [u8],
) -> Result<()> {
    match session.symmetric {
        SymDef::Null => Err(Rc::SYMMETRIC),
        SymDef::Aes { bits, .. } => {
            let derived = crypto::kdfa(
                session.hash,
                key,
                "CFB",
                newer,
                older,
                u32::from(bits) + 128,
            );
            let (key, iv) = derived
                .split_at_checked(usize::from(bits / 8))
                .ok_or(Rc::FAILURE)?;
            let mut iv = Bytes::new(iv.to_vec());
            context
                .crypto
                .aes(key, crypto::CipherMode::Cfb, encrypt, &mut iv, data)
                .map_err(|_| Rc::FAILURE)
        }
        SymDef::Xor(_) => {
            // With the hash of the session, whatever the definition names (Part 1, 21.2).
            xor(session.hash, key, newer, older, data);
            Ok(())
        }
    }
}

/// XOR obfuscation (Part 1, 11.4.5.3).
fn xor(hash: HashAlg, key: &[u8], u: &[u8], v: &[u8], data: &mut [u8]) {
    let mask = crypto::kdfa(hash, key, "XOR", u, v, data.len() as u32 * 8);
    data.iter_mut()
        .zip(mask.iter())
        .for_each(|(byte, mask)| *byte ^= mask);
}
