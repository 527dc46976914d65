//! DER for `TPM2_CertifyX509` (Part 3, 18.8; RFC 5280, 4.1).
//!
//! Always true: the certificate that is signed is built from the caller's parts as they are
//! and the parts only the TPM knows, and every length is checked against what is there.

use alloc::vec::Vec;

use crate::{
    constants::{alg, oa},
    crypto::{self, Curve, HashAlg},
    rc::{Numbered, Rc, Result, ensure},
    wire::{
        algorithms::Scheme,
        public::{Parameters, Public},
    },
};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;

/// 2.5.29.15, keyUsage
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
/// 2.23.133.10.1.1.1, tcg-tpmaObject
const OID_TPMA_OBJECT: &[u8] = &[0x67, 0x81, 0x05, 0x0A, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.1, rsaEncryption; its siblings differ in the last number.
const OID_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
/// 1.2.840.10045.2.1, id-ecPublicKey
const OID_EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];

/// A value with its tag and length.
fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = alloc::vec![tag];
    let length = contents.len();
    match length {
        0..=0x7F => out.push(length as u8),
        0x80..=0xFF => out.extend([0x81, length as u8]),
        _ => {
            out.push(0x82);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(contents);
    out
}

/// The next value of `bytes`: tag, contents, whole encoding; `bytes` moves on behind it.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<(u8, &'a [u8], &'a [u8])> {
    let all = *bytes;
    let tag = *all.first().ok_or(Rc::INSUFFICIENT)?;
    let first = *all.get(1).ok_or(Rc::INSUFFICIENT)?;
    let (head, length) = match first {
        0..=0x7F => (2, usize::from(first)),
        0x81 => (3, usize::from(*all.get(2).ok_or(Rc::INSUFFICIENT)?)),
        0x82 => {
            let high = *all.get(2).ok_or(Rc::INSUFFICIENT)?;
            let low = *all.get(3).ok_or(Rc::INSUFFICIENT)?;
            (4, usize::from(u16::from_be_bytes([high, low])))
        }
        _ => return Err(Rc::VALUE),
    };
    let whole = all.get(..head + length).ok_or(Rc::INSUFFICIENT)?;
    let contents = whole.get(head..).ok_or(Rc::INSUFFICIENT)?;
    *bytes = all.get(head + length..).unwrap_or_default();
    Ok((tag, contents, whole))
}

fn integer(number: &[u8]) -> Vec<u8> {
    let start = number
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(number.len());
    let mut contents = number.get(start..).unwrap_or_default().to_vec();
    if contents.first().is_none_or(|byte| byte & 0x80 != 0) {
        contents.insert(0, 0);
    }
    tlv(INTEGER, &contents)
}

/// Object identifier of a hash (RFC 8017, appendix B.1).
fn hash_oid(hash: HashAlg) -> &'static [u8] {
    match hash {
        HashAlg::Sha1 => &[0x2B, 0x0E, 0x03, 0x02, 0x1A],
        HashAlg::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        HashAlg::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
        HashAlg::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
    }
}

/// AlgorithmIdentifier of the signature.
fn signature_algorithm(key: &Public, scheme: Scheme) -> Result<Vec<u8>> {
    let hash = scheme.hash().ok_or(Rc::SCHEME)?;
    match (key.kind(), scheme.id()) {
        (alg::RSA, alg::RSASSA) => {
            let last = match hash {
                HashAlg::Sha1 => 5,
                HashAlg::Sha256 => 11,
                HashAlg::Sha384 => 12,
                HashAlg::Sha512 => 13,
            };
            let mut oid = OID_RSA.to_vec();
            oid.push(last);
            Ok(tlv(SEQUENCE, &[tlv(OID, &oid), tlv(NULL, &[])].concat()))
        }
        (alg::RSA, alg::RSAPSS) => {
            let sibling = |last: u8| {
                let mut oid = OID_RSA.to_vec();
                oid.push(last);
                tlv(OID, &oid)
            };
            let digest = tlv(
                SEQUENCE,
                &[tlv(OID, hash_oid(hash)), tlv(NULL, &[])].concat(),
            );
            let mask = tlv(SEQUENCE, &[sibling(8), digest.clone()].concat());
            let salt = integer(&[hash.size() as u8]);
            let parameters = [tlv(0xA0, &digest), tlv(0xA1, &mask), tlv(0xA2, &salt)].concat();
            Ok(tlv(
                SEQUENCE,
                &[sibling(10), tlv(SEQUENCE, &parameters)].concat(),
            ))
        }
        (alg::ECC, alg::ECDSA) => {
            let oid: &[u8] = match hash {
                HashAlg::Sha1 => &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01],
                HashAlg::Sha256 => &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02],
                HashAlg::Sha384 => &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03],
                HashAlg::Sha512 => &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04],
            };
            Ok(tlv(SEQUENCE, &tlv(OID, oid)))
        }
        _ => Err(Rc::SCHEME),
    }
}

