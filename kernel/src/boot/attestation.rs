//! The step that gets the secret: attestation over COM3.

use super::Machine;
use crate::attest::{
    AttestError, Client, EvidenceError, SampleEvidence, Secret, Timeouts, TrustPolicy,
};
use crate::drivers::fw_cfg::{FwCfg, FwCfgError};
use crate::drivers::uart::{COM3, Uart};
use crate::exec;
use crate::platform::EvidenceSource;

/// Where the launch script leaves the measurement of the image, as fw_cfg knows it.
const MEASUREMENT_FILE: &str = "opt/org.coconut-svsm/measurement";

/// Longest measurement that is read, in bytes: 96 hex digits and a line end.
const MEASUREMENT_LIMIT: usize = 98;

/// Why there is no secret. The messages follow "attestation failed: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum AttestationStop {
    #[error("there is no serial port COM3")]
    NoPort,
    #[error("launch measurement: {0}")]
    Measurement(#[from] FwCfgError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Exchange(#[from] AttestError),
}

/// Attests, and returns the secret; there is no way on without it.
pub(super) fn obtain_secret(machine: &Machine) -> Result<Secret, AttestationStop> {
    let start = machine.clock.now();
    let evidence = evidence(machine)?;
    let line = Uart::open(machine.platform.ports(), COM3).ok_or(AttestationStop::NoPort)?;
    let client = Client {
        clock: machine.clock,
        evidence: &evidence,
        entropy: machine.entropy,
        policy: &TrustPolicy::trust_on_first_use(),
        timeouts: Timeouts::default(),
    };
    let attestation = exec::block_on(client.attest(line))?;
    log::info!("attestation successful");
    machine.report_time("attestation", start);
    Ok(attestation.secret)
}

/// What makes the evidence on this platform.
fn evidence(machine: &Machine) -> Result<SampleEvidence, AttestationStop> {
    match machine.platform.evidence_source() {
        EvidenceSource::None => sample_evidence(machine),
    }
}

/// A sample, with the measurement that the host says the image has.
fn sample_evidence(machine: &Machine) -> Result<SampleEvidence, AttestationStop> {
    let file = match FwCfg::open(machine.platform.ports()) {
        Some(device) => device.read_file(MEASUREMENT_FILE, MEASUREMENT_LIMIT)?,
        None => None,
    };
    Ok(match file {
        Some(text) => SampleEvidence::with_measurement(&text)?,
        None => SampleEvidence::default(),
    })
}
