//! A test root: ARK, ASK and VCEK in AMD's form, made here and trusted by nobody unless told.
//!
//! With it the whole path of an SNP report runs without SNP hardware. The keys of ARK and ASK are
//! thrown away when a root is made by command, so nothing else can be issued under it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use p384::elliptic_curve::Generate;
use p384::pkcs8::{EncodePrivateKey, EncodePublicKey};
use rsa::pkcs8::DecodePrivateKey;
use rsa::pss;
use rsa::rand_core::OsRng;
use rsa::sha2::Sha384;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::{RsaPrivateKey, RsaPublicKey};
use thiserror::Error;
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::der::asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::{self, Decode, Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate as X509, der::pem::LineEnding};

use super::cert_table::CertTable;
use super::certificate::{
    BOOTLOADER_SPL, Certificate, HARDWARE_ID, MICROCODE_SPL, SNP_SPL, TEE_SPL,
};
use super::report::{REPORT_SIZE, SIGNED_SIZE};
use crate::claims::Tcb;

/// Firmware versions of the chip that does not exist.
pub const TCB: Tcb = Tcb {
    fmc: 0,
    bootloader: 3,
    tee: 0,
    snp: 8,
    microcode: 115,
};

/// Its TCB_VERSION as it stands in a report.
const TCB_RAW: [u8; 8] = [TCB.bootloader, TCB.tee, 0, 0, 0, 0, TCB.snp, TCB.microcode];

/// Structure version and product name, which AMD's VCEKs have too.
const STRUCT_VERSION: &str = "1.3.6.1.4.1.3704.1.1";
const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";

const RSA_BITS: usize = 4096;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest a test root lasts.
const LIFETIME: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);

/// The CHIP_ID of the chip that does not exist.
pub fn chip_id() -> [u8; 64] {
    std::array::from_fn(|i| i as u8)
}

/// Why a test root could not be made.
#[derive(Debug, Error)]
pub enum TestRootError {
    /// A key could not be made or read.
    #[error("cannot make or read a key of the test root: {0}")]
    Key(String),
    /// A certificate could not be encoded.
    #[error("cannot encode a certificate of the test root: {0}")]
    Encoding(String),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<der::Error> for TestRootError {
    fn from(e: der::Error) -> Self {
        Self::Encoding(e.to_string())
    }
}

fn key_error(e: impl std::fmt::Display) -> TestRootError {
    TestRootError::Key(e.to_string())
}

/// ARK and ASK, with the private key that issues VCEKs.
pub struct TestRoot {
    #[cfg(test)]
    ark_key: RsaPrivateKey,
    ask_key: RsaPrivateKey,
    ark: X509,
    ask: X509,
}

impl TestRoot {
    /// Makes both keys, which takes some seconds.
    pub fn generate() -> Result<Self, TestRootError> {
        let key = || RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(key_error);
        Self::with_keys(key()?, key()?)
    }

    /// Certificates for keys that are there, PKCS#8 in PEM.
    pub fn from_pem(ark_key: &str, ask_key: &str) -> Result<Self, TestRootError> {
        let key = |pem| RsaPrivateKey::from_pkcs8_pem(pem).map_err(key_error);
        Self::with_keys(key(ark_key)?, key(ask_key)?)
    }

    fn with_keys(ark_key: RsaPrivateKey, ask_key: RsaPrivateKey) -> Result<Self, TestRootError> {
        let (ark_name, ask_name) = (name("ARK-Test")?, name("SEV-Test")?);
        let ark = body(&ark_name, &ark_name, spki(&ark_key)?, ca_extensions(None)?)?;
        let ark = sign(ark, &ark_key)?;
        let ask = body(
            &ark_name,
            &ask_name,
            spki(&ask_key)?,
            ca_extensions(Some(0))?,
        )?;
        let ask = sign(ask, &ark_key)?;
        Ok(Self {
            #[cfg(test)]
            ark_key,
            ask_key,
            ark,
            ask,
        })
    }

    /// The root certificate.
    pub fn ark(&self) -> Certificate {
        Certificate(self.ark.clone())
    }

    /// Issues the certificate of a fresh VCEK.
    pub fn issue(&self) -> Result<Vcek, TestRootError> {
        self.issue_changed(|_| ())
    }

