//! From a trusted root to a report: ARK, ASK, VCEK, signature.
//!
//! The root is never taken from the evidence: it is AMD's, or the one the owner of the server named.
//! `sev` verifies the signatures between certificates; names, dates, constraints and extensions, which
//! it does not look at, are checked here, and the report's signature over its raw bytes.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use sev::certs::snp::{Certificate as SevCertificate, Verifiable, builtin};
use thiserror::Error;

use super::cert_table::CertTable;
use super::certificate::{
    BOOTLOADER_SPL, Certificate, CertificateError, FMC_SPL, HARDWARE_ID, MICROCODE_SPL, Role,
    SNP_SPL, TEE_SPL,
};
use super::report::{Generation, REPORT_SIZE, Report, SIGNED_SIZE, field};

/// Why a report is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// The evidence has no VCEK, and this server fetches none.
    #[error("the evidence has no VCEK: the host has to hand it out with the report")]
    NoVcek,
    /// Signed by a key that a cloud provider loaded.
    #[error("the evidence has a VLEK, which is not supported: only a VCEK is")]
    Vlek,
    /// The evidence has no ASK, and none of the known ones signed the VCEK.
    #[error("no ASK for this VCEK: it names {0} as its issuer")]
    NoAsk(String),
    /// Another root.
    #[error("the ASK names {0} as its issuer, which is no root that this server trusts")]
    UntrustedRoot(String),
    /// One of the certificates.
    #[error("{role}: {source}")]
    Certificate {
        /// Which one.
        role: Role,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A certificate that names another issuer than the one above it.
    #[error("{0}: signed by somebody else than it says")]
    Issuer(Role),
    /// A signature of a certificate.
    #[error("{0}: its signature does not verify")]
    CertificateSignature(Role),
    /// The VCEK is not a P-384 key.
    #[error("VCEK: not a P-384 key")]
    VcekKey,
    /// The VCEK is for another firmware.
    #[error("VCEK: its {part} has security version {certificate}, the report says {report}")]
    Tcb {
        /// Which part of the firmware.
        part: &'static str,
        /// In the certificate.
        certificate: u8,
        /// In the report.
        report: u8,
    },
    /// The VCEK is of another chip.
    #[error("VCEK: it is for another chip than the report's")]
    Chip,
    /// The report was changed, or made by nobody.
    #[error("the signature of the report does not verify")]
    ReportSignature,
}

/// Why a root cannot be used.
#[derive(Debug, Error)]
pub enum RootError {
    /// The file cannot be read.
    #[error("cannot read the root certificate {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a root certificate.
    #[error("{path} is not a root certificate: {source}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ChainError,
    },
    /// A built-in certificate cannot be read, which a test rules out.
    #[error("a built-in certificate is invalid")]
    BuiltIn,
}

/// The trusted roots, and the intermediate keys that are known without being told.
#[derive(Clone, Debug)]
pub struct Roots {
    arks: Vec<Certificate>,
    asks: Vec<Certificate>,
}

