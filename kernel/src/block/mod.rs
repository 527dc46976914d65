//! Block devices as the layers above see them.
//!
//! A device belongs to the host: what it returns is untrusted bytes, what it is
//! given is ciphertext, and any call may fail at any time.

#[cfg(any(test, not(target_os = "svsm")))]
pub mod memory;

/// Shape of a device, fixed for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Logical block size in bytes: a power of two, at least 512.
    pub block_size: usize,
    /// Size of the device in logical blocks.
    pub block_count: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// The device may have a volatile cache, which [`BlockDevice::flush`] empties.
    pub needs_flush: bool,
    /// The device announces that a write is durable when it returns. Where neither this
    /// nor [`needs_flush`](Self::needs_flush) is true, nothing makes a write durable.
    pub write_through: bool,
}

impl Geometry {
    /// Size of the device in bytes; saturates.
    pub const fn bytes(&self) -> u64 {
        self.block_count.saturating_mul(self.block_size as u64)
    }
}

/// Why a block request failed. Nothing is known of what a failed write left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BlockError {
    #[error("range is outside the device or not a multiple of its block size")]
    OutOfRange,
    #[error("device is read-only")]
    ReadOnly,
    #[error("device reported an I/O error")]
    Io,
    #[error("device does not support the request")]
    Unsupported,
    #[error("device did not answer in time")]
    TimedOut,
    #[error("device broke the virtio protocol")]
    Protocol,
    #[error("no memory for the request")]
    NoMemory,
}

/// A run of blocks to be written.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// First logical block.
    pub block: u64,
    /// What goes there, a multiple of the block size.
    pub data: &'a [u8],
}

/// What a device was asked for, failed requests included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
    /// Requests to flush.
    pub flushes: u64,
    /// Bytes asked for by reads.
    pub bytes_read: u64,
    /// Bytes given to writes.
    pub bytes_written: u64,
}

impl Counters {
    /// All requests, flushes included.
    pub const fn requests(&self) -> u64 {
        self.reads + self.writes + self.flushes
    }

    /// What was asked for since `before`, an earlier count of the same device.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            reads: self.reads.wrapping_sub(before.reads),
            writes: self.writes.wrapping_sub(before.writes),
            flushes: self.flushes.wrapping_sub(before.flushes),
            bytes_read: self.bytes_read.wrapping_sub(before.bytes_read),
            bytes_written: self.bytes_written.wrapping_sub(before.bytes_written),
        }
    }
}

/// A device that reads and writes runs of logical blocks.
///
/// Calls return when the device has answered or a time-out has passed; after a
/// time-out the device is dead and every further call fails at once.
pub trait BlockDevice: Send + Sync {
    /// Shape of the device.
    fn geometry(&self) -> Geometry;

    /// Fills `buffer` (a multiple of the block size) from `block` on.
    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError>;

    /// Writes `data` (a multiple of the block size) from `block` on. Durable after
    /// the next [`flush`](Self::flush).
    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError>;

    /// Writes every run of `runs`, in any order and at the same time where the device
    /// can; they must not overlap. Returns when all are done.
    fn write_runs(&self, runs: &[Run<'_>]) -> Result<(), BlockError> {
        runs.iter()
            .try_for_each(|run| self.write(run.block, run.data))
    }

    /// Returns when every completed write is durable.
    fn flush(&self) -> Result<(), BlockError>;

    /// What the device itself was asked for so far; all zero where nobody counts.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}
