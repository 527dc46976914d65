//! Public and sensitive areas of objects (Part 2, 12).

use alloc::vec::Vec;

use super::{
    Marshal, Put, Reader, Unmarshal,
    algorithms::{self, Scheme, SymDef},
};
use crate::{
    constants::{RSA_EXPONENT, alg, limit, oa},
    crypto::{self, Bytes, Curve, HashAlg, Point},
    rc::{Rc, Result},
};

/// `TPMU_PUBLIC_PARMS` with its selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parameters {
    /// An HMAC key, a derivation parent or sealed data.
    KeyedHash(Scheme),
    /// A symmetric key.
    Symmetric(SymDef),
    /// An RSA key.
    Rsa {
        /// Protects children; null unless the key is a parent.
        symmetric: SymDef,
        /// Signing or decryption scheme.
        scheme: Scheme,
        /// Size of the modulus in bits.
        bits: u16,
        /// Public exponent; 0 means 65537.
        exponent: u32,
    },
    /// An ECC key.
    Ecc {
        /// Protects children; null unless the key is a parent.
        symmetric: SymDef,
        /// Signing or key exchange scheme.
        scheme: Scheme,
        /// The curve.
        curve: Curve,
        /// Key derivation after a key exchange.
        kdf: Scheme,
    },
}

impl Parameters {
    /// `TPMI_ALG_PUBLIC`
    #[must_use]
    pub fn id(&self) -> u16 {
        match self {
            Self::KeyedHash(_) => alg::KEYEDHASH,
            Self::Symmetric(_) => alg::SYMCIPHER,
            Self::Rsa { .. } => alg::RSA,
            Self::Ecc { .. } => alg::ECC,
        }
    }

    fn body(id: u16, reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match id {
            alg::KEYEDHASH => Self::KeyedHash(Scheme::keyed_hash(reader)?),
            alg::SYMCIPHER => Self::Symmetric(SymDef::for_object(reader, false)?),
            alg::RSA => Self::Rsa {
                symmetric: SymDef::for_object(reader, true)?,
                scheme: Scheme::rsa(reader)?,
                bits: match reader.u16()? {
                    bits @ (1024 | 2048 | 3072) => bits,
                    _ => return Err(Rc::VALUE),
                },
                exponent: reader.u32()?,
            },
            alg::ECC => Self::Ecc {
                symmetric: SymDef::for_object(reader, true)?,
                scheme: Scheme::ecc(reader)?,
                curve: algorithms::curve(reader)?,
                kdf: Scheme::kdf(reader)?,
            },
            _ => return Err(Rc::TYPE),
        })
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeyedHash(scheme) => out.put(scheme),
            Self::Symmetric(sym) => out.put(sym),
            Self::Rsa {
                symmetric,
                scheme,
                bits,
                exponent,
            } => {
                out.put(symmetric);
                out.put(scheme);
                out.put(bits);
                out.put(exponent);
            }
            Self::Ecc {
                symmetric,
                scheme,
                curve,
                kdf,
            } => {
                out.put(symmetric);
                out.put(scheme);
                out.put(&curve.id());
                out.put(kdf);
            }
        }
    }
}

/// `TPMT_PUBLIC_PARMS`
impl Unmarshal for Parameters {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let id = reader.u16()?;
        Self::body(id, reader)
    }
}

impl Marshal for Parameters {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.id());
        self.put_body(out);
    }
}

/// `TPMU_PUBLIC_ID`: what makes the key this key; in a template, input to its derivation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unique {
    /// Digest (keyed hash, symmetric) or modulus (RSA).
    Bytes(Vec<u8>),
    /// Public point (ECC).
    Point(Point),
}

impl Unique {
    /// The bytes of a digest or modulus; empty for a point.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Point(_) => &[],
        }
    }

    /// The point of an ECC key.
    ///
    /// # Errors
    /// `TPM_RC_KEY` when there is none.
    pub fn point(&self) -> Result<&Point> {
        match self {
            Self::Point(point) => Ok(point),
            Self::Bytes(_) => Err(Rc::KEY),
        }
    }
}

impl Marshal for Unique {
    fn marshal(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.sized(bytes),
            Self::Point(point) => out.put(point),
        }
    }
}

/// `TPMS_ECC_POINT`
impl Unmarshal for Point {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            x: reader.sized_vec(limit::ECC_KEY)?,
            y: reader.sized_vec(limit::ECC_KEY)?,
        })
    }
}

impl Marshal for Point {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.sized(&self.x);
        out.sized(&self.y);
    }
}

/// `TPMT_PUBLIC`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Public {
    /// Hash of the name; none for an object that has no name.
    pub name_alg: Option<HashAlg>,
    /// `TPMA_OBJECT`, see [`oa`].
    pub attributes: u32,
    /// Policy digest, or empty.
    pub policy: Vec<u8>,
    /// Type and parameters.
    pub parameters: Parameters,
    /// Public key, or digest that binds public to sensitive area.
    pub unique: Unique,
}

impl Public {
    /// Are all of `bits` set?
    #[must_use]
    pub fn has(&self, bits: u32) -> bool {
        self.attributes & bits == bits
    }