impl Roots {
    /// AMD's, for Milan, Genoa and Turin.
    pub fn amd() -> Result<Self, RootError> {
        let parse = |pem: &[u8]| Certificate::parse(pem).map_err(|_| RootError::BuiltIn);
        let arks = [
            builtin::milan::ARK,
            builtin::genoa::ARK,
            builtin::turin::ARK,
        ];
        let asks = [
            builtin::milan::ASK,
            builtin::genoa::ASK,
            builtin::turin::ASK,
        ];
        Ok(Self {
            arks: arks.into_iter().map(parse).collect::<Result<_, _>>()?,
            asks: asks.into_iter().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// These roots and no other; each file holds one, in PEM or DER.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RootError> {
        let arks = paths.iter().map(|p| read_root(p));
        Ok(Self {
            arks: arks.collect::<Result<_, _>>()?,
            asks: Vec::new(),
        })
    }

    /// This root and no other.
    pub fn only(ark: Certificate) -> Self {
        Self {
            arks: vec![ark],
            asks: Vec::new(),
        }
    }

    /// Names of the trusted roots, for messages.
    pub fn names(&self) -> Vec<String> {
        self.arks.iter().map(Certificate::subject_name).collect()
    }

    /// Whether `report`, parsed from `raw`, was made by the chip that `certificates` lead to.
    pub fn verify(
        &self,
        raw: &[u8; REPORT_SIZE],
        report: &Report,
        certificates: &CertTable,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        let vcek = match (&certificates.vcek, &certificates.vlek) {
            (Some(vcek), _) => parse(Role::Vcek, vcek)?,
            (None, Some(_)) => return Err(ChainError::Vlek),
            (None, None) => return Err(ChainError::NoVcek),
        };
        let ask = match &certificates.ask {
            Some(ask) => parse(Role::Ask, ask)?,
            None => self.known_ask(&vcek)?,
        };
        let untrusted = || ChainError::UntrustedRoot(ask.issuer_name());
        let ark = self.arks.iter().find(|ark| ask.names_issuer(ark));
        let ark = ark.ok_or_else(untrusted)?;

        check_issued(Role::Ark, ark, ark, now)?;
        check_issued(Role::Ask, &ask, ark, now)?;
        check_issued(Role::Vcek, &vcek, &ask, now)?;
        check_vcek(&vcek, report)?;
        verify_report(raw, &vcek)
    }

    fn known_ask(&self, vcek: &Certificate) -> Result<Certificate, ChainError> {
        let ask = self.asks.iter().find(|ask| vcek.names_issuer(ask));
        ask.cloned()
            .ok_or_else(|| ChainError::NoAsk(vcek.issuer_name()))
    }
}

fn read_root(path: &Path) -> Result<Certificate, RootError> {
    let bytes = std::fs::read(path).map_err(|source| RootError::Read {
        path: path.to_owned(),
        source,
    })?;
    let ark = parse(Role::Ark, &bytes)
        .and_then(|ark| check_issued(Role::Ark, &ark, &ark, SystemTime::now()).map(|()| ark));
    ark.map_err(|source| RootError::Certificate {
        path: path.to_owned(),
        source,
    })
}

fn parse(role: Role, bytes: &[u8]) -> Result<Certificate, ChainError> {
    Certificate::parse(bytes).map_err(|source| ChainError::Certificate { role, source })
}

/// Whether `certificate` is fit for its role and `issuer` has signed it.
fn check_issued(
    role: Role,
    certificate: &Certificate,
    issuer: &Certificate,
    now: SystemTime,
) -> Result<(), ChainError> {
    let invalid = |source| ChainError::Certificate { role, source };
    certificate.check(role, now).map_err(invalid)?;
    if !certificate.names_issuer(issuer) {
        return Err(ChainError::Issuer(role));
    }
    let (signer, signee) = (sev_form(issuer), sev_form(certificate));
    (&signer, &signee)
        .verify()
        .map_err(|_| ChainError::CertificateSignature(role))
}

fn sev_form(certificate: &Certificate) -> SevCertificate {
    certificate.0.clone().into()
}

/// The VCEK is derived from the chip and its firmware, so it has to name the report's.
fn check_vcek(vcek: &Certificate, report: &Report) -> Result<(), ChainError> {
    let invalid = |source| ChainError::Certificate {
        role: Role::Vcek,
        source,
    };
    let tcb = &report.tcb;
    let mut parts = vec![
        ("boot loader", BOOTLOADER_SPL, tcb.bootloader),
        ("TEE", TEE_SPL, tcb.tee),
        ("SNP firmware", SNP_SPL, tcb.snp),
        ("microcode", MICROCODE_SPL, tcb.microcode),
    ];
    match report.generation {
        Generation::Turin => parts.push(("FMC", FMC_SPL, tcb.fmc)),
        Generation::Milan if vcek.spl(FMC_SPL).map_err(invalid)?.is_some() => {
            return Err(invalid(CertificateError::Extension(FMC_SPL)));
        }
        Generation::Milan => {}
    }
    for (part, oid, found) in parts {
        let spl = vcek.spl(oid).map_err(invalid)?;
        let spl = spl.ok_or(invalid(CertificateError::Extension(oid)))?;
        if spl != found {
            return Err(ChainError::Tcb {
                part,
                certificate: spl,
                report: found,
            });
        }
    }
    let id = vcek.hardware_id().map_err(invalid)?;
    let id = id.ok_or(invalid(CertificateError::Extension(HARDWARE_ID)))?;
    // A report has room for 64 bytes; Turin's ids have 8. A masked id is all zeros and fits no chip.
    let length = match report.generation {
        Generation::Milan => 64,
        Generation::Turin => 8,
    };
    let (chip, rest) = report.chip_id.split_at(length);
    let same = id == chip && rest.iter().all(|&b| b == 0) && chip.iter().any(|&b| b != 0);
    same.then_some(()).ok_or(ChainError::Chip)
}

/// ECDSA P-384 with SHA-384 over the raw bytes; r and s stand in the report in little-endian order,
/// 72 bytes each (AMD 56860, chapter 10).
fn verify_report(raw: &[u8; REPORT_SIZE], vcek: &Certificate) -> Result<(), ChainError> {
    let key = &vcek.0.tbs_certificate.subject_public_key_info;
    let key = x509_cert::der::Encode::to_der(key).map_err(|_| ChainError::VcekKey)?;
    let key = <VerifyingKey as p384::pkcs8::DecodePublicKey>::from_public_key_der(&key)
        .map_err(|_| ChainError::VcekKey)?;
    let scalar = |offset: usize| -> Option<[u8; 48]> {
        let mut bytes: [u8; 72] = field(raw, offset);
        bytes.reverse();
        let (high, scalar) = bytes.split_first_chunk::<24>()?;
        (*high == [0; 24]).then(|| scalar.try_into().ok())?
    };
    let signature = scalar(SIGNED_SIZE)
        .zip(scalar(SIGNED_SIZE + 72))
        .and_then(|(r, s)| Signature::from_scalars(r, s).ok())
        .ok_or(ChainError::ReportSignature)?;
    key.verify(&raw[..SIGNED_SIZE], &signature)
        .map_err(|_| ChainError::ReportSignature)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snp::report::tests::raw_report;
    use crate::snp::test_root::{TestRoot, Vcek, extension, validity};
    use std::sync::OnceLock;
    use std::time::{Duration, UNIX_EPOCH};
    use x509_cert::certificate::TbsCertificate;
    use x509_cert::der::Encode;
    use x509_cert::ext::Extension;
    use x509_cert::ext::pkix::BasicConstraints;

    /// A root whose keys are in the repository, since making them takes long.
    pub(crate) fn test_root() -> &'static TestRoot {
        static ROOT: OnceLock<TestRoot> = OnceLock::new();
        ROOT.get_or_init(|| {
            TestRoot::from_pem(
                include_str!("../../tests/vectors/test-root-ark.key.pem"),
                include_str!("../../tests/vectors/test-root-ask.key.pem"),
            )
            .unwrap()
        })
    }

    fn verify_at(vcek: &Vcek, raw: &[u8; REPORT_SIZE], now: SystemTime) -> Result<(), ChainError> {
        let report = Report::parse(raw).unwrap();
        Roots::only(test_root().ark()).verify(raw, &report, &vcek.table, now)
    }

    fn verify(vcek: &Vcek, raw: &[u8; REPORT_SIZE]) -> Result<(), ChainError> {
        verify_at(vcek, raw, SystemTime::now())
    }

    fn good() -> (Vcek, [u8; REPORT_SIZE]) {
        let vcek = test_root().issue().unwrap();
        let raw = vcek.report(&[1; 64], &[2; 48]);
        (vcek, raw)
    }

    /// Why a report is refused whose VCEK was changed before it was signed.
    fn changed_vcek(change: impl FnOnce(&mut TbsCertificate)) -> ChainError {
        let vcek = test_root().issue_changed(change).unwrap();
        verify(&vcek, &vcek.report(&[1; 64], &[2; 48])).unwrap_err()
    }

    fn changed_ask(change: impl FnOnce(&mut TbsCertificate)) -> ChainError {
        let (mut vcek, raw) = good();
        vcek.table.ask = Some(test_root().changed_ask(change));
        verify(&vcek, &raw).unwrap_err()
    }

    fn of(role: Role, source: CertificateError) -> ChainError {
        ChainError::Certificate { role, source }
    }

    /// The value of an extension of a certificate to be signed.
    fn value<'a>(tbs: &'a mut TbsCertificate, oid: &str) -> &'a mut Extension {
        let mut all = tbs.extensions.as_mut().unwrap().iter_mut();
        all.find(|e| e.extn_id.to_string() == oid).unwrap()
    }

    fn set(tbs: &mut TbsCertificate, oid: &str, critical: bool, bytes: &[u8]) {
        *value(tbs, oid) = extension(oid, critical, bytes.to_vec()).unwrap();
    }

    fn remove(tbs: &mut TbsCertificate, oid: &str) {
        tbs.extensions
            .as_mut()
            .unwrap()
            .retain(|e| e.extn_id.to_string() != oid);
    }

    #[test]
    fn genuine_report_is_believed() {
        let (vcek, raw) = good();
        assert_eq!(verify(&vcek, &raw), Ok(()));
    }

    /// A report of a real Milan chip and its VCEK, up to AMD's own root.
    #[test]
    fn report_of_real_hardware_is_believed() {
        let hex = include_str!("../../tests/vectors/milan-report.hex");
        let mut raw = [0; REPORT_SIZE];
        hex::decode_to_slice(hex.trim(), &mut raw).unwrap();
        let mut table = CertTable {
            vcek: Some(include_bytes!("../../tests/vectors/milan-vcek.pem").to_vec()),
            ..CertTable::default()
        };
        let report = Report::parse(&raw).unwrap();
        let amd = Roots::amd().unwrap();
        let in_2025 = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        let verify = |raw: &[u8; REPORT_SIZE], report: &Report, table: &CertTable| {
            amd.verify(raw, report, table, in_2025)
        };
        assert_eq!(verify(&raw, &report, &table), Ok(()));
        table.ask = Some(builtin::milan::ASK.to_vec());
        assert_eq!(verify(&raw, &report, &table), Ok(()));

        let expired = UNIX_EPOCH + Duration::from_secs(1_950_000_000);
        let e = amd.verify(&raw, &report, &table, expired).unwrap_err();
        let text = "VCEK: not valid after 2030-04-03T19:23:43Z";
        assert_eq!(e.to_string(), text);
        let e = Roots::only(test_root().ark()).verify(&raw, &report, &table, in_2025);
        assert_eq!(e, Err(ChainError::UntrustedRoot("ARK-Milan".into())));
        table.ask = Some(builtin::genoa::ASK.to_vec());
        assert_eq!(
            verify(&raw, &report, &table),
            Err(ChainError::Issuer(Role::Vcek))
        );
        table.ask = None;
        raw[0x90] ^= 1;
        assert_eq!(
            verify(&raw, &report, &table),
            Err(ChainError::ReportSignature)
        );
    }

    #[test]
    fn built_in_roots_are_valid() {
        let amd = Roots::amd().unwrap();
        assert_eq!(amd.names(), ["ARK-Milan", "ARK-Genoa", "ARK-Turin"]);
        for (ark, ask) in amd.arks.iter().zip(&amd.asks) {
            check_issued(Role::Ark, ark, ark, SystemTime::now()).unwrap();
            check_issued(Role::Ask, ask, ark, SystemTime::now()).unwrap();
        }
    }

    #[test]
    fn test_root_is_not_trusted_unless_told() {
        let (vcek, raw) = good();
        let report = Report::parse(&raw).unwrap();
        let amd = Roots::amd().unwrap();
        let e = amd.verify(&raw, &report, &vcek.table, SystemTime::now());
        assert_eq!(e, Err(ChainError::UntrustedRoot("ARK-Test".into())));
    }

    #[test]
    fn any_changed_signed_byte_is_noticed() {
        let (vcek, raw) = good();
        // Bytes that mean something have refusals of their own; these do not reach one.
        for offset in (0..SIGNED_SIZE).step_by(13).chain([SIGNED_SIZE - 1]) {
            let mut changed = raw;
            changed[offset] ^= 1;
            if let Ok(report) = Report::parse(&changed) {
                let roots = Roots::only(test_root().ark());
                let e = roots.verify(&changed, &report, &vcek.table, SystemTime::now());
                assert!(e.is_err(), "byte {offset:#x}");
            }
        }
    }

    #[test]
    fn spoilt_signature_is_refused() {
        let (vcek, raw) = good();
        // r, the padding of r, s, the padding of s.
        for offset in [0, 47, 48, 71, 72, 119, 120, 143] {
            let mut changed = raw;
            changed[SIGNED_SIZE + offset] ^= 1;
            let e = verify(&vcek, &changed);
            assert_eq!(e, Err(ChainError::ReportSignature), "byte {offset}");
        }
        let mut zero = raw;
        zero[SIGNED_SIZE..].fill(0);
        assert_eq!(verify(&vcek, &zero), Err(ChainError::ReportSignature));
        // Another chip of the same root.
        let other = test_root().issue().unwrap();
        assert_eq!(verify(&other, &raw), Err(ChainError::ReportSignature));
    }

    #[test]
    fn certificates_have_to_be_there() {
        let (mut vcek, raw) = good();
        vcek.table.ask = None;
        let e = verify(&vcek, &raw);
        assert_eq!(e, Err(ChainError::NoAsk("SEV-Test".into())));
        vcek.table.vlek = vcek.table.vcek.take();
        assert_eq!(verify(&vcek, &raw), Err(ChainError::Vlek));
        vcek.table.vlek = None;
        assert_eq!(verify(&vcek, &raw), Err(ChainError::NoVcek));
        vcek.table.vcek = Some(vec![0x30, 0x82]);
        let e = verify(&vcek, &raw);
        assert_eq!(e, Err(of(Role::Vcek, CertificateError::Encoding)));
    }

    #[test]
    fn certificate_out_of_its_time_is_refused() {
        let (vcek, raw) = good();
        let days = |n: u64| Duration::from_secs(n * 86_400);
        let e = verify_at(&vcek, &raw, SystemTime::now() - days(2)).unwrap_err();
        assert!(e.to_string().starts_with("ARK: not valid before "), "{e}");
        let e = verify_at(&vcek, &raw, SystemTime::now() + days(6 * 365)).unwrap_err();
        assert!(e.to_string().starts_with("ARK: not valid after "), "{e}");
        let now = SystemTime::now();
        let e = changed_vcek(|t| t.validity = validity(now - days(9), now - days(1)).unwrap());
        assert!(e.to_string().starts_with("VCEK: not valid after "), "{e}");
        let e = changed_ask(|t| t.validity = validity(now + days(1), now + days(2)).unwrap());
        assert!(e.to_string().starts_with("ASK: not valid before "), "{e}");
    }

    #[test]
    fn names_have_to_lead_from_one_to_the_next() {
        let e = changed_vcek(|t| t.issuer = t.subject.clone());
        assert_eq!(e, ChainError::Issuer(Role::Vcek));
        let e = changed_ask(|t| t.issuer = t.subject.clone());
        assert_eq!(e, ChainError::UntrustedRoot("SEV-Test".into()));
    }

    #[test]
    fn certificate_signed_by_another_key_is_refused() {
        let (mut vcek, raw) = good();
        let mut der = vcek.table.vcek.clone().unwrap();
        *der.last_mut().unwrap() ^= 1;
        vcek.table.vcek = Some(der);
        let e = verify(&vcek, &raw);
        assert_eq!(e, Err(ChainError::CertificateSignature(Role::Vcek)));
        let (mut vcek, raw) = good();
        let mut der = vcek.table.ask.clone().unwrap();
        *der.last_mut().unwrap() ^= 1;
        vcek.table.ask = Some(der);
        let e = verify(&vcek, &raw);
        assert_eq!(e, Err(ChainError::CertificateSignature(Role::Ask)));
    }

    #[test]
    fn authority_and_chip_are_not_mixed_up() {
        let no_ca = BasicConstraints {
            ca: false,
            path_len_constraint: None,
        };
        let no_ca = no_ca.to_der().unwrap();
        let e = changed_ask(|t| set(t, "2.5.29.19", true, &no_ca));
        assert_eq!(e, of(Role::Ask, CertificateError::NotCa));
        let e = changed_ask(|t| remove(t, "2.5.29.19"));
        assert_eq!(e, of(Role::Ask, CertificateError::NotCa));
        let e = changed_ask(|t| remove(t, "2.5.29.15"));
        assert_eq!(e, of(Role::Ask, CertificateError::NotCa));
        let e = changed_vcek(|t| {
            let ca = BasicConstraints {
                ca: true,
                path_len_constraint: None,
            };
            let ca = extension("2.5.29.19", true, ca.to_der().unwrap()).unwrap();
            t.extensions.as_mut().unwrap().push(ca);
        });
        assert_eq!(e, of(Role::Vcek, CertificateError::Ca));
    }

    #[test]
    fn unknown_critical_extension_is_refused() {
        let e = changed_vcek(|t| set(t, "1.3.6.1.4.1.3704.1.2", true, &[5, 0]));
        let name = "1.3.6.1.4.1.3704.1.2".to_owned();
        assert_eq!(e, of(Role::Vcek, CertificateError::Critical(name)));
    }

    #[test]
    fn vcek_of_other_firmware_is_refused() {
        for (oid, part) in [
            (BOOTLOADER_SPL, "boot loader"),
            (TEE_SPL, "TEE"),
            (SNP_SPL, "SNP firmware"),
            (MICROCODE_SPL, "microcode"),
        ] {
            let e = changed_vcek(|t| set(t, oid, false, &99u8.to_der().unwrap()));
            assert!(matches!(e, ChainError::Tcb { part: p, certificate: 99, .. } if p == part));
            let e = changed_vcek(|t| remove(t, oid));
            assert_eq!(e, of(Role::Vcek, CertificateError::Extension(oid)));
            let e = changed_vcek(|t| set(t, oid, false, &[2, 2, 1, 0])); // 256
            assert_eq!(e, of(Role::Vcek, CertificateError::Extension(oid)));
            let e = changed_vcek(|t| {
                let twice = value(t, oid).clone();
                t.extensions.as_mut().unwrap().push(twice);
            });
            assert_eq!(e, of(Role::Vcek, CertificateError::Extension(oid)));
        }
        let fmc = extension(FMC_SPL, false, vec![2, 1, 0]).unwrap();
        let e = changed_vcek(|t| t.extensions.as_mut().unwrap().push(fmc));
        assert_eq!(e, of(Role::Vcek, CertificateError::Extension(FMC_SPL)));
    }

    #[test]
    fn vcek_of_another_chip_is_refused() {
        let e = changed_vcek(|t| set(t, HARDWARE_ID, false, &[9; 64]));
        assert_eq!(e, ChainError::Chip);
        let e = changed_vcek(|t| set(t, HARDWARE_ID, false, &[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(e, ChainError::Chip);
        let e = changed_vcek(|t| remove(t, HARDWARE_ID));
        assert_eq!(e, of(Role::Vcek, CertificateError::Extension(HARDWARE_ID)));
        // A masked chip id fits no chip.
        let vcek = test_root()
            .issue_changed(|t| set(t, HARDWARE_ID, false, &[0; 64]))
            .unwrap();
        let mut raw = vcek.report(&[1; 64], &[2; 48]);
        raw[0x1a0..0x1e0].fill(0);
        vcek.sign(&mut raw);
        assert_eq!(verify(&vcek, &raw), Err(ChainError::Chip));
    }

    #[test]
    fn hardware_id_may_be_wrapped() {
        let wrapped = [&[4, 64][..], &crate::snp::test_root::chip_id()].concat();
        let vcek = test_root()
            .issue_changed(|t| set(t, HARDWARE_ID, false, &wrapped))
            .unwrap();
        assert_eq!(verify(&vcek, &vcek.report(&[1; 64], &[2; 48])), Ok(()));
    }

    #[test]
    fn root_file_has_to_be_a_root() {
        let dir = tempfile::tempdir().unwrap();
        test_root().write(dir.path()).unwrap();
        let file = |name: &str| [dir.path().join(name)];
        assert_eq!(
            Roots::from_files(&file("ark.pem")).unwrap().names(),
            ["ARK-Test"]
        );
        let e = Roots::from_files(&file("ask.pem")).unwrap_err();
        assert!(e.to_string().contains("signed by somebody else"), "{e}");
        let e = Roots::from_files(&file("vcek.pem")).unwrap_err();
        assert!(
            e.to_string()
                .contains("not the certificate of a certification"),
            "{e}"
        );
        assert!(Roots::from_files(&file("vcek.key")).is_err());
        assert!(Roots::from_files(&file("nothing")).is_err());
        // What a host hands out is in the table.
        let table = std::fs::read(dir.path().join("certs.bin")).unwrap();
        let table = CertTable::parse(&table).unwrap();
        assert!(table.vcek.is_some() && table.ask.is_some() && table.ark.is_some());
        assert!(
            test_root().write(dir.path()).is_err(),
            "nothing is replaced"
        );
    }

    #[test]
    fn fixed_values_of_the_test_chip_are_the_documented_ones() {
        let raw = crate::snp::test_root::unsigned_report(&[1; 64], &[2; 48]);
        let mut expected = raw_report(&[1; 64], &[2; 48]);
        expected[0x189..0x18b].fill(1);
        for tcb in [0x38, 0x1e0, 0x1f0] {
            expected[tcb..tcb + 8].copy_from_slice(&[3, 0, 0, 0, 0, 0, 8, 115]);
        }
        assert_eq!(raw[..], expected[..]);
    }
}
