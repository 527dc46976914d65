//! Wrapping of sensitive areas: below a parent, for duplication, and credentials (Part 1, 22 to 24).
//!
//! Always true: integrity is checked in constant time before anything is decrypted or parsed.

use alloc::vec::Vec;

use crate::{
    constants::limit,
    context::Context,
    crypto::{self, Bytes, CipherMode, Crypto, HashAlg, ct_eq},
    rc::{Rc, Result, ensure},
    state::object::Object,
    wire::{Put, Reader, Unmarshal, algorithms::SymDef, public::Sensitive, without_trailing_zeros},
};

const BLOCK: usize = 16;

/// The keys with which something is protected.
pub struct Protection<'a> {
    /// Hash of the protecting object's name.
    pub hash: HashAlg,
    /// Bits of the AES key.
    pub bits: u16,
    /// Seed of the keys.
    pub seed: &'a [u8],
    /// Name of what is protected.
    pub name: &'a [u8],
    /// An initialization vector goes along (below a parent), or it is zero.
    pub with_iv: bool,
}

impl<'a> Protection<'a> {
    /// Protection by a storage key, of an object with `name`.
    ///
    /// # Errors
    /// `TPM_RC_TYPE` when it is none.
    pub fn of_parent(parent: &'a Object, name: &'a [u8]) -> Result<Self> {
        let sensitive = parent.sensitive.as_ref().ok_or(Rc::TYPE)?;
        Ok(Self {
            seed: &sensitive.seed,
            with_iv: true,
            ..Self::by(parent, &[], name)?
        })
    }

    /// Protection with a seed that was encrypted to `parent`.
    ///
    /// # Errors
    /// `TPM_RC_TYPE` when it is no storage key.
    pub fn by(parent: &Object, seed: &'a [u8], name: &'a [u8]) -> Result<Self> {
        let SymDef::Aes { bits, .. } = parent.public.symmetric() else {
            return Err(Rc::TYPE);
        };
        let hash = parent.public.name_alg.ok_or(Rc::TYPE)?;
        Ok(Self {
            hash,
            bits,
            seed,
            name,
            with_iv: false,
        })
    }

    fn cipher_key(&self) -> Bytes {
        crypto::kdfa(
            self.hash,
            self.seed,
            "STORAGE",
            self.name,
            &[],
            u32::from(self.bits),
        )
    }

    fn integrity(&self, protected: &[u8]) -> Vec<u8> {
        let bits = self.hash.size() as u32 * 8;
        let key = crypto::kdfa(self.hash, self.seed, "INTEGRITY", &[], &[], bits);
        crypto::hmac(self.hash, &key, &[protected, self.name])
    }

    /// Encrypts `data` and puts the integrity value before it.
    ///
    /// # Errors
    /// `TPM_RC_FAILURE`
    pub fn wrap(&self, context: &mut Context<'_>, data: &mut [u8]) -> Result<Vec<u8>> {
        let mut protected = Vec::new();
        let mut iv = [0; BLOCK];
        if self.with_iv {
            context
                .environment
                .random(&mut iv)
                .map_err(|_| Rc::FAILURE)?;
            protected.sized(&iv);
        }
        cfb(context.crypto, &self.cipher_key(), true, &mut iv, data)?;
        protected.raw(data);
        let mut out = Vec::new();
        out.sized(&self.integrity(&protected));
        out.raw(&protected);
        Ok(out)
    }

    /// Checks and decrypts what [`Self::wrap`] made.
    ///
    /// # Errors
    /// `TPM_RC_INTEGRITY`; `TPM_RC_SIZE`, `TPM_RC_INSUFFICIENT` when it is shorter than it says.
    pub fn unwrap(&self, crypto: &dyn Crypto, wrapped: &[u8]) -> Result<Bytes> {
        let mut reader = Reader::new(wrapped);
        let integrity = reader.sized(limit::DIGEST)?;
        let protected = reader.left();
        ensure(ct_eq(integrity, &self.integrity(protected)), Rc::INTEGRITY)?;
        let mut iv = [0; BLOCK];
        if self.with_iv {
            iv = reader.sized(BLOCK)?.try_into().map_err(|_| Rc::SIZE)?;
        }
        let mut data = Bytes::new(reader.left().to_vec());
        cfb(crypto, &self.cipher_key(), false, &mut iv, &mut data)?;
        Ok(data)
    }
}

fn cfb(
    crypto: &dyn Crypto,
    key: &[u8],
    encrypt: bool,
    iv: &mut [u8],
    data: &mut [u8],
) -> Result<()> {
    crypto
        .aes(key, CipherMode::Cfb, encrypt, iv, data)
        .map_err(|_| Rc::FAILURE)
}

