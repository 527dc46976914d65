//! The step that gets the secret: attestation over COM3.

use super::Machine;
use crate::arch;
use crate::attest::{
    self, AttestError, Client, Costs, EvidenceError, Phase, SampleEvidence, ServerKey, Timeouts,
    Traffic, TrustError, TrustPolicy,
};
use crate::drivers::fw_cfg::{FwCfg, FwCfgError};
use crate::drivers::uart::{COM3, Uart};
use crate::exec;
use crate::platform::EvidenceSource;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bootinfo::trusted_keys::{self, TrustedKeysError};

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
    Pins(#[from] TrustedKeysError),
    #[error("pinned key: {0}")]
    Pin(#[from] TrustError),
    #[error(transparent)]
    Exchange(#[from] AttestError),
}

/// The line to the proxy.
pub(super) type Line = Uart<'static>;

/// What attestation brings; reports go out on the line of the exchange.
pub(super) type Attestation = attest::Attestation<'static, Line>;

/// Attests; there is no way on without it.
pub(super) fn attest(machine: &Machine) -> Result<Attestation, AttestationStop> {
    let start = machine.clock.now();
    let evidence = evidence(machine)?;
    let line = Uart::open(machine.platform.ports(), COM3).ok_or(AttestationStop::NoPort)?;
    let client = Client {
        clock: machine.clock,
        evidence: &*evidence,
        entropy: machine.entropy,
        policy: &trust_policy()?,
        timeouts: Timeouts::default(),
    };
    let attestation = exec::block_on(client.attest(line))?;
    log::info!("attestation successful");
    machine.report_time("attestation", start);
    report_costs(&attestation.costs);
    Ok(attestation)
}

/// Says where the time of the attestation went, and how much was said.
fn report_costs(costs: &Costs) {
    for phase in Phase::ALL {
        let time = costs.time(phase).as_millis();
        log::info!("time: attestation, {}, took {time} ms", phase.name());
    }
    let Traffic { sent, received } = costs.traffic;
    log::info!("attestation: {sent} bytes sent, {received} received");
}

/// Whom this image takes a secret from: the keys that its builder put in, or anybody.
fn trust_policy() -> Result<TrustPolicy, AttestationStop> {
    let keys = trusted_keys::decode(arch::trusted_keys::page())?;
    if keys.is_empty() {
        return Ok(TrustPolicy::trust_on_first_use());
    }
    let pinned = keys.iter().map(|key| ServerKey::from_der(key));
    Ok(TrustPolicy::pinned(pinned.collect::<Result<_, _>>()?))
}

/// What makes the evidence on this platform.
fn evidence(machine: &Machine) -> Result<Box<dyn attest::EvidenceSource>, AttestationStop> {
    match machine.platform.evidence_source() {
        EvidenceSource::None => {
            #[cfg(feature = "mock-snp")]
            if let Some(mock) = mock_snp(machine)? {
                return Ok(Box::new(mock));
            }
            Ok(Box::new(sample_evidence(machine)?))
        }
    }
}

/// A sample, with the measurement that the host says the image has.
fn sample_evidence(machine: &Machine) -> Result<SampleEvidence, AttestationStop> {
    Ok(
        match fw_cfg_file(machine, MEASUREMENT_FILE, MEASUREMENT_LIMIT)? {
            Some(text) => SampleEvidence::with_measurement(&text)?,
            None => SampleEvidence::default(),
        },
    )
}

/// A report under the test key that the host handed over, if it did.
#[cfg(feature = "mock-snp")]
fn mock_snp(machine: &Machine) -> Result<Option<attest::mock_snp::MockSnp>, AttestationStop> {
    /// Where the launch script leaves the key, PKCS#8 in DER form.
    const KEY_FILE: &str = "opt/org.coconut-svsm/mock-vcek";
    const KEY_LIMIT: usize = 1024;
    /// And the certificates, as a host of SNP guests hands them out.
    const CERTIFICATES_FILE: &str = "opt/org.coconut-svsm/mock-certs";
    const CERTIFICATES_LIMIT: usize = 16 * 1024;

    let Some(key) = fw_cfg_file(machine, KEY_FILE, KEY_LIMIT)? else {
        return Ok(None);
    };
    let key = zeroize::Zeroizing::new(key);
    let certificates = fw_cfg_file(machine, CERTIFICATES_FILE, CERTIFICATES_LIMIT)?;
    let measurement = match fw_cfg_file(machine, MEASUREMENT_FILE, MEASUREMENT_LIMIT)? {
        Some(text) => attest::evidence::self_reported(&text)?,
        None => [0; attest::evidence::MEASUREMENT_LEN],
    };
    log::warn!(
        "attestation evidence is signed by a test key and proves nothing: development build mock-snp"
    );
    let certificates = certificates.unwrap_or_default();
    Ok(Some(attest::mock_snp::MockSnp::new(
        &key,
        certificates,
        measurement,
    )?))
}

/// A file that the host handed over.
fn fw_cfg_file(
    machine: &Machine,
    name: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>, AttestationStop> {
    Ok(match FwCfg::open(machine.platform.ports()) {
        Some(device) => device.read_file(name, limit)?,
        None => None,
    })
}
