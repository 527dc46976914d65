//! The step that starts the services on the volume.

use super::Machine;
use crate::persistence::Volume;
use crate::services::Services;
use alloc::sync::Arc;

/// Why the services do not start. Going on without them would give the guest a machine
/// that forgot what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceStop {}

/// Starts what this build has. Without a volume the services forget all at the end of
/// this boot.
#[allow(unused_variables, reason = "a build may have no service")]
pub(super) fn start(
    machine: &Machine,
    volume: Option<&Arc<dyn Volume>>,
) -> Result<Services, ServiceStop> {
    Ok(Services::default())
}
