//! The step that starts the services on the volume.

use super::Machine;
use super::storage::Storage;
use crate::services::Services;

/// Why the services do not start. Going on without them would give the guest a machine
/// that has forgotten what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceStop {
    #[cfg(feature = "vtpm")]
    #[error("vTPM: {0}")]
    Tpm(#[from] vtpm::PowerOnError),
    #[cfg(feature = "uefivars")]
    #[error("UEFI variables: {0}")]
    Variables(#[from] crate::services::uefi::StartError),
}

/// Starts what this build has. Without a volume the services forget all at the end of
/// this boot.
#[allow(unused, reason = "a build may have no service")]
pub(super) fn start(machine: &Machine, storage: &Storage) -> Result<Services, ServiceStop> {
    let volume = storage.volume.as_ref();
    let mut services = Services {
        key_broker: Some(storage.key_broker),
        ..Services::default()
    };
    #[cfg(feature = "vtpm")]
    {
        let start = machine.clock.now();
        let (entropy, clock) = (machine.entropy, machine.clock);
        let existing = if cfg!(feature = "vtpm-remanufacture") {
            vtpm::Existing::Replace
        } else {
            vtpm::Existing::Keep
        };
        let tpm = crate::services::vtpm::power_on_with(existing, volume.cloned(), entropy, clock)?;
        machine.report_time("powering the vTPM on", start);
        services.tpm = crate::services::Service::new(tpm);
    }
    #[cfg(feature = "uefivars")]
    {
        #[cfg(feature = "secureboot")]
        let first = crate::arch::image_data::initial_set();
        #[cfg(not(feature = "secureboot"))]
        let first = &[];
        let variables = crate::services::uefi::start(volume.cloned(), first)?;
        services.variables = crate::services::Service::new(variables);
    }
    Ok(services)
}
