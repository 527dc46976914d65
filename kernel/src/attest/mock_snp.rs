//! Evidence in the form of SEV-SNP, made without SEV-SNP: for trying the verification of
//! reports from end to end, under a test root that no server trusts unless told.
//!
//! Always true in here: every value that hardware would vouch for is the host's word or a
//! constant, so what is made proves nothing to anybody, whatever its signature says.

use super::evidence::{EvidenceError, EvidenceSource, MEASUREMENT_LEN, ReportData};
use alloc::vec::Vec;
use libaproxy::v0_2::{Evidence, Tee};
use p384::ecdsa::signature::hazmat::PrehashSigner;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::DecodePrivateKey;
use sha2::{Digest, Sha384};

/// Length of ATTESTATION_REPORT in bytes (AMD 56860, section 7.3).
const REPORT_LEN: usize = 1184;

/// What the signature covers, and where it begins.
const SIGNED_LEN: usize = 0x2a0;

/// Width of each half of the signature: little-endian, zeros behind.
const SCALAR_LEN: usize = 72;

/// TCB_VERSION of the chip that does not exist: boot loader 3, TEE 0, SNP 8, microcode 115.
const TCB: [u8; 8] = [3, 0, 0, 0, 0, 0, 8, 115];

/// SIGNATURE_ALGO: ECDSA P-384 with SHA-384.
const SIGNATURE_ALGO: u32 = 1;

/// CPUID family, model and stepping: Milan.
const CPUID: [u8; 3] = [0x19, 0x01, 0x01];

/// What a report says of the guest that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// POLICY.
    pub policy: u64,
    /// VMPL.
    pub vmpl: u32,
}

impl Default for Claims {
    /// A guest that a server may trust: at VMPL 0, SMT is allowed, nothing else is; and the
    /// bit that is always one.
    fn default() -> Self {
        Self {
            policy: 1 << 16 | 1 << 17,
            vmpl: 0,
        }
    }
}

impl Claims {
    /// Reads `name=number` in decimal digits, white space between, of `policy` and `vmpl`;
    /// what is not named is as usual.
    pub fn parse(text: &[u8]) -> Result<Self, EvidenceError> {
        const MALFORMED: EvidenceError = EvidenceError::Platform("the mock claims are malformed");
        let text = core::str::from_utf8(text).map_err(|_| MALFORMED)?;
        let mut claims = Self::default();
        for entry in text.split_ascii_whitespace() {
            match entry.split_once('=').ok_or(MALFORMED)? {
                ("policy", number) => claims.policy = number.parse().map_err(|_| MALFORMED)?,
                ("vmpl", number) => claims.vmpl = number.parse().map_err(|_| MALFORMED)?,
                _ => return Err(MALFORMED),
            }
        }
        Ok(claims)
    }
}

/// A chip that does not exist.
pub struct MockSnp {
    key: SigningKey,
    certificates: Vec<u8>,
    measurement: [u8; MEASUREMENT_LEN],
    claims: Claims,
}

impl MockSnp {
    /// A chip with this VCEK (PKCS#8, DER), whose host hands out `certificates` (a table as
    /// in the GHCB specification; empty for none) and has launched what has `measurement`, as
    /// a guest of which `claims` are true.
    pub fn new(
        vcek: &[u8],
        certificates: Vec<u8>,
        measurement: [u8; MEASUREMENT_LEN],
        claims: Claims,
    ) -> Result<Self, EvidenceError> {
        let key = SigningKey::from_pkcs8_der(vcek).map_err(|_| {
            EvidenceError::Platform("the key of the mock VCEK is not P-384 in PKCS#8 form")
        })?;
        Ok(Self {
            key,
            certificates,
            measurement,
            claims,
        })
    }