    /// `TPMI_ALG_PUBLIC`
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.parameters.id()
    }

    /// `TPMT_PUBLIC`, or `TPMT_PUBLIC+` when `null` allows an object without name algorithm.
    pub fn read(reader: &mut Reader<'_>, null: bool) -> Result<Self> {
        let (name_alg, attributes, policy, parameters) = Self::head(reader, null)?;
        let unique = match parameters {
            Parameters::Ecc { .. } => Unique::Point(Point::unmarshal(reader)?),
            Parameters::Rsa { .. } => Unique::Bytes(reader.sized_vec(limit::RSA_KEY)?),
            _ => Unique::Bytes(reader.sized_vec(limit::DIGEST)?),
        };
        Ok(Self {
            name_alg,
            attributes,
            policy,
            parameters,
            unique,
        })
    }

    /// A template for derivation: `unique` is then `TPMS_DERIVE` (label and context), which
    /// is returned beside the public area.
    pub fn read_derive(reader: &mut Reader<'_>) -> Result<(Self, Derive)> {
        let (name_alg, attributes, policy, parameters) = Self::head(reader, false)?;
        let derive = Derive::unmarshal(reader)?;
        let unique = match parameters {
            Parameters::Ecc { .. } => Unique::Point(Point {
                x: Vec::new(),
                y: Vec::new(),
            }),
            _ => Unique::Bytes(Vec::new()),
        };
        Ok((
            Self {
                name_alg,
                attributes,
                policy,
                parameters,
                unique,
            },
            derive,
        ))
    }

    #[allow(clippy::type_complexity)]
    fn head(
        reader: &mut Reader<'_>,
        null: bool,
    ) -> Result<(Option<HashAlg>, u32, Vec<u8>, Parameters)> {
        let id = reader.u16()?;
        if !matches!(id, alg::KEYEDHASH | alg::SYMCIPHER | alg::RSA | alg::ECC) {
            return Err(Rc::TYPE);
        }
        let name_alg = algorithms::hash_or_null(reader)?;
        if name_alg.is_none() && !null {
            return Err(Rc::HASH);
        }
        let attributes = reader.u32()?;
        if attributes & !oa::ALL != 0 {
            return Err(Rc::RESERVED_BITS);
        }
        let policy = reader.sized_vec(limit::DIGEST)?;
        let parameters = Parameters::body(id, reader)?;
        Ok((name_alg, attributes, policy, parameters))
    }

    /// The object's name: hash identifier and digest of the public area; empty without a
    /// name algorithm (Part 1, 16).
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let Some(hash) = self.name_alg else {
            return Vec::new();
        };
        let mut name = hash.id().to_be_bytes().to_vec();
        name.extend_from_slice(&crypto::hash(hash, &[&self.to_bytes()]));
        name
    }

    /// The symmetric algorithm with which a parent protects its children.
    #[must_use]
    pub fn symmetric(&self) -> SymDef {
        match &self.parameters {
            Parameters::Rsa { symmetric, .. } | Parameters::Ecc { symmetric, .. } => *symmetric,
            Parameters::Symmetric(symmetric) => *symmetric,
            Parameters::KeyedHash(_) => SymDef::Null,
        }
    }

    /// The key's own scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match &self.parameters {
            Parameters::Rsa { scheme, .. }
            | Parameters::Ecc { scheme, .. }
            | Parameters::KeyedHash(scheme) => *scheme,
            Parameters::Symmetric(_) => Scheme::Null,
        }
    }

    /// RSA public exponent.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        match self.parameters {
            Parameters::Rsa { exponent, .. } if exponent != 0 => exponent,
            _ => RSA_EXPONENT,
        }
    }
}

impl Unmarshal for Public {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        Self::read(reader, false)
    }
}

impl Marshal for Public {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.put(&self.parameters.id());
        out.put(&algorithms::hash_id(self.name_alg));
        out.put(&self.attributes);
        out.sized(&self.policy);
        self.parameters.put_body(out);
        out.put(&self.unique);
    }
}

/// `TPMS_DERIVE`
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Derive {
    /// Label of the derivation.
    pub label: Vec<u8>,
    /// Context of the derivation.
    pub context: Vec<u8>,
}

impl Unmarshal for Derive {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            label: reader.sized_vec(limit::LABEL)?,
            context: reader.sized_vec(limit::LABEL)?,
        })
    }
}

/// `TPMT_SENSITIVE`
#[derive(Clone)]
pub struct Sensitive {
    /// `TPMI_ALG_PUBLIC` of the object.
    pub kind: u16,
    /// Authorization value, without trailing zeros.
    pub auth: Bytes,
    /// Seed of a parent, or obfuscation value of anything else.
    pub seed: Bytes,
    /// RSA prime, ECC private number, symmetric key, or sealed data.
    pub secret: Bytes,
}

impl Unmarshal for Sensitive {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        let kind = reader.u16()?;
        let max = match kind {
            alg::RSA => limit::RSA_PRIVATE,
            alg::ECC => limit::ECC_KEY,
            alg::KEYEDHASH => limit::SENSITIVE_DATA,
            alg::SYMCIPHER => limit::SYM_KEY,
            _ => return Err(Rc::TYPE),
        };
        let auth = reader.sized_secret(limit::DIGEST)?;
        let seed = reader.sized_secret(limit::DIGEST)?;
        let secret = reader.sized_secret(max)?;
        Ok(Self {
            kind,
            auth,
            seed,
            secret,
        })
    }
}

impl Marshal for Sensitive {
    fn marshal(&self, out: &mut Vec<u8>) {
        out.reserve(8 + self.auth.len() + self.seed.len() + self.secret.len());
        out.put(&self.kind);
        out.sized(&self.auth);
        out.sized(&self.seed);
        out.sized(&self.secret);
    }
}

/// `TPMS_SENSITIVE_CREATE`
pub struct SensitiveCreate {
    /// Authorization value of the new object.
    pub auth: Bytes,
    /// Data to seal, or a key from outside.
    pub data: Bytes,
}

impl Unmarshal for SensitiveCreate {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self> {
        reader.inside(|reader| {
            Ok(Self {
                auth: reader.sized_secret(limit::DIGEST)?,
                data: reader.sized_secret(limit::SENSITIVE_DATA)?,
            })
        })
    }
}
