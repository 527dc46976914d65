//! Algorithm identifiers and schemes (Part 2, 9, 11).

use alloc::vec::Vec;

use super::{Marshal, Put, Reader, Unmarshal};
use crate::{
    constants::alg,
    crypto::{Curve, HashAlg},
    rc::{Rc, Result},
};

/// `TPMI_ALG_HASH`: an implemented hash, else `TPM_RC_HASH`.
pub fn hash(reader: &mut Reader<'_>) -> Result<HashAlg> {
    HashAlg::from_id(reader.u16()?).ok_or(Rc::HASH)
}

/// `TPMI_ALG_HASH+`: as [`hash`], or `TPM_ALG_NULL`.
pub fn hash_or_null(reader: &mut Reader<'_>) -> Result<Option<HashAlg>> {
    match reader.u16()? {
        alg::NULL => Ok(None),
        id => HashAlg::from_id(id).map(Some).ok_or(Rc::HASH),
    }
}

/// The identifier of a hash that may be `TPM_ALG_NULL`.
#[must_use]
pub fn hash_id(hash: Option<HashAlg>) -> u16 {
    hash.map_or(alg::NULL, HashAlg::id)
}

/// `TPMI_ECC_CURVE`: an implemented curve, else `TPM_RC_CURVE`.
pub fn curve(reader: &mut Reader<'_>) -> Result<Curve> {
    Curve::from_id(reader.u16()?).ok_or(Rc::CURVE)
}

/// `TPMT_SYM_DEF`: a block cipher, XOR obfuscation, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SymDef {
    /// `TPM_ALG_NULL`
    Null,
    /// AES with a key of `bits`, in mode `mode` (`TPM_ALG_NULL`: to be chosen at use).
    Aes {
        /// Key size in bits.
        bits: u16,
        /// `TPM_ALG_ID` of the mode.
        mode: u16,
    },
    /// XOR with a mask from KDFa over this hash.
    Xor(HashAlg),
}

impl SymDef {
    /// AES in CFB mode, as parents and sessions use it.
    #[must_use]
    pub const fn aes_cfb(bits: u16) -> Self {
        Self::Aes {
            bits,
            mode: alg::CFB,
        }
    }

    fn aes(reader: &mut Reader<'_>) -> Result<Self> {
        let bits = reader.u16()?;
        if !matches!(bits, 128 | 256) {
            return Err(Rc::VALUE);
        }
        let mode = mode_or_null(reader)?;
        Ok(Self::Aes { bits, mode })
    }

    /// `TPMT_SYM_DEF+`, as sessions take it.
    pub fn for_session(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.u16()? {
            alg::NULL => Ok(Self::Null),
            alg::AES => Self::aes(reader),
            alg::XOR => Ok(Self::Xor(hash(reader)?)),
            _ => Err(Rc::SYMMETRIC),
        }
    }

    /// `TPMT_SYM_DEF_OBJECT`, with `TPM_ALG_NULL` only when `null` is set.
    pub fn for_object(reader: &mut Reader<'_>, null: bool) -> Result<Self> {
        match reader.u16()? {
            alg::NULL if null => Ok(Self::Null),
            alg::AES => Self::aes(reader),
            _ => Err(Rc::SYMMETRIC),
        }
    }
}

/// `TPMI_ALG_SYM_MODE+` of this TPM.
pub fn mode_or_null(reader: &mut Reader<'_>) -> Result<u16> {
    match reader.u16()? {
        mode @ (alg::CTR | alg::OFB | alg::CBC | alg::CFB | alg::ECB | alg::NULL) => Ok(mode),
        _ => Err(Rc::MODE),
    }
}

impl Marshal for SymDef {
    fn marshal(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.put(&alg::NULL),
            Self::Aes { bits, mode } => {
                out.put(&alg::AES);
                out.put(bits);
                out.put(mode);
            }
            Self::Xor(hash) => {
                out.put(&alg::XOR);
                out.put(&hash.id());
            }
        }
    }
}

/// A signing, encryption or key exchange scheme with its hash; also a KDF.
///
/// One type serves `TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME`, `TPMT_SIG_SCHEME`,
/// `TPMT_KEYEDHASH_SCHEME`, `TPMT_RSA_DECRYPT` and `TPMT_KDF_SCHEME`: they differ in the
/// identifiers they allow and share the encodings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `TPM_ALG_NULL`: to be chosen at use.
    Null,
    /// `TPM_ALG_RSAES`, the only scheme without a hash.
    Rsaes,
    /// A scheme with a hash.
    Hash(u16, HashAlg),
    /// `TPM_ALG_ECDAA` with the counter that names a commitment.
    Ecdaa(HashAlg, u16),
    /// `TPM_ALG_XOR` with its hash and KDF.
    Xor(HashAlg, u16),
}

