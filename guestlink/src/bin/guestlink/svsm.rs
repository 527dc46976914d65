//! Calls with the meaning of their result codes.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use guestlink::client::{self, Outcome, Region};

/// A link to an SVSM.
pub type Link = client::Link<UnixStream>;

/// Where the memory of our calls is, as far as the SVSM is told.
pub const BASE: u64 = 0x10_0000;

/// Connects to the SVSM at `socket`.
pub fn connect(socket: &Path) -> Result<Link> {
    Link::connect(socket).with_context(|| socket.display().to_string())
}

/// Zeroed guest memory of `size` bytes.
pub fn memory(size: usize) -> Region {
    Region {
        base: BASE,
        bytes: vec![0; size],
    }
}

/// The registers after a call that has to succeed.
pub fn expect(what: &str, outcome: Outcome) -> Result<[u64; 4]> {
    outcome.success().with_context(|| what.to_owned())
}
