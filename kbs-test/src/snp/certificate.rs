//! One certificate of AMD's hierarchy: what it says, and the checks that concern it alone.
//!
//! Specification: VCEK Certificate and KDS Interface Specification (AMD 57230), chapter 3.

use std::time::{Duration, SystemTime};

use thiserror::Error;
use x509_cert::Certificate as X509;
use x509_cert::der::asn1::{ObjectIdentifier, OctetStringRef};
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::der::{Decode, DecodePem, Encode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::audit::utc;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const RSA_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Extensions of a VCEK.
pub const BOOTLOADER_SPL: &str = "1.3.6.1.4.1.3704.1.3.1";
/// See [`BOOTLOADER_SPL`].
pub const TEE_SPL: &str = "1.3.6.1.4.1.3704.1.3.2";
/// See [`BOOTLOADER_SPL`].
pub const SNP_SPL: &str = "1.3.6.1.4.1.3704.1.3.3";
/// See [`BOOTLOADER_SPL`].
pub const MICROCODE_SPL: &str = "1.3.6.1.4.1.3704.1.3.8";
/// See [`BOOTLOADER_SPL`]; on Turin.
pub const FMC_SPL: &str = "1.3.6.1.4.1.3704.1.3.9";
/// See [`BOOTLOADER_SPL`].
pub const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";

/// Modulus of AMD's ARK and ASK in bytes.
const RSA_SIZE: usize = 512;

/// Longest certificate that is read, in bytes; AMD's have less than 2 KiB.
const MAX_SIZE: usize = 8 * 1024;

/// Which certificate of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// AMD's root key.
    Ark,
    /// AMD's intermediate key.
    Ask,
    /// The chip's key.
    Vcek,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Vcek => "VCEK",
        })
    }
}

/// What is wrong with one certificate.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Neither DER nor PEM of a certificate.
    #[error("not an X.509 certificate")]
    Encoding,
    /// Not valid yet.
    #[error("not valid before {0}")]
    NotYet(String),
    /// Not valid any more.
    #[error("not valid after {0}")]
    Expired(String),
    /// A certificate that may not sign others.
    #[error("not the certificate of a certification authority")]
    NotCa,
    /// A chip's certificate that may sign others.
    #[error("the certificate of a certification authority, not of a chip")]
    Ca,
    /// ARK and ASK have RSA keys of 4096 bits.
    #[error("its key is not RSA with 4096 bits")]
    Key,
    /// A critical extension that nobody here can judge.
    #[error("it has the critical extension {0}, which is not known")]
    Critical(String),
    /// An extension that a VCEK has to have.
    #[error("it lacks extension {0}, or has it in another form")]
    Extension(&'static str),
    /// The algorithm inside the signed part is another than outside.
    #[error("it names two signature algorithms")]
    TwoAlgorithms,
}

/// A certificate that was parsed; nothing is known about who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate(pub(super) X509);

