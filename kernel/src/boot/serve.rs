//! The step that serves calls over COM4, until the host asks to stop.

use super::Machine;
use crate::drivers::uart::{COM4, Uart};
use crate::exec;
use crate::guestlink::{LinkError, Server};
use crate::persistence::Volume;
use crate::services::Services;

/// Serves `services`. Without the serial port there is nothing to serve, and the boot
/// goes on.
pub(super) fn run(
    machine: &Machine,
    services: &Services,
    volume: Option<&dyn Volume>,
) -> Result<(), LinkError> {
    let Some(mut line) = Uart::open(machine.platform.ports(), COM4) else {
        log::info!("guest link: there is no serial port COM4, nothing is served");
        return Ok(());
    };
    let server = Server::new(services, machine.clock)?;
    log::warn!("guest link: the host may make every call that a guest may make");
    log::info!("guest link: serving calls on COM4");
    let summary = exec::block_on(server.run(&mut line, || settle(volume)));
    settle(volume);
    log::info!(
        "guest link: closed by the host after {} calls; {} frames refused, {} answers lost, {} bytes skipped",
        summary.calls,
        summary.refused,
        summary.lost_answers,
        summary.skipped
    );
    Ok(())
}

fn settle(volume: Option<&dyn Volume>) {
    if let Some(volume) = volume {
        // What fails is in the log, and is tried again before the next use of the volume.
        let _ = volume.settle();
    }
}
