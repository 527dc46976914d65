//! What evidence says, once it is verified as far as its kind allows.
//!
//! Claims exist only for evidence that is bound to its session; whether they earn a secret is decided
//! by the policy of a volume.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};

use crate::binding::DIGEST;
use crate::config::Measurement;

/// Security versions of the platform's firmware (TCB_VERSION, AMD 56860, section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcb {
    /// FMC; on Turin and later, 0 elsewhere.
    pub fmc: u8,
    /// Boot loader of the secure processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode of the cores.
    pub microcode: u8,
}

impl Tcb {
    /// Every part with a name for people.
    pub fn parts(&self) -> [(&'static str, u8); 5] {
        [
            ("FMC", self.fmc),
            ("boot loader", self.bootloader),
            ("TEE", self.tee),
            ("SNP firmware", self.snp),
            ("microcode", self.microcode),
        ]
    }
}

/// What an SNP report that was verified up to a trusted root says beyond its measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpClaims {
    /// POLICY bit 16.
    pub policy_allows_smt: bool,
    /// REPORTED_TCB.
    pub tcb: Tcb,
    /// CHIP_ID.
    pub chip_id: [u8; 64],
}

/// What one session's evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The launch measurement; `sample` evidence may have none.
    pub measurement: Option<Measurement>,
    /// What the server signs in place of the evidence.
    pub evidence_digest: [u8; DIGEST],
    /// `None` for `sample` evidence.
    pub snp: Option<SnpClaims>,
}

impl Claims {
    /// Claims of sample evidence, which are no more than words.
    pub fn sample(measurement: Option<Measurement>, evidence_digest: [u8; DIGEST]) -> Self {
        Self {
            measurement,
            evidence_digest,
            snp: None,
        }
    }
}

/// Digest of an SNP report: SHA-384 over its raw bytes.
pub fn report_digest(raw: &[u8]) -> [u8; DIGEST] {
    Sha384::digest(raw).into()
}

/// Digest of sample evidence: SHA-384 over `sample`, a zero byte, the report data and the measurement
/// as it was written.
pub fn sample_digest(report_data: &[u8], measurement: &str) -> [u8; DIGEST] {
    Sha384::new()
        .chain_update(b"sample\0")
        .chain_update(report_data)
        .chain_update(measurement)
        .finalize()
        .into()
}