/// SubjectPublicKeyInfo of an object.
fn public_key(object: &Public) -> Result<Vec<u8>> {
    let (algorithm, key) = match &object.parameters {
        Parameters::Rsa { .. } => {
            let mut oid = OID_RSA.to_vec();
            oid.push(1);
            let algorithm = [tlv(OID, &oid), tlv(NULL, &[])].concat();
            let exponent = object.exponent().to_be_bytes();
            let key = [integer(object.unique.bytes()), integer(&exponent)].concat();
            (algorithm, tlv(SEQUENCE, &key))
        }
        Parameters::Ecc { curve, .. } => {
            let oid: &[u8] = match curve {
                Curve::P256 => &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07],
                Curve::P384 => &[0x2B, 0x81, 0x04, 0x00, 0x22],
                Curve::P521 => &[0x2B, 0x81, 0x04, 0x00, 0x23],
                // Certificates cannot name it.
                Curve::BnP256 => return Err(Rc::ASYMMETRIC),
            };
            let point = object.unique.point()?;
            let size = curve.size();
            let mut key = alloc::vec![4];
            key.extend(crate::objects::secret::padded(&point.x, size));
            key.extend(crate::objects::secret::padded(&point.y, size));
            ([tlv(OID, OID_EC), tlv(OID, oid)].concat(), key)
        }
        _ => return Err(Rc::ASYMMETRIC),
    };
    let mut bits = alloc::vec![0];
    bits.extend(key);
    Ok(tlv(
        SEQUENCE,
        &[tlv(SEQUENCE, &algorithm), tlv(BIT_STRING, &bits)].concat(),
    ))
}

/// A certificate before it is signed.
pub struct Certificate {
    /// TBSCertificate
    pub to_be_signed: Vec<u8>,
    /// What the TPM added to the caller's parts: version, serial number, signature algorithm
    /// unless it was given, and the public key.
    pub added: Vec<u8>,
}

/// Have the object and the scheme names that certificates can hold? The reference counts the
/// handles the other way round: the signing key, then the object.
///
/// # Errors
/// `TPM_RC_ASYMMETRIC`, `TPM_RC_SCHEME`
pub fn check(object: &Public, key: &Public, scheme: Scheme) -> Result<()> {
    public_key(object).h(2)?;
    signature_algorithm(key, scheme).h(1)?;
    Ok(())
}