    fn report(&self, report_data: &ReportData) -> Result<[u8; REPORT_LEN], EvidenceError> {
        let mut report = [0; REPORT_LEN];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &3u32.to_le_bytes());
        put(0x08, &self.claims.policy.to_le_bytes());
        put(0x30, &self.claims.vmpl.to_le_bytes());
        put(0x34, &SIGNATURE_ALGO.to_le_bytes());
        put(0x50, report_data.padded());
        put(0x90, &self.measurement);
        put(0x188, &CPUID);
        put(0x1a0, &core::array::from_fn::<u8, 64, _>(|n| n as u8));
        // CURRENT_TCB, REPORTED_TCB, COMMITTED_TCB, LAUNCH_TCB.
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            put(at, &TCB);
        }
        let digest = Sha384::digest(&report[..SIGNED_LEN]);
        let signature: Signature = self
            .key
            .sign_prehash(&digest)
            .map_err(|_| EvidenceError::Platform("the mock VCEK does not sign"))?;
        let (r, s) = signature.split_bytes();
        let halves = report[SIGNED_LEN..].chunks_exact_mut(SCALAR_LEN);
        for (half, scalar) in halves.zip([r, s]) {
            half.iter_mut()
                .zip(scalar.iter().rev())
                .for_each(|(target, byte)| *target = *byte);
        }
        Ok(report)
    }
}

impl EvidenceSource for MockSnp {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, EvidenceError> {
        let certificates = match self.certificates.is_empty() {
            true => None,
            false => Some(self.certificates.clone().into()),
        };
        Ok(Evidence::Snp {
            report: self.report(report_data)?.into(),
            certs_buf: certificates,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p384::SecretKey;
    use p384::ecdsa::VerifyingKey;
    use p384::ecdsa::signature::hazmat::PrehashVerifier;

    /// PKCS#8 (RFC 5208) around an EC private key without its public half (RFC 5915).
    fn pkcs8(key: &SecretKey) -> Vec<u8> {
        let head = hex::decode(
            "304e020100301006072a8648ce3d020106052b8104002204373035020101 0430".replace(' ', ""),
        );
        [&head.unwrap()[..], &key.to_bytes()].concat()
    }

    #[test]
    fn report_is_signed_over_what_it_says() {
        let key = SecretKey::from_slice(&[0x33; 48]).unwrap();
        let claims = Claims::parse(b"vmpl=2\n policy=720896").unwrap();
        let chip = MockSnp::new(&pkcs8(&key), vec![1, 2], [0x77; 48], claims).unwrap();
        let Evidence::Snp { report, certs_buf } = chip.evidence(&[9; 48].into()).unwrap() else {
            panic!("not an SNP report");
        };
        assert_eq!(certs_buf, Some(vec![1, 2].into()));
        assert_eq!(report.len(), 1184);
        assert_eq!(report[0x08..0x10], [0, 0, 11, 0, 0, 0, 0, 0]);
        assert_eq!(report[0x30..0x34], [2, 0, 0, 0]);
        assert_eq!(report[0x50..0x80], [9; 48]);
        assert_eq!(report[0x80..0x90], [0; 16]);
        assert_eq!(report[0x90..0xc0], [0x77; 48]);
        let scalar = |at: usize| -> Vec<u8> { report[at..at + 48].iter().rev().copied().collect() };
        let signature = [scalar(0x2a0), scalar(0x2a0 + 72)].concat();
        let signature = Signature::from_slice(&signature).unwrap();
        let verifier = VerifyingKey::from(key.public_key());
        let digest = Sha384::digest(&report[..0x2a0]);
        assert!(verifier.verify_prehash(&digest, &signature).is_ok());
        assert_eq!(report[0x2a0 + 48..0x2a0 + 72], [0; 24]);
    }

    #[test]
    fn key_in_another_form_is_refused() {
        let key = SecretKey::from_slice(&[0x33; 48]).unwrap();
        let good = pkcs8(&key);
        for bad in [&good[..good.len() - 1], &good[1..], b"", &[0xff; 1024]] {
            assert!(MockSnp::new(bad, vec![], [0; 48], Claims::default()).is_err());
        }
    }

    #[test]
    fn malformed_claims_are_refused() {
        assert_eq!(Claims::parse(b" "), Ok(Claims::default()));
        for bad in [
            &b"vmpl"[..],
            b"vmpl=",
            b"vmpl=x",
            b"vmpl=-1",
            b"vmpl=4294967296",
            b"policy=0x30000",
            b"measurement=1",
            b"\xff",
        ] {
            assert!(Claims::parse(bad).is_err());
        }
    }
}
