//! The step that gets the secret: attestation over COM3.

use super::Machine;
use crate::arch;
use crate::attest::evidence::{MEASUREMENT_LEN, self_reported};
#[cfg(feature = "mock-snp")]
use crate::attest::mock_snp::{Claims, MockSnp};
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
use core::time::Duration;

/// Where the launch script leaves the measurement of the image, as fw_cfg knows it.
const MEASUREMENT_FILE: &str = "opt/org.coconut-svsm/measurement";

/// Longest measurement that is read, in bytes: 96 hex digits and a line end.
const MEASUREMENT_LIMIT: usize = 98;

/// Where the host leaves the longest wait for the proxy, in whole seconds: text, 1 to 600.
/// It can only shorten a wait: to keep this machine from booting is in its power anyway.
const PATIENCE_FILE: &str = "opt/org.coconut-svsm/attestation-patience";

/// Longest text of it, in bytes.
const PATIENCE_LIMIT: usize = 4;

/// Why there is no secret. The messages follow "attestation failed: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum AttestationStop {
    #[error("there is no serial port COM3")]
    NoPort,
    #[error("launch measurement: {0}")]
    Measurement(FwCfgError),
    #[error("patience of attestation: {0}")]
    Patience(FwCfgError),
    #[error("patience of attestation is not a number of seconds from 1 to 600")]
    PatienceText,
    #[cfg(feature = "mock-snp")]
    #[error("test root: {0}")]
    TestRoot(FwCfgError),
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
        timeouts: timeouts(machine)?,
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

/// How long to wait for the proxy: as built in, or less where the host says so.
fn timeouts(machine: &Machine) -> Result<Timeouts, AttestationStop> {
    let file = fw_cfg_file(machine, PATIENCE_FILE, PATIENCE_LIMIT);
    let Some(text) = file.map_err(AttestationStop::Patience)? else {
        return Ok(Timeouts::default());
    };
    let seconds = core::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|seconds| (1..=600).contains(seconds))
        .ok_or(AttestationStop::PatienceText)?;
    Ok(Timeouts::default().at_most(Duration::from_secs(seconds)))
}

/// Whom this image takes a secret from: the keys that its builder put in, or anybody.
fn trust_policy() -> Result<TrustPolicy, AttestationStop> {
    let keys = trusted_keys::decode(arch::image_data::trusted_keys())?;
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
    let measurement = measurement(machine)?;
    Ok(SampleEvidence { measurement })
}

/// The measurement that the host says the image has, if it says so.
fn measurement(machine: &Machine) -> Result<Option<[u8; MEASUREMENT_LEN]>, AttestationStop> {
    let file = fw_cfg_file(machine, MEASUREMENT_FILE, MEASUREMENT_LIMIT);
    let text = file.map_err(AttestationStop::Measurement)?;
    Ok(text.map(|text| self_reported(&text)).transpose()?)
}

/// A report under the test key that the host handed over, if it did.
#[cfg(feature = "mock-snp")]
fn mock_snp(machine: &Machine) -> Result<Option<MockSnp>, AttestationStop> {
    /// Where the launch script leaves the key, PKCS#8 in DER form.
    const KEY_FILE: &str = "opt/org.coconut-svsm/mock-vcek";
    const KEY_LIMIT: usize = 1024;
    /// And the certificates, as a host of SNP guests hands them out.
    const CERTIFICATES_FILE: &str = "opt/org.coconut-svsm/mock-certs";
    const CERTIFICATES_LIMIT: usize = 16 * 1024;
    /// What a report says of the guest, where that is to be something else than usual.
    const CLAIMS_FILE: &str = "opt/org.coconut-svsm/mock-claims";
    const CLAIMS_LIMIT: usize = 64;

    let file = |name, limit| fw_cfg_file(machine, name, limit).map_err(AttestationStop::TestRoot);
    let Some(key) = file(KEY_FILE, KEY_LIMIT)? else {
        return Ok(None);
    };
    let key = zeroize::Zeroizing::new(key);
    let certificates = file(CERTIFICATES_FILE, CERTIFICATES_LIMIT)?.unwrap_or_default();
    let claims = match file(CLAIMS_FILE, CLAIMS_LIMIT)? {
        Some(text) => Claims::parse(&text)?,
        None => Claims::default(),
    };
    let measurement = measurement(machine)?.unwrap_or([0; MEASUREMENT_LEN]);
    log::warn!(
        "attestation evidence is signed by a test key and proves nothing: development build mock-snp"
    );
    Ok(Some(MockSnp::new(&key, certificates, measurement, claims)?))
}

/// A file that the host handed over.
fn fw_cfg_file(machine: &Machine, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FwCfgError> {
    match FwCfg::open(machine.platform.ports()) {
        Some(device) => device.read_file(name, limit),
        None => Ok(None),
    }
}
