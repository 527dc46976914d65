//! The block device that CocoonFs sees: reads, writes, barriers and a device that fails
//! now and then, against a model. A read gives what was written last; after a barrier it
//! is on the device.

#![no_main]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cocoon_tpm_storage::blkdev::{
    ChunkedIoRegion, ChunkedIoRegionChunkRange, NvBlkDev, NvBlkDevFuture, NvBlkDevIoError,
    NvBlkDevReadRequest, NvBlkDevWriteRequest,
};
use libfuzzer_sys::fuzz_target;
use svsm::block::BlockError;
use svsm::block::memory::{Fault, MemoryDevice};
use svsm::persistence::nvblkdev::FsDevice;

/// Size of the device in bytes; larger than what is read ahead and what is held back
/// before it is written without a barrier.
const SIZE: usize = 4 << 20;
const BLOCK: usize = 512;

/// A request for a region, with the bytes to be written or that were read.
struct Request {
    region: ChunkedIoRegion,
    chunk_bytes: usize,
    data: Vec<u8>,
}

impl Request {
    /// For `data` from `begin` on, in chunks of 128 bytes shifted by `chunk_log2`; none
    /// where the chunks do not fit.
    fn new(begin: usize, chunk_log2: u32, data: Vec<u8>) -> Option<Self> {
        let end = begin + data.len();
        let region = ChunkedIoRegion::new(begin as u64 / 128, end as u64 / 128, chunk_log2);
        Some(Self {
            region: region.ok()?,
            chunk_bytes: 128 << chunk_log2,
            data,
        })
    }

    fn place(&self, range: &ChunkedIoRegionChunkRange) -> std::ops::Range<usize> {
        let (chunk, []) = range.chunk().decompose_to_hierarchic_indices([]);
        let base = chunk * self.chunk_bytes;
        base + range.range_in_chunk().start..base + range.range_in_chunk().end
    }
}

impl NvBlkDevReadRequest for Request {
    fn region(&self) -> &ChunkedIoRegion {
        &self.region
    }

    fn get_destination_buffer(
        &mut self,
        range: &ChunkedIoRegionChunkRange,
    ) -> Result<Option<&mut [u8]>, NvBlkDevIoError> {
        let place = self.place(range);
        Ok(Some(&mut self.data[place]))
    }
}

impl NvBlkDevWriteRequest for Request {
    fn region(&self) -> &ChunkedIoRegion {
        &self.region
    }

    fn get_source_buffer(
        &self,
        range: &ChunkedIoRegionChunkRange,
    ) -> Result<&[u8], NvBlkDevIoError> {
        Ok(&self.data[self.place(range)])
    }
}

/// The result of a future that may not wait.
fn done<F: NvBlkDevFuture<FsDevice>>(device: &FsDevice, future: F) -> F::Output {
    match pin!(future).poll(device, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future waits"),
    }
}

fuzz_target!(|input: &[u8]| {
    let disk = MemoryDevice::new(SIZE, BLOCK);
    let (device, control) = FsDevice::for_opening(Arc::new(disk.clone())).expect("memory");
    // What the file system wrote, and how much of it can be relied on.
    let mut written = vec![0; SIZE];
    // A write failed: its bytes may be old or new until they are written again.
    let mut unclear = false;
    for operation in input.chunks_exact(6).take(200) {
        let &[kind, low, high, length, chunk, value] = operation else {
            unreachable!("chunks of six");
        };
        let begin = usize::from(u16::from_le_bytes([low, high])) % (SIZE / BLOCK) * BLOCK;
        let blocks = usize::from(length) * if chunk & 0x80 == 0 { 1 } else { 16 };
        let len = (blocks * BLOCK).min(SIZE - begin);
        let chunk_log2 = u32::from(chunk % 8);
        match kind % 8 {
            0..=2 => {
                let data: Vec<_> = (0..len).map(|n| value ^ (n >> 7) as u8).collect();
                let Some(request) = Request::new(begin, chunk_log2, data.clone()) else {
                    continue;
                };
                let Ok(Ok(future)) = device.write(request) else {
                    panic!("a write is not begun");
                };
                match done(&device, future) {
                    Ok((_, Ok(()))) => written[begin..begin + len].copy_from_slice(&data),
                    Ok((_, Err(_))) => unclear = true,
                    Err(error) => panic!("{error:?}"),
                }
            }
            3 | 4 => {
                let Some(request) = Request::new(begin, chunk_log2, vec![0x55; len]) else {
                    continue;
                };
                let Ok(Ok(future)) = device.read(request) else {
                    panic!("a read is not begun");
                };
                if let Ok((request, Ok(()))) = done(&device, future)
                    && !unclear
                {
                    assert!(request.data == written[begin..begin + len], "a stale read");
                }
            }
            5 => {
                let future = device.write_barrier().expect("there are barriers");
                if done(&device, future).is_ok() && !unclear {
                    assert!(
                        disk.snapshot() == written,
                        "a barrier left something behind"
                    );
                }
            }
            6 => {
                let n = u64::from(value % 32);
                disk.fail(match length % 4 {
                    0 => Fault::Never,
                    1 => Fault::Once(n, BlockError::Io),
                    2 => Fault::From(n, BlockError::TimedOut),
                    _ => Fault::FromWrite(n, BlockError::Io),
                });
            }
            _ => control.end_read_ahead(),
        }
    }
    // Whatever failed on the way, the next barrier that succeeds makes up for it.
    disk.fail(Fault::Never);
    let future = device.write_sync().expect("there are syncs");
    done(&device, future).expect("the device is in order");
    if !unclear {
        assert!(disk.snapshot() == written, "a sync left something behind");
    }
});
