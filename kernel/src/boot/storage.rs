//! The step that opens the persistent storage, and its demonstration.

use super::Machine;
use crate::attest::Secret;
use crate::persistence::{self, CocoonVolume, FormatPolicy, KeyError, Volume as _, VolumeKey};
#[cfg(any(feature = "guestlink", feature = "vtpm", feature = "uefivars"))]
use alloc::sync::Arc;

/// Opens the first block device whose image belongs to the secret. Without one the
/// boot goes on, and what is kept is lost at the next.
pub(super) fn open(machine: &Machine, secret: &Secret) -> Result<Option<CocoonVolume>, KeyError> {
    let start = machine.clock.now();
    let key = VolumeKey::new(secret.root_key())?;
    let policy = FormatPolicy::Allow;
    let volume = persistence::open_first(&machine.devices, &key, machine.entropy, policy);
    machine.report_time("opening persistent storage", start);
    Ok(volume)
}

/// Counts this boot on the volume. A failure is in the log and stops nothing.
pub(super) fn count_boot(volume: Option<&CocoonVolume>) {
    if let Some(volume) = volume {
        // The log has the result, either way.
        let _ = persistence::boot_counter::count_boot(volume);
        // Whatever fails here is tried again before the next use of the volume.
        let _ = volume.settle();
    }
}

/// The volume for several services at once.
#[cfg(any(feature = "guestlink", feature = "vtpm", feature = "uefivars"))]
pub(super) fn share(volume: Option<CocoonVolume>) -> Option<Arc<dyn persistence::Volume>> {
    volume.map(|volume| Arc::new(volume) as _)
}
