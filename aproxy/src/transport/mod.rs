//! How SVSMs reach the proxy.

use std::io::{self, Read, Write};
use std::time::Duration;

pub mod unix;

/// Accepts connections from SVSMs.
pub trait Transport {
    /// One connection.
    type Stream: Stream;

    /// Waits for the next connection.
    fn accept(&self) -> io::Result<Self::Stream>;
}

/// A connection whose reads and writes can be given an end.
pub trait Stream: Read + Write + Send + 'static {
    /// Lets reads fail with `WouldBlock` or `TimedOut` after `limit`; `None` waits for ever.
    fn limit_read(&self, limit: Option<Duration>) -> io::Result<()>;

    /// The same for writes.
    fn limit_write(&self, limit: Option<Duration>) -> io::Result<()>;
}