impl Certificate {
    /// Reads DER, or PEM if it looks like it.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_SIZE {
            return Err(CertificateError::Encoding);
        }
        let parsed = match bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            true => X509::from_pem(bytes),
            // Tables may be padded with zeros; DER knows its length.
            false => X509::from_der(exact_der(bytes)),
        };
        parsed.map(Self).map_err(|_| CertificateError::Encoding)
    }

    /// The certificate in DER.
    pub fn to_der(&self) -> Result<Vec<u8>, CertificateError> {
        self.0.to_der().map_err(|_| CertificateError::Encoding)
    }

    /// Whether `issuer` is who this certificate says has signed it.
    pub fn names_issuer(&self, issuer: &Self) -> bool {
        self.0.tbs_certificate.issuer == issuer.0.tbs_certificate.subject
    }

    /// The common name of the issuer, for messages.
    pub fn issuer_name(&self) -> String {
        common_name(&self.0.tbs_certificate.issuer)
    }

    /// The common name of the subject, for messages.
    pub fn subject_name(&self) -> String {
        common_name(&self.0.tbs_certificate.subject)
    }

    /// Everything but the signature and the values that a report is compared with.
    pub fn check(&self, role: Role, now: SystemTime) -> Result<(), CertificateError> {
        let tbs = &self.0.tbs_certificate;
        if tbs.signature != self.0.signature_algorithm {
            return Err(CertificateError::TwoAlgorithms);
        }
        let (from, to) = (tbs.validity.not_before, tbs.validity.not_after);
        if now < from.to_system_time() {
            return Err(CertificateError::NotYet(utc(from.to_system_time())));
        }
        // The last second belongs to the period (RFC 5280, section 4.1.2.5).
        if now >= to.to_system_time() + Duration::from_secs(1) {
            return Err(CertificateError::Expired(utc(to.to_system_time())));
        }
        for extension in tbs.extensions.iter().flatten() {
            if extension.critical && ![BASIC_CONSTRAINTS, KEY_USAGE].contains(&extension.extn_id) {
                return Err(CertificateError::Critical(extension.extn_id.to_string()));
            }
        }
        match role {
            Role::Ark | Role::Ask if !self.may_sign()? => Err(CertificateError::NotCa),
            Role::Ark | Role::Ask if self.rsa_size() != Some(RSA_SIZE) => {
                Err(CertificateError::Key)
            }
            Role::Vcek if self.is_ca()? => Err(CertificateError::Ca),
            _ => Ok(()),
        }
    }

    fn is_ca(&self) -> Result<bool, CertificateError> {
        let found = self.0.tbs_certificate.get::<BasicConstraints>();
        let found = found.map_err(|_| CertificateError::Extension("2.5.29.19"))?;
        Ok(found.is_some_and(|(_, constraints)| constraints.ca))
    }

    fn may_sign(&self) -> Result<bool, CertificateError> {
        let usage = self.0.tbs_certificate.get::<KeyUsage>();
        let usage = usage.map_err(|_| CertificateError::Extension("2.5.29.15"))?;
        Ok(self.is_ca()? && usage.is_some_and(|(_, usage)| usage.key_cert_sign()))
    }

    fn rsa_size(&self) -> Option<usize> {
        use rsa::traits::PublicKeyParts;
        let key = &self.0.tbs_certificate.subject_public_key_info;
        if key.algorithm.oid != RSA_KEY {
            return None;
        }
        rsa::RsaPublicKey::try_from(key.owned_to_ref())
            .ok()
            .map(|key| key.size())
    }

    /// A security version of a VCEK: a DER INTEGER from 0 to 255. `None` if the extension is absent.
    pub fn spl(&self, oid: &'static str) -> Result<Option<u8>, CertificateError> {
        self.extension(oid)?
            .map(|value| u8::from_der(value).map_err(|_| CertificateError::Extension(oid)))
            .transpose()
    }

    /// The chip that a VCEK is for: bytes as they are, or in an OCTET STRING.
    pub fn hardware_id(&self) -> Result<Option<&[u8]>, CertificateError> {
        Ok(self
            .extension(HARDWARE_ID)?
            .map(|value| OctetStringRef::from_der(value).map_or(value, |inner| inner.as_bytes())))
    }

    /// The value of an extension; one that is there twice is an error.
    fn extension(&self, oid: &'static str) -> Result<Option<&[u8]>, CertificateError> {
        let wanted = ObjectIdentifier::new(oid).map_err(|_| CertificateError::Extension(oid))?;
        let mut found = self
            .0
            .tbs_certificate
            .extensions
            .iter()
            .flatten()
            .filter(|e| e.extn_id == wanted)
            .map(|e| e.extn_value.as_bytes());
        match (found.next(), found.next()) {
            (value, None) => Ok(value),
            _ => Err(CertificateError::Extension(oid)),
        }
    }
}

fn common_name(name: &x509_cert::name::Name) -> String {
    let value = name
        .0
        .iter()
        .flat_map(|part| part.0.iter())
        .find(|attribute| attribute.oid == COMMON_NAME);
    let text = value.map(|v| String::from_utf8_lossy(v.value.value()).into_owned());
    text.unwrap_or_else(|| "without a name".to_owned())
        .chars()
        .take(64)
        .collect()
}

/// The first DER value in `bytes`, if it has a definite length within them; else all of them.
fn exact_der(bytes: &[u8]) -> &[u8] {
    use x509_cert::der::{Header, Reader, SliceReader};
    let length = SliceReader::new(bytes).ok().and_then(|mut reader| {
        let header = Header::decode(&mut reader).ok()?;
        usize::try_from(header.length)
            .ok()?
            .checked_add(usize::try_from(reader.position()).ok()?)
    });
    length.and_then(|n| bytes.get(..n)).unwrap_or(bytes)
}