    /// Issues a certificate that `change` has spoilt before it is signed.
    pub(crate) fn issue_changed(
        &self,
        change: impl FnOnce(&mut TbsCertificate),
    ) -> Result<Vcek, TestRootError> {
        let key = SigningKey::try_generate_from_rng(&mut SysRng).map_err(key_error)?;
        let spki = key.verifying_key().to_public_key_der().map_err(key_error)?;
        let spki = SubjectPublicKeyInfoOwned::from_der(spki.as_bytes())?;
        let issuer = &self.ask.tbs_certificate.subject;
        let mut tbs = body(issuer, &name("SEV-VCEK")?, spki, vcek_extensions()?)?;
        change(&mut tbs);
        Ok(Vcek {
            key,
            table: CertTable {
                vcek: Some(sign(tbs, &self.ask_key)?.to_der()?),
                vlek: None,
                ask: Some(self.ask.to_der()?),
                ark: Some(self.ark.to_der()?),
            },
        })
    }

    /// An ASK that `change` has spoilt before the ARK signed it; in DER.
    #[cfg(test)]
    pub(crate) fn changed_ask(&self, change: impl FnOnce(&mut TbsCertificate)) -> Vec<u8> {
        let mut tbs = self.ask.tbs_certificate.clone();
        change(&mut tbs);
        sign(tbs, &self.ark_key).unwrap().to_der().unwrap()
    }

    /// Writes `ark.pem`, `ask.pem`, `vcek.pem`, `vcek.key` (PKCS#8 in DER, for its owner only) and
    /// `certs.bin` (the certificate table of all three) into `dir`, which must exist.
    pub fn write(&self, dir: &Path) -> Result<(), TestRootError> {
        // Consumes no key: the ones of ARK and ASK end with `self`.
        let vcek = self.issue()?;
        let pem = |c: &X509| c.to_pem(LineEnding::LF).map(String::into_bytes);
        let vcek_certificate = X509::from_der(vcek.table.vcek.as_deref().unwrap_or_default())?;
        let key = vcek.key.to_pkcs8_der().map_err(key_error)?;
        write_file(dir, "vcek.key", 0o600, key.as_bytes())?;
        write_file(dir, "ark.pem", 0o644, &pem(&self.ark)?)?;
        write_file(dir, "ask.pem", 0o644, &pem(&self.ask)?)?;
        write_file(dir, "vcek.pem", 0o644, &pem(&vcek_certificate)?)?;
        write_file(dir, "certs.bin", 0o644, &vcek.table.to_bytes())
    }
}

/// A chip that does not exist: its key, and the certificates a host would hand out.
pub struct Vcek {
    key: SigningKey,
    /// VCEK, ASK and ARK.
    pub table: CertTable,
}

impl Vcek {
    /// A report of this chip, version 3, as its firmware would sign it.
    pub fn report(&self, report_data: &[u8; 64], measurement: &[u8; 48]) -> [u8; REPORT_SIZE] {
        let mut raw = unsigned_report(report_data, measurement);
        self.sign(&mut raw);
        raw
    }

    /// Signs a report anew.
    pub fn sign(&self, raw: &mut [u8; REPORT_SIZE]) {
        let signature: Signature = self.key.sign(&raw[..SIGNED_SIZE]);
        let (r, s) = signature.split_bytes();
        for (offset, scalar) in [(SIGNED_SIZE, r), (SIGNED_SIZE + 72, s)] {
            for (target, byte) in raw[offset..offset + 48].iter_mut().zip(scalar.iter().rev()) {
                *target = *byte;
            }
        }
    }
}

/// A report with the fixed values of the test chip and no signature.
pub fn unsigned_report(report_data: &[u8; 64], measurement: &[u8; 48]) -> [u8; REPORT_SIZE] {
    let mut raw = [0; REPORT_SIZE];
    let mut put =
        |offset: usize, bytes: &[u8]| raw[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x00, &3u32.to_le_bytes()); // VERSION
    put(0x08, &0x3_0000u64.to_le_bytes()); // POLICY: SMT allowed, no debugging
    put(0x34, &1u32.to_le_bytes()); // SIGNATURE_ALGO
    for tcb in [0x38, 0x180, 0x1e0, 0x1f0] {
        put(tcb, &TCB_RAW);
    }
    put(0x50, report_data);
    put(0x90, measurement);
    put(0x188, &[0x19, 0x01, 0x01]); // CPUID: Milan
    put(0x1a0, &chip_id());
    raw
}

fn write_file(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), TestRootError> {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    // A root that is there may be in use; it is not replaced.
    let written = options
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|source| TestRootError::Write { path, source })
}

