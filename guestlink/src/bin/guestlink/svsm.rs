//! Calls with the meaning of their result codes.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
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

/// The name of a result code (AMD 58019, section 3.3).
pub fn result_name(result: u64) -> &'static str {
    match result {
        0 => "success",
        0x8000_0000 => "incomplete",
        0x8000_0001 => "unsupported protocol",
        0x8000_0002 => "unsupported call",
        0x8000_0003 => "invalid address",
        0x8000_0004 => "invalid format",
        0x8000_0005 => "invalid parameter",
        0x8000_0006 => "invalid request",
        0x8000_0007 => "busy",
        0x8000_1000.. => "specific to the protocol",
        _ => "unknown",
    }
}

/// Makes a call that has to succeed.
pub fn expect(what: &str, outcome: Outcome) -> Result<[u64; 4]> {
    if outcome.result != 0 {
        bail!(
            "{what}: the SVSM answers {:#x}, {}",
            outcome.result,
            result_name(outcome.result)
        );
    }
    Ok(outcome.registers)
}
