//! Verifying a detached PKCS #7 / CMS SignedData (RFC 5652) with one signer.
//!
//! Accepted is what `openssl cms -verify -binary -partial_chain -no_check_time
//! -purpose any` accepts, less what UEFI does not have: a second signer, content inside,
//! digests other than SHA-2, bytes after the end.

use core::fmt;

use der::Tag;
use der::asn1::ObjectIdentifier;
use sha2::{Sha256, Sha384, Sha512};

use super::asn1::{Element, Elements, algorithm, context, context_primitive, whole};
use super::x509::{Certificate, PublicKey};
use super::{AuthError, chain, names};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// Signature algorithms that are RSASSA-PKCS1-v1_5 with a digest, 1.2.840.113549.1.1.n.
/// Some signers name one of these where RFC 3370 has plain RSA; which digest it is says
/// the signer's digest algorithm alone.
const RSA_WITH_DIGEST: [ObjectIdentifier; 10] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.2"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.3"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.14"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.15"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.16"),
];

/// Certificates in a signature, at most: each may have to be tried on the way to a trusted
/// one, and a guest must not be able to make that long.
const MAX_CERTIFICATES: usize = 16;

/// A digest algorithm that UEFI allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl DigestAlgorithm {
    fn of(oid: &[u8]) -> Option<Self> {
        const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
        const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
        const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
        [
            (SHA256, Self::Sha256),
            (SHA384, Self::Sha384),
            (SHA512, Self::Sha512),
        ]
        .into_iter()
        .find(|(known, _)| known.as_bytes() == oid)
        .map(|(_, digest)| digest)
    }

    /// The digest in a signature algorithm with RSA or ECDSA.
    pub(super) fn of_signature(oid: &[u8]) -> Option<Self> {
        const ALGORITHMS: [(ObjectIdentifier, DigestAlgorithm); 6] = [
            (
                ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
                DigestAlgorithm::Sha256,
            ),
            (
                ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"),
                DigestAlgorithm::Sha384,
            ),
            (
                ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"),
                DigestAlgorithm::Sha512,
            ),
            (
                ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
                DigestAlgorithm::Sha256,
            ),
            (
                ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
                DigestAlgorithm::Sha384,
            ),
            (
                ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"),
                DigestAlgorithm::Sha512,
            ),
        ];
        ALGORITHMS
            .iter()
            .find(|(known, _)| known.as_bytes() == oid)
            .map(|(_, digest)| *digest)
    }

    /// DER of a DigestInfo up to the digest (RFC 8017, section 9.2, note 1).
    pub(super) fn digest_info(self) -> &'static [u8; 19] {
        match self {
            Self::Sha256 => {
                b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
            }
            Self::Sha384 => {
                b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
            }
            Self::Sha512 => {
                b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
            }
        }
    }

    /// The digest of all parts, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> Digest {
        fn run<D: sha2::Digest>(parts: &[&[u8]], out: &mut [u8; 64]) -> usize {
            let mut state = D::new();
            parts.iter().for_each(|part| state.update(part));
            let digest = state.finalize();
            out[..digest.len()].copy_from_slice(&digest);
            digest.len()
        }
        let mut bytes = [0; 64];
        let len = match self {
            Self::Sha256 => run::<Sha256>(parts, &mut bytes),
            Self::Sha384 => run::<Sha384>(parts, &mut bytes),
            Self::Sha512 => run::<Sha512>(parts, &mut bytes),
        };
        Digest {
            algorithm: self,
            bytes,
            len,
        }
    }
}

/// A digest.
#[derive(Clone, Copy)]
pub struct Digest {
    pub algorithm: DigestAlgorithm,
    bytes: [u8; 64],
    len: usize,
}

impl Digest {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:02x?})", self.algorithm, self.bytes())
    }
}