/// The sensitive area in a `TPM2B`, its authorization value padded with zeros to the size of
/// the name's digest, so that its length does not show (Part 1, 23.2.4).
fn sized_sensitive(sensitive: &Sensitive, hash: Option<HashAlg>) -> Bytes {
    let mut padded = sensitive.clone();
    if let Some(hash) = hash
        && padded.auth.len() < hash.size()
    {
        let mut auth = Bytes::new(alloc::vec![0; hash.size()]);
        auth.iter_mut()
            .zip(sensitive.auth.iter())
            .for_each(|(to, from)| *to = *from);
        padded.auth = auth;
    }
    let mut data = Bytes::new(Vec::with_capacity(1024));
    data.sized_of(&padded);
    data
}

fn read_sensitive(data: &[u8]) -> Result<Sensitive> {
    let mut reader = Reader::new(data);
    let size = reader.u16().map_err(|_| Rc::SIZE)?;
    ensure(usize::from(size) == reader.left().len(), Rc::SIZE)?;
    let mut sensitive = Sensitive::unmarshal(&mut reader)?;
    ensure(reader.left().is_empty(), Rc::SIZE)?;
    sensitive.auth = Bytes::new(without_trailing_zeros(&sensitive.auth).to_vec());
    Ok(sensitive)
}

/// The private area (`TPM2B_PRIVATE` contents) of an object below `parent`.
///
/// # Errors
/// `TPM_RC_TYPE` when the parent is no storage key.
pub fn to_private(context: &mut Context<'_>, object: &Object, parent: &Object) -> Result<Vec<u8>> {
    let sensitive = object.sensitive.as_ref().ok_or(Rc::FAILURE)?;
    let mut data = sized_sensitive(sensitive, object.public.name_alg);
    Protection::of_parent(parent, &object.name)?.wrap(context, &mut data)
}

/// The sensitive area in a private area.
///
/// # Errors
/// `TPM_RC_INTEGRITY` and those of the structure.
pub fn from_private(
    context: &Context<'_>,
    private: &[u8],
    parent: &Object,
    name: &[u8],
) -> Result<Sensitive> {
    let data = Protection::of_parent(parent, name)?.unwrap(context.crypto, private)?;
    read_sensitive(&data)
}

/// A duplicate of an object (Part 1, 23.3): inner wrap with `inner` (AES key) if it is not
/// empty, outer wrap with `outer` if there is a new parent.
///
/// # Errors
/// `TPM_RC_FAILURE`
pub fn to_duplicate(
    context: &mut Context<'_>,
    object: &Object,
    inner: &[u8],
    outer: Option<&Protection<'_>>,
) -> Result<Vec<u8>> {
    let sensitive = object.sensitive.as_ref().ok_or(Rc::FAILURE)?;
    let hash = object.public.name_alg.ok_or(Rc::FAILURE)?;
    let mut data = sized_sensitive(sensitive, Some(hash));
    if !inner.is_empty() {
        let integrity = crypto::hash(hash, &[&data, &object.name]);
        let mut wrapped = Bytes::new(Vec::with_capacity(1024));
        wrapped.sized(&integrity);
        wrapped.raw(&data);
        cfb(context.crypto, inner, true, &mut [0; BLOCK], &mut wrapped)?;
        data = wrapped;
    }
    match outer {
        Some(outer) => outer.wrap(context, &mut data),
        None => Ok(data.to_vec()),
    }
}

/// The sensitive area in a duplicate.
///
/// # Errors
/// `TPM_RC_INTEGRITY` and those of the structure.
pub fn from_duplicate(
    crypto: &dyn Crypto,
    duplicate: &[u8],
    name: &[u8],
    hash: HashAlg,
    inner: &[u8],
    outer: Option<&Protection<'_>>,
) -> Result<Sensitive> {
    let mut data = match outer {
        Some(outer) => outer.unwrap(crypto, duplicate)?,
        None => Bytes::new(duplicate.to_vec()),
    };
    if inner.is_empty() {
        return read_sensitive(&data);
    }
    cfb(crypto, inner, false, &mut [0; BLOCK], &mut data)?;
    let mut reader = Reader::new(&data);
    let integrity = reader.sized(limit::DIGEST).map_err(|_| Rc::SIZE)?;
    let rest = reader.left();
    ensure(
        ct_eq(integrity, &crypto::hash(hash, &[rest, name])),
        Rc::INTEGRITY,
    )?;
    read_sensitive(rest)
}
