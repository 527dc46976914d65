//! Signatures (Part 2, 11.3).

use alloc::vec::Vec;

use super::{Marshal, Put, Reader, Unmarshal, algorithms};
use crate::{
    constants::{alg, limit},
    crypto::HashAlg,
    rc::{Rc, Result},
};

/// `TPMT_SIGNATURE`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signature {
    /// `TPM_ALG_NULL`: not signed.
    Null,
    /// RSASSA or RSAPSS.
    Rsa {
        /// Scheme identifier.
        scheme: u16,
        /// Hash of the scheme.
        hash: HashAlg,
        /// The signature, as long as the modulus.
        value: Vec<u8>,
    },
    /// ECDSA, ECDAA or ECSchnorr.
    Ecc {
        /// Scheme identifier.
        scheme: u16,
        /// Hash of the scheme.
        hash: HashAlg,
        /// First number.
        r: Vec<u8>,
        /// Second number.
        s: Vec<u8>,
    },
    /// HMAC.
    Hmac {
        /// Hash of the HMAC.
        hash: HashAlg,
        /// The MAC.
        value: Vec<u8>,
    },
}

impl Signature {
    /// Scheme identifier.
    #[must_use]
    pub fn scheme(&self) -> u16 {
        match self {
            Self::Null => alg::NULL,
            Self::Rsa { scheme, .. } | Self::Ecc { scheme, .. } => *scheme,
            Self::Hmac { .. } => alg::HMAC,
        }
    }

    /// Hash of the scheme.
    #[must_use]
    pub fn hash(&self) -> Option<HashAlg> {
        match self {
            Self::Null => None,
            Self::Rsa { hash, .. } | Self::Ecc { hash, .. } | Self::Hmac { hash, .. } => {
                Some(*hash)
            }
        }
    }
}

impl Unmarshal for Signature {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let scheme = reader.u16()?;
        match scheme {
            alg::RSASSA | alg::RSAPSS => Ok(Self::Rsa {
                scheme,
                hash: algorithms::hash(reader)?,
                value: reader.sized_vec(limit::RSA_KEY)?,
            }),
            alg::ECDSA | alg::ECDAA | alg::ECSCHNORR => Ok(Self::Ecc {
                scheme,
                hash: algorithms::hash(reader)?,
                r: reader.sized_vec(limit::ECC_KEY)?,
                s: reader.sized_vec(limit::ECC_KEY)?,
            }),
            alg::HMAC => {
                let hash = algorithms::hash(reader)?;
                Ok(Self::Hmac {
                    hash,
                    value: reader.take(hash.size())?.to_vec(),
                })
            }
            _ => Err(Rc::SCHEME),
        }
    }
}

impl Marshal for Signature {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.scheme());
        if let Some(hash) = self.hash() {
            out.put(&hash.id());
        }
        match self {
            Self::Null => {}
            Self::Rsa { value, .. } => out.sized(value),
            Self::Ecc { r, s, .. } => {
                out.sized(r);
                out.sized(s);
            }
            Self::Hmac { value, .. } => out.raw(value),
        }
    }
}
