//! The step that starts the services on the volume.

use super::Machine;
use crate::persistence::Volume;
use crate::services::Services;
use alloc::sync::Arc;

/// Why the services do not start. Going on without them would give the guest a machine
/// that has forgotten what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceStop {
    #[cfg(feature = "vtpm")]
    #[error("vTPM: {0}")]
    Tpm(#[from] vtpm::PowerOnError),
    #[cfg(feature = "uefivars")]
    #[error("UEFI variables: {0}")]
    Variables(#[from] uefivars::LoadError),
}

/// Starts what this build has. Without a volume the services forget all at the end of
/// this boot.
#[allow(unused, reason = "a build may have no service")]
pub(super) fn start(
    machine: &Machine,
    volume: Option<&Arc<dyn Volume>>,
) -> Result<Services, ServiceStop> {
    let mut services = Services::default();
    #[cfg(feature = "vtpm")]
    {
        let start = machine.clock.now();
        let (entropy, clock) = (machine.entropy, machine.clock);
        let tpm = crate::services::vtpm::power_on(volume.cloned(), entropy, clock)?;
        machine.report_time("powering the vTPM on", start);
        services.tpm = crate::services::Service::new(tpm);
    }
    #[cfg(feature = "uefivars")]
    {
        let variables = crate::services::uefi::start(volume.cloned())?;
        services.variables = crate::services::Service::new(variables);
    }
    Ok(services)
}