impl Scheme {
    /// Its `TPM_ALG_ID`.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::Null => alg::NULL,
            Self::Rsaes => alg::RSAES,
            Self::Hash(id, _) => id,
            Self::Ecdaa(..) => alg::ECDAA,
            Self::Xor(..) => alg::XOR,
        }
    }

    /// Its hash, if it has one.
    #[must_use]
    pub fn hash(self) -> Option<HashAlg> {
        match self {
            Self::Null | Self::Rsaes => None,
            Self::Hash(_, hash) | Self::Ecdaa(hash, _) | Self::Xor(hash, _) => Some(hash),
        }
    }

    /// Is it `TPM_ALG_NULL`?
    #[must_use]
    pub fn is_null(self) -> bool {
        self == Self::Null
    }

    fn details(id: u16, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match id {
            alg::NULL => Self::Null,
            alg::RSAES => Self::Rsaes,
            alg::ECDAA => Self::Ecdaa(hash(reader)?, reader.u16()?),
            alg::XOR => Self::Xor(hash(reader)?, kdf_id(reader)?),
            id => Self::Hash(id, hash(reader)?),
        })
    }

    fn of(reader: &mut Reader<'_>, allowed: &[u16], wrong: Rc) -> Result<Self> {
        let id = reader.u16()?;
        if !allowed.contains(&id) {
            return Err(wrong);
        }
        Self::details(id, reader)
    }

    /// `TPMT_RSA_SCHEME+`
    pub fn rsa(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(
            reader,
            &[alg::RSASSA, alg::RSAPSS, alg::RSAES, alg::OAEP, alg::NULL],
            Rc::VALUE,
        )
    }

    /// `TPMT_RSA_DECRYPT+`
    pub fn rsa_decrypt(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(reader, &[alg::RSAES, alg::OAEP, alg::NULL], Rc::VALUE)
    }

    /// `TPMT_ECC_SCHEME+`
    pub fn ecc(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(
            reader,
            &[alg::ECDSA, alg::ECDAA, alg::ECSCHNORR, alg::ECDH, alg::NULL],
            Rc::SCHEME,
        )
    }

    /// `TPMT_SIG_SCHEME+`
    pub fn signing(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(
            reader,
            &[
                alg::RSASSA,
                alg::RSAPSS,
                alg::ECDSA,
                alg::ECDAA,
                alg::ECSCHNORR,
                alg::HMAC,
                alg::NULL,
            ],
            Rc::SCHEME,
        )
    }

    /// `TPMT_KEYEDHASH_SCHEME+`
    pub fn keyed_hash(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(reader, &[alg::HMAC, alg::XOR, alg::NULL], Rc::VALUE)
    }

    /// `TPMT_KDF_SCHEME+`
    pub fn kdf(reader: &mut Reader<'_>) -> Result<Self> {
        Self::of(
            reader,
            &[
                alg::MGF1,
                alg::KDF1_SP800_56A,
                alg::KDF2,
                alg::KDF1_SP800_108,
                alg::NULL,
            ],
            Rc::KDF,
        )
    }
}

fn kdf_id(reader: &mut Reader<'_>) -> Result<u16> {
    match reader.u16()? {
        id @ (alg::MGF1 | alg::KDF1_SP800_56A | alg::KDF2 | alg::KDF1_SP800_108 | alg::NULL) => {
            Ok(id)
        }
        _ => Err(Rc::KDF),
    }
}

impl Marshal for Scheme {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.id());
        if let Some(hash) = self.hash() {
            out.put(&hash.id());
        }
        match self {
            Self::Ecdaa(_, count) => out.put(count),
            Self::Xor(_, kdf) => out.put(kdf),
            _ => {}
        }
    }
}

/// `TPMT_SYM_DEF+` as a parameter.
impl Unmarshal for SymDef {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        Self::for_session(reader)
    }
}

/// `TPMT_SIG_SCHEME+` as a parameter, the commonest of the schemes.
impl Unmarshal for Scheme {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        Self::signing(reader)
    }
}

impl Unmarshal for HashAlg {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        hash(reader)
    }
}
