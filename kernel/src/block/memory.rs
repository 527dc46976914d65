//! A block device in memory, for tests of everything above [`BlockDevice`].
//!
//! It behaves like a well-behaved device until told otherwise: any request can be
//! made to fail, once or for ever, and what was asked of it is counted. Clones share
//! one device, so a test keeps a handle on what it gave away.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{BlockDevice, BlockError, Counters, Geometry};

/// Which requests fail, and how. Requests count from 0 at [`MemoryDevice::fail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    Never,
    /// Only the n-th request from now on.
    Once(u64, BlockError),
    /// The n-th request from now on and all after it.
    From(u64, BlockError),
    /// The n-th write from now on and all requests after it, as a device that dies
    /// while it is written to.
    FromWrite(u64, BlockError),
}

struct State {
    data: Vec<u8>,
    counters: Counters,
    fault: Fault,
    seen: u64,
    writes_seen: u64,
}

impl State {
    fn check_fault(&mut self, is_write: bool) -> Result<(), BlockError> {
        let (index, write_index) = (self.seen, self.writes_seen);
        self.seen += 1;
        self.writes_seen += u64::from(is_write);
        match self.fault {
            Fault::Once(n, error) if index == n => Err(error),
            Fault::From(n, error) if index >= n => Err(error),
            // Once the write has been counted every later request sees a higher count.
            Fault::FromWrite(n, error)
                if (is_write && write_index >= n) || (!is_write && write_index > n) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// A block device in memory.
#[derive(Clone)]
pub struct MemoryDevice {
    geometry: Geometry,
    state: Arc<spin::Mutex<State>>,
}

impl MemoryDevice {
    /// A zeroed device of `bytes` bytes in blocks of `block_size`; a last incomplete
    /// block is left off.
    pub fn new(bytes: usize, block_size: usize) -> Self {
        Self::from_bytes(vec![0; bytes], block_size)
    }

    /// A device that holds `data`, in blocks of `block_size`; a last incomplete block
    /// is left off.
    pub fn from_bytes(mut data: Vec<u8>, block_size: usize) -> Self {
        let block_count = data.len() / block_size;
        data.truncate(block_count * block_size);
        Self {
            geometry: Geometry {
                block_size,
                block_count: block_count as u64,
                read_only: false,
                needs_flush: true,
                write_through: false,
            },
            state: Arc::new(spin::Mutex::new(State {
                data,
                counters: Counters::default(),
                fault: Fault::Never,
                seen: 0,
                writes_seen: 0,
            })),
        }
    }

    /// The same device, which refuses writes.
    pub fn read_only(mut self) -> Self {
        self.geometry.read_only = true;
        self
    }

    /// The same device, whose writes are durable when they return.
    pub fn write_through(mut self) -> Self {
        self.geometry.needs_flush = false;
        self.geometry.write_through = true;
        self
    }

    /// The same device, which neither flushes nor says when a write is durable.
    pub fn volatile(mut self) -> Self {
        self.geometry.needs_flush = false;
        self
    }

    /// From now on fails requests as `fault` says.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.state.lock();
        state.fault = fault;
        state.seen = 0;
        state.writes_seen = 0;
    }

    /// Starts counting from zero.
    pub fn reset_counters(&self) {
        self.state.lock().counters = Counters::default();
    }

    /// A copy of the device's contents.
    pub fn snapshot(&self) -> Vec<u8> {
        self.state.lock().data.clone()
    }

    /// Changes the device's contents behind the back of whoever uses it.
    pub fn tamper(&self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.state.lock().data);
    }

    fn range(&self, block: u64, len: usize) -> Result<core::ops::Range<usize>, BlockError> {
        let Geometry {
            block_size,
            block_count,
            ..
        } = self.geometry;
        if !len.is_multiple_of(block_size)
            || block > block_count
            || (len / block_size) as u64 > block_count - block
        {
            return Err(BlockError::OutOfRange);
        }
        let begin = block as usize * block_size;
        Ok(begin..begin + len)
    }
}

impl BlockDevice for MemoryDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut state = self.state.lock();
        state.counters.reads += 1;
        state.counters.bytes_read += buffer.len() as u64;
        state.check_fault(false)?;
        let range = self.range(block, buffer.len())?;
        buffer.copy_from_slice(&state.data[range]);
        Ok(())
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        let mut state = self.state.lock();
        state.counters.writes += 1;
        state.counters.bytes_written += data.len() as u64;
        if self.geometry.read_only {
            return Err(BlockError::ReadOnly);
        }
        state.check_fault(true)?;
        let range = self.range(block, data.len())?;
        state.data[range].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        let mut state = self.state.lock();
        state.counters.flushes += 1;
        state.check_fault(false)
    }

    fn counters(&self) -> Counters {
        self.state.lock().counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_counts_it() {
        let device = MemoryDevice::new(4096, 512);
        device.write(3, &[7; 1024]).unwrap();
        let mut buffer = [0; 512];
        device.read(4, &mut buffer).unwrap();
        assert_eq!(buffer, [7; 512]);
        device.flush().unwrap();
        assert_eq!(
            device.counters(),
            Counters {
                reads: 1,
                writes: 1,
                flushes: 1,
                bytes_read: 512,
                bytes_written: 1024,
            }
        );
    }

    #[test]
    fn requests_outside_the_device_are_refused() {
        let device = MemoryDevice::new(1024, 512);
        assert_eq!(device.read(2, &mut [0; 512]), Err(BlockError::OutOfRange));
        assert_eq!(device.read(1, &mut [0; 1024]), Err(BlockError::OutOfRange));
        assert_eq!(device.read(0, &mut [0; 100]), Err(BlockError::OutOfRange));
        assert_eq!(
            device.read(u64::MAX, &mut [0; 512]),
            Err(BlockError::OutOfRange)
        );
    }

    #[test]
    fn faults_hit_the_requests_they_name() {
        let device = MemoryDevice::new(1024, 512);
        device.fail(Fault::Once(1, BlockError::Io));
        assert_eq!(device.flush(), Ok(()));
        assert_eq!(device.flush(), Err(BlockError::Io));
        assert_eq!(device.flush(), Ok(()));

        device.fail(Fault::FromWrite(1, BlockError::TimedOut));
        assert_eq!(device.write(0, &[1; 512]), Ok(()));
        assert_eq!(device.flush(), Ok(()));
        assert_eq!(device.write(0, &[2; 512]), Err(BlockError::TimedOut));
        assert_eq!(device.flush(), Err(BlockError::TimedOut));
        assert_eq!(device.snapshot()[0], 1);
    }
}