/// A SignedData with one signer, read but not verified.
#[derive(Debug)]
pub struct SignedData<'a> {
    certificates: &'a [u8],
    digest: DigestAlgorithm,
    signer: SignerId<'a>,
    attributes: Option<&'a [u8]>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum SignerId<'a> {
    Issuer { name: &'a [u8], serial: &'a [u8] },
    KeyId(&'a [u8]),
}

impl<'a> SignedData<'a> {
    /// Reads a SignedData, with the ContentInfo around it (RFC 5652, section 3) or, as
    /// UEFI has it, without.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(der: &'a [u8]) -> Result<Self, AuthError> {
        let outer = whole(der)?;
        let mut fields = outer.inside(Tag::Sequence)?;
        let mut first = fields.element()?;
        if first.tag == Tag::ObjectIdentifier {
            if first.oid()? != SIGNED_DATA.as_bytes() {
                return Err(AuthError::Malformed);
            }
            let content = fields.element()?.expect(context(0))?;
            fields.end()?;
            fields = whole(content)?.inside(Tag::Sequence)?;
            first = fields.element()?;
        }
        version(first)?;
        let digests = fields.element()?;
        let mut content = fields.element()?.inside(Tag::Sequence)?;
        content.element()?.oid()?;
        if !content.is_finished() {
            return Err(AuthError::EmbeddedContent);
        }
        let certificates = fields
            .optional(context(0))?
            .map_or(&[][..], |set| set.value);
        fields.optional(context(1))?;
        let mut signers = fields.element()?.inside(Tag::Set)?;
        fields.end()?;
        if signers.is_finished() {
            return Err(AuthError::SignerCount);
        }
        let signer = signers.element()?;
        if !signers.is_finished() {
            return Err(AuthError::SignerCount);
        }
        for (number, certificate) in Elements::new(certificates)?.enumerate() {
            let certificate = certificate?;
            if number == MAX_CERTIFICATES {
                return Err(AuthError::TooManyCertificates);
            }
            // Other kinds may be in the set; they sign nothing here.
            if certificate.tag == Tag::Sequence {
                Certificate::parse(certificate.raw)?;
            }
        }
        Self::parse_signer(signer, digests, certificates)
    }

    fn parse_signer(
        signer: Element<'a>,
        digests: Element<'a>,
        certificates: &'a [u8],
    ) -> Result<Self, AuthError> {
        let mut fields = signer.inside(Tag::Sequence)?;
        version(fields.element()?)?;
        let id = fields.element()?;
        let signer = if id.tag == context_primitive(0) {
            SignerId::KeyId(id.value)
        } else {
            let mut parts = id.inside(Tag::Sequence)?;
            let name = parts.element()?;
            name.expect(Tag::Sequence)?;
            let serial = parts.element()?.integer()?;
            parts.end()?;
            SignerId::Issuer {
                name: name.raw,
                serial,
            }
        };
        let (digest_oid, _) = algorithm(fields.element()?)?;
        let digest = DigestAlgorithm::of(digest_oid).ok_or(AuthError::Digest)?;
        let attributes = fields.optional(context(0))?.map(|set| set.raw);
        let (algorithm_oid, _) = algorithm(fields.element()?)?;
        let signature = fields.element()?.expect(Tag::OctetString)?;
        fields.optional(context(1))?;
        fields.end()?;

        // The list at the top has to announce the digest that the signer uses.
        let mut announced = false;
        for identifier in digests.inside(Tag::Set)? {
            announced |= algorithm(identifier?)?.0 == digest_oid;
        }
        if !announced {
            return Err(AuthError::Digest);
        }
        Ok(Self {
            certificates,
            digest,
            signer,
            attributes,
            algorithm: algorithm_oid,
            signature,
        })
    }

    fn certificates(&self) -> impl Iterator<Item = Certificate<'a>> + Clone + use<'a> {
        let mut rest = self.certificates;
        core::iter::from_fn(move || {
            while !rest.is_empty() {
                let element = Elements::new(rest).and_then(|mut all| all.element()).ok()?;
                rest = &rest[element.raw.len()..];
                if let Ok(certificate) = Certificate::parse(element.raw) {
                    return Some(certificate);
                }
            }
            None
        })
    }

    /// The certificate of the signer. It is the guest's word until something vouches
    /// for it.
    ///
    /// # Errors
    /// [`AuthError::NoSignerCertificate`].
    pub fn signer(&self) -> Result<Certificate<'a>, AuthError> {
        self.certificates()
            .find(|certificate| match self.signer {
                SignerId::Issuer { name, serial } => {
                    certificate.serial == serial && names::same(certificate.issuer, name)
                }
                SignerId::KeyId(id) => certificate.subject_key_id == Some(id),
            })
            .ok_or(AuthError::NoSignerCertificate)
    }

    /// Verifies the signature over `content`, its parts one after the other, and that the
    /// signer is, or descends from, one of the certificates in `anchors`. Anchors that
    /// are no certificates vouch for nothing.
    ///
    /// # Errors
    /// Why the signature does not count.
    pub fn verify<'b>(
        &self,
        content: &[&[u8]],
        anchors: impl Iterator<Item = &'b [u8]> + Clone,
    ) -> Result<(), AuthError>
    where
        'a: 'b,
    {
        let signer: Certificate<'b> = self.signer()?;
        let anchors = anchors.filter_map(|anchor| Certificate::parse(anchor).ok());
        chain::to_anchor(signer, self.certificates(), anchors)?;
        self.verify_signature(&signer, content)
    }

    /// Verifies the signature over `content` by whoever made it, and returns the signer's
    /// certificate and the last one on the way up from it.
    ///
    /// # Errors
    /// Why the signature does not count.
    pub fn verify_by_itself(
        &self,
        content: &[&[u8]],
    ) -> Result<(Certificate<'a>, Certificate<'a>), AuthError> {
        let signer = self.signer()?;
        let top = chain::to_top(signer, self.certificates())?;
        self.verify_signature(&signer, content)?;
        Ok((signer, top))
    }

    fn verify_signature(
        &self,
        signer: &Certificate<'_>,
        content: &[&[u8]],
    ) -> Result<(), AuthError> {
        let key = signer.key()?;
        if matches!(key, PublicKey::Rsa(_)) {
            let known = core::iter::once(&RSA_ENCRYPTION)
                .chain(&RSA_WITH_DIGEST)
                .any(|known| known.as_bytes() == self.algorithm);
            if !known {
                return Err(AuthError::SignatureAlgorithm);
            }
        }
        let digest = self.digest.digest(content);
        let Some(attributes) = self.attributes else {
            return key.verify(&digest, self.signature);
        };
        check_attributes(attributes, &digest)?;
        // What is signed is the SET OF itself, not its place in the SignerInfo
        // (RFC 5652, section 5.4).
        let signed = [&[0x31][..], &attributes[1..]];
        key.verify(&self.digest.digest(&signed), self.signature)
    }
}