/// Completes a partial certificate.
///
/// # Errors
/// `TPM_RC_VALUE` for DER that is none or lacks a part, `TPM_RC_INSUFFICIENT` when a length
/// goes beyond the end, `TPM_RC_ATTRIBUTES` when an extension contradicts the object; those
/// of [`check`].
pub fn complete(
    partial: &[u8],
    object: &Public,
    key: &Public,
    scheme: Scheme,
) -> Result<Certificate> {
    let mut outer = partial;
    let (tag, mut parts, _) = next(&mut outer)?;
    ensure(tag == SEQUENCE && outer.is_empty(), Rc::VALUE)?;
    let mut sequences = Vec::new();
    let mut extensions = None;
    while !parts.is_empty() {
        let (tag, contents, whole) = next(&mut parts)?;
        match tag {
            SEQUENCE if extensions.is_none() => sequences.push(whole),
            EXTENSIONS if extensions.is_none() => {
                check_extensions(contents, object)?;
                extensions = Some(whole);
            }
            _ => return Err(Rc::VALUE),
        }
    }
    let extensions = extensions.ok_or(Rc::VALUE)?;
    // Signature algorithm if given, then issuer, validity, subject.
    let given = match sequences.len() {
        3 => None,
        4 => Some(sequences.remove(0)),
        _ => return Err(Rc::VALUE),
    };
    let spki = public_key(object)?;
    let algorithm = signature_algorithm(key, scheme)?;
    let version = tlv(VERSION, &integer(&[2]));
    let mut serial = crypto::hash(HashAlg::Sha256, &[partial, &spki, &key.name()]);
    serial.truncate(20);
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7F | 0x40;
    }
    let serial = integer(&serial);
    let mut body = [&version[..], &serial].concat();
    body.extend_from_slice(given.unwrap_or(&algorithm));
    sequences
        .iter()
        .for_each(|part| body.extend_from_slice(part));
    body.extend_from_slice(&spki);
    body.extend_from_slice(extensions);
    let mut added = [version, serial].concat();
    if given.is_none() {
        added.extend_from_slice(&algorithm);
    }
    added.extend_from_slice(&spki);
    Ok(Certificate {
        to_be_signed: tlv(SEQUENCE, &body),
        added: tlv(SEQUENCE, &added),
    })
}

/// The extensions must have a key usage, and neither it nor the attributes of the object may
/// claim what the object does not have.
fn check_extensions(contents: &[u8], object: &Public) -> Result<()> {
    let mut outer = contents;
    let (tag, mut list, _) = next(&mut outer)?;
    ensure(tag == SEQUENCE && outer.is_empty(), Rc::VALUE)?;
    let mut usage = None;
    while !list.is_empty() {
        let (tag, mut extension, _) = next(&mut list)?;
        ensure(tag == SEQUENCE, Rc::VALUE)?;
        let (tag, oid, _) = next(&mut extension)?;
        ensure(tag == OID, Rc::VALUE)?;
        let (mut tag, mut value, _) = next(&mut extension)?;
        if tag == BOOLEAN {
            (tag, value, _) = next(&mut extension)?;
        }
        ensure(tag == OCTET_STRING && extension.is_empty(), Rc::VALUE)?;
        if oid == OID_KEY_USAGE {
            let (tag, bits, _) = next(&mut value)?;
            ensure(tag == BIT_STRING && matches!(bits.len(), 2 | 3), Rc::VALUE)?;
            usage = Some(*bits.get(1).ok_or(Rc::VALUE)?);
        } else if oid == OID_TPMA_OBJECT {
            let (tag, bits, _) = next(&mut value)?;
            ensure(tag == BIT_STRING, Rc::VALUE)?;
            let claimed = bits
                .get(1..)
                .and_then(|bits| bits.try_into().ok())
                .map(u32::from_be_bytes);
            ensure(
                claimed.ok_or(Rc::VALUE)? == object.attributes,
                Rc::ATTRIBUTES.handle(2),
            )?;
        }
    }
    check_usage(usage.ok_or(Rc::VALUE)?, object)
}

/// The first byte of keyUsage: digitalSignature is its highest bit.
fn check_usage(usage: u8, object: &Public) -> Result<()> {
    let signs = usage & 0b1000_0110 != 0;
    let fits = (!signs || object.has(oa::SIGN))
        // contentCommitment
        && (usage & 0x40 == 0 || object.has(oa::FIXED_TPM))
        // keyEncipherment of a parent
        && (usage & 0x20 == 0 || object.has(oa::RESTRICTED | oa::DECRYPT))
        // dataEncipherment, keyAgreement
        && (usage & 0x18 == 0 || object.has(oa::DECRYPT));
    ensure(fits, Rc::VALUE)
}
