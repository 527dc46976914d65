//! The server side of the swtpm protocols: commands on a data channel, power, localities and
//! the rest on a control channel (swtpm(8), swtpm_ioctls(3)).
//!
//! Always true in here:
//! - One thread serves one data and one control connection at a time; others wait in the
//!   listener's queue.
//! - A client can neither stop the server (except by `CMD_SHUTDOWN`, or as
//!   [`Options::terminate`] says) nor make it wait without a time limit.
//! - What answers is behind [`Device`]: the engine in this process ([`LocalTpm`]), or a TPM at
//!   the other end of a link.

mod control;
mod device;
mod directory;
mod info;
mod run;
mod socket;

pub use device::{Device, HostEnvironment, LocalTpm};
pub use directory::{Directory, DirectoryError, FILE};
pub use run::{Options, serve};
pub use socket::{Source, Stream};
