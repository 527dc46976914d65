//! X.509 certificates (RFC 5280), as far as verifying with them needs.

use der::Tag;
use der::asn1::ObjectIdentifier;

use super::AuthError;
use super::asn1::{Element, Elements, algorithm, context, context_primitive, whole};
use super::cms::{Digest, DigestAlgorithm};
use super::ec::EcKey;
use super::names;
use super::rsa::RsaKey;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Extensions that may be critical though nothing depends on them here: alternative
/// names, policies, where revocation lists are, extended key usage.
const HARMLESS: [ObjectIdentifier; 6] = [
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.33"),
    ObjectIdentifier::new_unwrap("2.5.29.36"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
];

/// The public key of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum PublicKey<'a> {
    Rsa(RsaKey<'a>),
    Ec(EcKey),
}

impl PublicKey<'_> {
    /// Verifies a signature over a message with this digest.
    ///
    /// # Errors
    /// [`AuthError::BadSignature`].
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> Result<(), AuthError> {
        match self {
            Self::Rsa(key) => key.verify(digest, signature),
            Self::Ec(key) => key.verify(digest.bytes(), signature),
        }
    }
}

/// A certificate. What it says counts when a signature over it has been verified, or when
/// it is trusted as it is.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// All of it.
    pub raw: &'a [u8],
    /// The part that is signed.
    pub tbs: &'a [u8],
    pub serial: &'a [u8],
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    key: Element<'a>,
    /// Of the signature: inside the part that is signed, and outside.
    algorithms: [Element<'a>; 2],
    signature: &'a [u8],
    pub subject_key_id: Option<&'a [u8]>,
    pub authority_key_id: Option<&'a [u8]>,
    usage: Usage,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    v3: bool,
    /// Basic constraints: CA or not.
    ca: Option<bool>,
    path_length: Option<u32>,
    /// Key usage: may sign certificates or not.
    signs_certificates: Option<bool>,
    /// There is a critical extension that is not understood, or one that is damaged.
    unknown: bool,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate that is all of `raw`.
    ///
    /// # Errors
    /// [`AuthError::Malformed`], [`AuthError::TrailingBytes`].
    pub fn parse(raw: &'a [u8]) -> Result<Self, AuthError> {
        let mut outer = whole(raw)?.inside(Tag::Sequence)?;
        let tbs = outer.element()?;
        let outer_algorithm = outer.element()?;
        algorithm(outer_algorithm)?;
        let signature = outer.element()?.bits()?;
        outer.end()?;

        let mut fields = tbs.inside(Tag::Sequence)?;
        let version = match fields.optional(context(0))? {
            Some(version) => whole(version.value)?.integer()?,
            None => &[0],
        };
        let serial = fields.element()?.integer()?;
        let inner_algorithm = fields.element()?;
        algorithm(inner_algorithm)?;
        let issuer = fields.element()?;
        check_validity(fields.element()?)?;
        let subject = fields.element()?;
        let key = fields.element()?;
        fields.optional(context_primitive(1))?;
        fields.optional(context_primitive(2))?;
        let extensions = fields.optional(context(3))?;
        fields.end()?;
        names::check(issuer.raw)?;
        names::check(subject.raw)?;
        key_parts(key)?;

        let mut certificate = Self {
            raw,
            tbs: tbs.raw,
            serial,
            issuer: issuer.raw,
            subject: subject.raw,
            key,
            algorithms: [inner_algorithm, outer_algorithm],
            signature,
            subject_key_id: None,
            authority_key_id: None,
            usage: Usage {
                v3: version == [2],
                ..Usage::default()
            },
        };
        if let Some(extensions) = extensions {
            for extension in whole(extensions.value)?.inside(Tag::Sequence)? {
                certificate.read_extension(extension?)?;
            }
        }
        Ok(certificate)
    }

    fn read_extension(&mut self, extension: Element<'a>) -> Result<(), AuthError> {
        let mut fields = extension.inside(Tag::Sequence)?;
        let oid = fields.element()?.oid()?;
        let critical = fields
            .optional(Tag::Boolean)?
            .is_some_and(|critical| critical.value != [0]);
        let value = fields.element()?.expect(Tag::OctetString)?;
        fields.end()?;
        if self.read_value(oid, critical, value).is_err() {
            self.usage.unknown = true;
        }
        Ok(())
    }

    fn read_value(&mut self, oid: &[u8], critical: bool, value: &'a [u8]) -> Result<(), AuthError> {
        let is = |known: ObjectIdentifier| known.as_bytes() == oid;
        if is(SUBJECT_KEY_ID) {
            self.subject_key_id = Some(whole(value)?.expect(Tag::OctetString)?);
        } else if is(AUTHORITY_KEY_ID) {
            let mut fields = whole(value)?.inside(Tag::Sequence)?;
            self.authority_key_id = fields.optional(context_primitive(0))?.map(|id| id.value);
        } else if is(KEY_USAGE) {
            let bits = whole(value)?.expect(Tag::BitString)?;
            // Bit 5, keyCertSign, counted from the most significant one.
            let signs = bits.get(1).is_some_and(|byte| byte & 0x04 != 0);
            self.usage.signs_certificates = Some(signs);
        } else if is(BASIC_CONSTRAINTS) {
            self.read_basic_constraints(value)?;
        } else {
            self.usage.unknown |= critical && !HARMLESS.into_iter().any(is);
        }
        Ok(())
    }

    fn read_basic_constraints(&mut self, value: &[u8]) -> Result<(), AuthError> {
        let mut fields = whole(value)?.inside(Tag::Sequence)?;
        let ca = fields.optional(Tag::Boolean)?;
        self.usage.ca = Some(ca.is_some_and(|ca| ca.value != [0]));
        if let Some(length) = fields.optional(Tag::Integer)? {
            let length = match length.value {
                [] => return Err(AuthError::Malformed),
                [first, ..] if first & 0x80 != 0 => return Err(AuthError::Malformed),
                bytes => bytes
                    .iter()
                    .try_fold(0_u32, |n, byte| {
                        n.checked_mul(256)?.checked_add(u32::from(*byte))
                    })
                    .unwrap_or(u32::MAX),
            };
            self.usage.path_length = Some(length);
        }
        fields.end()
    }

    /// The public key.
    ///
    /// # Errors
    /// [`AuthError::PublicKey`] for one that is not RSA of 2048 to 4096 bits, P-256 or
    /// P-384; [`AuthError::Malformed`].
    pub fn key(&self) -> Result<PublicKey<'a>, AuthError> {
        let KeyParts {
            kind,
            parameters,
            key,
        } = key_parts(self.key)?;
        if kind == RSA_ENCRYPTION.as_bytes() {
            return RsaKey::parse(key).map(PublicKey::Rsa);
        }
        if kind != EC_PUBLIC_KEY.as_bytes() {
            return Err(AuthError::PublicKey);
        }
        let curve = parameters.ok_or(AuthError::PublicKey)?.oid()?;
        if curve == SECP256R1.as_bytes() {
            EcKey::p256(key).map(PublicKey::Ec)
        } else if curve == SECP384R1.as_bytes() {
            EcKey::p384(key).map(PublicKey::Ec)
        } else {
            Err(AuthError::PublicKey)
        }
    }

    /// Verifies the signature on this certificate with the key of `issuer`.
    ///
    /// # Errors
    /// [`AuthError::BadSignature`], or why key or algorithm can not be used.
    pub fn verify_by(&self, issuer: &Certificate<'_>) -> Result<(), AuthError> {
        let [inside, outside] = self.algorithms;
        if inside.raw != outside.raw {
            return Err(AuthError::Malformed);
        }
        let (oid, _) = algorithm(inside)?;
        let digest = DigestAlgorithm::of_signature(oid).ok_or(AuthError::SignatureAlgorithm)?;
        issuer
            .key()?
            .verify(&digest.digest(&[self.tbs]), self.signature)
    }

    /// Whether the certificate may have signed others, with `below` intermediate ones
    /// between it and the last.
    pub fn may_issue(&self, below: usize) -> bool {
        let usage = &self.usage;
        let ca = match usage.ca {
            Some(ca) => ca,
            // Without basic constraints only the oldest kind, or key usage, makes a CA.
            None => (!usage.v3 && self.is_self_issued()) || usage.signs_certificates == Some(true),
        };
        ca && usage.signs_certificates != Some(false)
            && usage
                .path_length
                .is_none_or(|length| below as u64 <= u64::from(length))
    }

    /// Whether the certificate asks for something that is not checked here, or can not be
    /// understood.
    pub fn has_unknown(&self) -> bool {
        self.usage.unknown
    }

    pub fn is_self_issued(&self) -> bool {
        names::same(self.issuer, self.subject)
    }

    /// The first common name of the subject, without its type.
    ///
    /// # Errors
    /// [`AuthError::Malformed`].
    pub fn common_name(&self) -> Result<Option<&'a [u8]>, AuthError> {
        for part in whole(self.subject)?.inside(Tag::Sequence)? {
            for attribute in part?.inside(Tag::Set)? {
                let mut fields: Elements<'a> = attribute?.inside(Tag::Sequence)?;
                if fields.element()?.oid()? == COMMON_NAME.as_bytes() {
                    return Ok(Some(fields.element()?.value));
                }
            }
        }
        Ok(None)
    }
}

/// Times have to be there; whether now is between them does not count.
fn check_validity(validity: Element<'_>) -> Result<(), AuthError> {
    let mut times = validity.inside(Tag::Sequence)?;
    for _ in 0..2 {
        if !matches!(times.element()?.tag, Tag::UtcTime | Tag::GeneralizedTime) {
            return Err(AuthError::Malformed);
        }
    }
    times.end()
}

/// A SubjectPublicKeyInfo.
struct KeyParts<'a> {
    kind: &'a [u8],
    parameters: Option<Element<'a>>,
    key: &'a [u8],
}

fn key_parts(info: Element<'_>) -> Result<KeyParts<'_>, AuthError> {
    let mut fields = info.inside(Tag::Sequence)?;
    let (kind, parameters) = algorithm(fields.element()?)?;
    let key = fields.element()?.bits()?;
    fields.end()?;
    Ok(KeyParts {
        kind,
        parameters,
        key,
    })
}
