//! Messages on the line between SVSM and proxy, for peers that a test plays.

use std::io::{Read, Write};

use anyhow::{Result, ensure};

/// Longest message that is read, in bytes; far more than either side may send.
const LIMIT: u64 = 1 << 20;

/// Reads one message: 8 bytes of length, little endian, then that much JSON.
pub fn receive(stream: &mut impl Read) -> Result<serde_json::Value> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    ensure!(length < LIMIT, "a message of {length} bytes is announced");
    let mut body = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Sends one message with a right length in front.
pub fn send(stream: &mut impl Write, body: &[u8]) -> Result<()> {
    stream.write_all(&u64::try_from(body.len())?.to_le_bytes())?;
    stream.write_all(body)?;
    Ok(())
}

/// Keeps the connection open until the peer goes away.
pub fn hold(stream: &mut impl Read) {
    let mut sink = [0; 256];
    while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
}