/// Version numbers are there, and say nothing that the rest does not.
fn version(element: Element<'_>) -> Result<(), AuthError> {
    match element.integer()?.len() {
        1..=4 => Ok(()),
        _ => Err(AuthError::Malformed),
    }
}

/// Checks the two attributes that bind signed attributes to the content (RFC 5652,
/// section 5.3): each once, with one value; the digest has to be the content's.
fn check_attributes(attributes: &[u8], digest: &Digest) -> Result<(), AuthError> {
    let mut content_types = 0;
    let mut digests = 0;
    for attribute in whole(attributes)?.inside(context(0))? {
        let mut fields = attribute?.inside(Tag::Sequence)?;
        let oid = fields.element()?.oid()?;
        let mut values = fields.element()?.inside(Tag::Set)?;
        fields.end()?;
        if oid == CONTENT_TYPE.as_bytes() {
            content_types += 1;
            values.element()?.oid()?;
            values.end()?;
        } else if oid == MESSAGE_DIGEST.as_bytes() {
            digests += 1;
            if values.element()?.expect(Tag::OctetString)? != digest.bytes() {
                return Err(AuthError::BadSignature);
            }
            values.end()?;
        }
    }
    if content_types == 1 && digests == 1 {
        Ok(())
    } else {
        Err(AuthError::SignedAttributes)
    }
}