fn name(common_name: &str) -> Result<Name, TestRootError> {
    Ok(Name::from_str(&format!(
        "CN={common_name},O=Test root\\, not AMD"
    ))?)
}

fn spki(key: &RsaPrivateKey) -> Result<SubjectPublicKeyInfoOwned, TestRootError> {
    use rsa::pkcs8::EncodePublicKey;
    let der = RsaPublicKey::from(key)
        .to_public_key_der()
        .map_err(key_error)?;
    Ok(SubjectPublicKeyInfoOwned::from_der(der.as_bytes())?)
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt, as AMD's certificates.
fn algorithm() -> Result<AlgorithmIdentifierOwned, TestRootError> {
    pss::get_default_pss_signature_algo_id::<Sha384>()
        .map_err(|e| TestRootError::Encoding(e.to_string()))
}

fn time(at: SystemTime) -> Result<Time, TestRootError> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // RFC 5280, section 4.1.2.5: UTCTime up to 2049.
    Ok(match UtcTime::from_unix_duration(since) {
        Ok(utc) => Time::UtcTime(utc),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_unix_duration(since)?),
    })
}

/// A validity from `from` to `to`.
pub(crate) fn validity(from: SystemTime, to: SystemTime) -> Result<Validity, TestRootError> {
    Ok(Validity {
        not_before: time(from)?,
        not_after: time(to)?,
    })
}

fn body(
    issuer: &Name,
    subject: &Name,
    spki: SubjectPublicKeyInfoOwned,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, TestRootError> {
    let now = SystemTime::now();
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&[1])?,
        signature: algorithm()?,
        issuer: issuer.clone(),
        validity: validity(now - DAY, now + LIFETIME)?,
        subject: subject.clone(),
        subject_public_key_info: spki,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

fn sign(tbs_certificate: TbsCertificate, key: &RsaPrivateKey) -> Result<X509, TestRootError> {
    let signer = pss::SigningKey::<Sha384>::new(key.clone());
    let signature = signer
        .try_sign_with_rng(&mut OsRng, &tbs_certificate.to_der()?)
        .map_err(key_error)?;
    Ok(X509 {
        signature_algorithm: algorithm()?,
        signature: BitString::from_bytes(&signature.to_vec())?,
        tbs_certificate,
    })
}

pub(crate) fn extension(
    oid: &str,
    critical: bool,
    value: Vec<u8>,
) -> Result<Extension, TestRootError> {
    let extn_id = ObjectIdentifier::new(oid).map_err(|e| TestRootError::Encoding(e.to_string()))?;
    Ok(Extension {
        extn_id,
        critical,
        extn_value: OctetString::new(value)?,
    })
}

fn ca_extensions(path_len: Option<u8>) -> Result<Vec<Extension>, TestRootError> {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: path_len,
    };
    let usage = KeyUsage(FlagSet::from(KeyUsages::KeyCertSign));
    Ok(vec![
        extension("2.5.29.19", true, constraints.to_der()?)?,
        extension("2.5.29.15", true, usage.to_der()?)?,
    ])
}

fn vcek_extensions() -> Result<Vec<Extension>, TestRootError> {
    let mut extensions = vec![
        extension(STRUCT_VERSION, false, 0u8.to_der()?)?,
        extension(
            PRODUCT_NAME,
            false,
            der::asn1::Ia5StringRef::new("Test-B0")?.to_der()?,
        )?,
    ];
    for (oid, spl) in [
        (BOOTLOADER_SPL, TCB.bootloader),
        (TEE_SPL, TCB.tee),
        (SNP_SPL, TCB.snp),
        (MICROCODE_SPL, TCB.microcode),
    ] {
        extensions.push(extension(oid, false, spl.to_der()?)?);
    }
    extensions.push(extension(HARDWARE_ID, false, chip_id().to_vec())?);
    Ok(extensions)
}
