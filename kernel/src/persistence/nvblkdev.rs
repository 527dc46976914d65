//! The block device that CocoonFs sees: [`NvBlkDev`] over [`BlockDevice`].
//!
//! I/O happens inside `poll` and blocks there, so every future is ready at its first
//! poll. Reads go to the device at once, as one request each; writes wait in a
//! [`WriteQueue`], which reads see, and go out at the next barrier. Barrier and sync
//! are the same here: both write the queue and flush the device, so what was written
//! before is durable, which is more than a barrier promises.
//!
//! A failed write therefore shows at the barrier behind it, never earlier; until it
//! has been repeated with success the data stays in the queue.
//!
//! Whoever opens an image keeps a [`DeviceControl`]: until told that the image is open
//! the device reads ahead, and it can be told to hold back, so that every I/O is
//! pending until it is let go on.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use cocoon_tpm_storage::blkdev::{
    ChunkedIoRegion, NvBlkDev, NvBlkDevFuture, NvBlkDevIoError, NvBlkDevReadRequest,
    NvBlkDevWriteRequest,
};
use cocoon_tpm_utils_async::sync_types::{GenericArc, GenericArcFactory, SyncRcPtrFactory as _};

use super::read_ahead::{ReadAhead, WINDOW_BYTES};
use super::write_queue::{MAX_HELD_BYTES, WriteQueue};
use crate::block::{BlockDevice, BlockError, Geometry};

/// CocoonFs counts in units of 128 bytes.
const UNIT_LOG2: u32 = 7;

/// Size of transfers CocoonFs is asked to prefer, in bytes (log2): 256 KiB.
const PREFERRED_BYTES_LOG2: u32 = 18;

/// A [`BlockDevice`] as CocoonFs sees it.
pub struct FsDevice {
    device: Arc<dyn BlockDevice>,
    geometry: Geometry,
    io_block_bytes_log2: u32,
    state: spin::Mutex<State>,
    control: Option<DeviceControl>,
}

#[derive(Default)]
struct State {
    queue: WriteQueue,
    last_error: Option<BlockError>,
}

/// A hold on a [`FsDevice`] that CocoonFs owns.
#[derive(Clone)]
pub struct DeviceControl(GenericArc<Control>);

#[derive(Default)]
struct Control {
    held_back: AtomicBool,
    /// `None` when the image is open. Locked after [`FsDevice::state`].
    read_ahead: spin::Mutex<Option<ReadAhead>>,
    watched: spin::Mutex<Option<Watched>>,
}

/// Bytes as CocoonFs has last read or written them.
struct Watched {
    begin: u64,
    bytes: Vec<u8>,
    /// All of them were seen.
    complete: bool,
}

impl Watched {
    /// Takes over what `data` at `begin` has of them.
    fn saw(&mut self, begin: u64, data: &[u8]) {
        let end = begin + data.len() as u64;
        let own_end = self.begin + self.bytes.len() as u64;
        let (from, to) = (begin.max(self.begin), end.min(own_end));
        if from >= to {
            return;
        }
        let len = (to - from) as usize;
        let (at, source) = ((from - self.begin) as usize, (from - begin) as usize);
        self.bytes[at..at + len].copy_from_slice(&data[source..source + len]);
        self.complete |= len == self.bytes.len();
    }
}

impl DeviceControl {
    /// From now on all I/O stays pending.
    pub fn hold_back(&self) {
        self.0.held_back.store(true, Ordering::Relaxed);
    }

    /// Whether I/O stays pending.
    pub fn is_held_back(&self) -> bool {
        self.0.held_back.load(Ordering::Relaxed)
    }

    /// From now on I/O is done again; returns whether it was held back.
    pub fn go_on(&self) -> bool {
        self.0.held_back.swap(false, Ordering::Relaxed)
    }

    /// From now on remembers what CocoonFs reads or writes in the `len` bytes from
    /// `begin` on.
    ///
    /// # Errors
    ///
    /// [`BlockError::NoMemory`].
    pub fn watch(&self, begin: u64, len: usize) -> Result<(), BlockError> {
        *self.0.watched.lock() = Some(Watched {
            begin,
            bytes: zeroed(len)?,
            complete: false,
        });
        Ok(())
    }

    /// What CocoonFs has last read or written in the bytes that were watched, which are
    /// not any more; `None` where it has not.
    pub fn take_watched(&self) -> Option<Vec<u8>> {
        let watched = self.0.watched.lock().take()?;
        watched.complete.then_some(watched.bytes)
    }

    fn saw(&self, begin: u64, data: &[u8]) {
        if let Some(watched) = self.0.watched.lock().as_mut() {
            watched.saw(begin, data);
        }
    }

    /// From now on every read goes to the device.
    pub fn end_read_ahead(&self) {
        *self.0.read_ahead.lock() = None;
    }
}

impl FsDevice {
    /// The device with its own logical blocks as I/O blocks.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        let io_block_bytes_log2 = device.geometry().block_size.ilog2();
        Self::with_io_blocks(device, io_block_bytes_log2)
    }

    /// The same for an image that is to be opened: it reads ahead until that is ended.
    ///
    /// # Errors
    ///
    /// [`BlockError::NoMemory`].
    pub fn for_opening(device: Arc<dyn BlockDevice>) -> Result<(Self, DeviceControl), BlockError> {
        let control = Control {
            held_back: AtomicBool::new(false),
            read_ahead: spin::Mutex::new(Some(ReadAhead::default())),
            watched: spin::Mutex::default(),
        };
        let control = GenericArcFactory::try_new(control).map_err(|_| BlockError::NoMemory)?;
        let control = DeviceControl(control);
        let mut opened = Self::new(device);
        opened.control = Some(control.clone());
        Ok((opened, control))
    }

    /// The device as if its blocks were as small as CocoonFs knows them, 128 bytes.
    /// Good for a look at headers of images that the device cannot serve; writes fail.
    pub fn for_inspection(device: Arc<dyn BlockDevice>) -> Self {
        Self::with_io_blocks(device, UNIT_LOG2)
    }

    fn with_io_blocks(device: Arc<dyn BlockDevice>, io_block_bytes_log2: u32) -> Self {
        Self {
            geometry: device.geometry(),
            device,
            io_block_bytes_log2,
            state: spin::Mutex::default(),
            control: None,
        }
    }

    /// What the device last failed with, since the last call.
    pub fn take_last_error(&self) -> Option<BlockError> {
        self.state.lock().last_error.take()
    }

    /// Fills `buffer` from byte `begin` on, queued writes included. `begin` and length
    /// need not be multiples of anything.
    ///
    /// # Errors
    ///
    /// Those of the device.
    pub fn read_bytes(&self, begin: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut state = self.state.lock();
        let result = self.read_locked(&state.queue, begin, buffer);
        if let (Ok(()), Some(control)) = (&result, &self.control) {
            control.saw(begin, buffer);
        }
        state.note(result)
    }

    fn read_locked(
        &self,
        queue: &WriteQueue,
        begin: u64,
        buffer: &mut [u8],
    ) -> Result<(), BlockError> {
        let end = begin
            .checked_add(buffer.len() as u64)
            .filter(|end| *end <= self.geometry.bytes())
            .ok_or(BlockError::OutOfRange)?;
        if queue.covers(begin, end) {
            queue.overlay(begin, buffer);
            return Ok(());
        }
        if self.read_from_ahead(queue, begin, buffer) {
            return Ok(());
        }
        let block_size = self.geometry.block_size as u64;
        let (first, skip) = (begin / block_size, (begin % block_size) as usize);
        if skip == 0 && end.is_multiple_of(block_size) {
            self.device.read(first, buffer)?;
        } else {
            let blocks = end.div_ceil(block_size) - first;
            let len = usize::try_from(blocks * block_size).map_err(|_| BlockError::NoMemory)?;
            let mut whole = zeroed(len)?;
            self.device.read(first, &mut whole)?;
            buffer.copy_from_slice(&whole[skip..skip + buffer.len()]);
        }
        queue.overlay(begin, buffer);
        Ok(())
    }

    /// Fills `buffer` from what is read ahead; false where that cannot be done. After a
    /// failure nothing is read ahead any more: a block that cannot be read is to cost
    /// only what needs it.
    fn read_from_ahead(&self, queue: &WriteQueue, begin: u64, buffer: &mut [u8]) -> bool {
        if buffer.len() as u64 > WINDOW_BYTES {
            return false;
        }
        let Some(control) = &self.control else {
            return false;
        };
        let mut held = control.0.read_ahead.lock();
        let Some(read_ahead) = held.as_mut() else {
            return false;
        };
        let block_size = self.geometry.block_size as u64;
        let bytes = self.geometry.bytes();
        let result = read_ahead.read(begin, buffer, bytes, |at, data| {
            self.device.read(at / block_size, data)?;
            queue.overlay(at, data);
            Ok(())
        });
        if result.is_err() {
            *held = None;
        }
        result.is_ok()
    }

    /// Whether I/O is to stay pending.
    fn is_held_back(&self) -> bool {
        self.control
            .as_ref()
            .is_some_and(DeviceControl::is_held_back)
    }

    /// Reads what `request` asks for into its chunks.
    fn read_request(&self, request: &mut impl NvBlkDevReadRequest) -> Result<(), NvBlkDevIoError> {
        let region = request.region().clone();
        let Some((begin, len)) = self.span(&region)? else {
            return Ok(());
        };
        let mut data = zeroed(len).map_err(to_fs_error)?;
        self.read_bytes(begin, &mut data).map_err(to_fs_error)?;
        for (chunk, offset, len) in self.chunks(&region, begin)? {
            if let Some(buffer) = request.get_destination_buffer(&chunk)? {
                buffer.copy_from_slice(
                    data.get(offset..offset + len)
                        .ok_or(NvBlkDevIoError::Internal)?,
                );
            }
        }
        Ok(())
    }

    /// Queues what `request` wants written.
    fn write_request(&self, request: &impl NvBlkDevWriteRequest) -> Result<(), NvBlkDevIoError> {
        let region = request.region().clone();
        let Some((begin, len)) = self.span(&region)? else {
            return Ok(());
        };
        let block_size = self.geometry.block_size as u64;
        let mut data = zeroed(len).map_err(to_fs_error)?;
        for (chunk, offset, len) in self.chunks(&region, begin)? {
            data.get_mut(offset..offset + len)
                .ok_or(NvBlkDevIoError::Internal)?
                .copy_from_slice(request.get_source_buffer(&chunk)?);
        }
        let mut state = self.state.lock();
        let result = if !begin.is_multiple_of(block_size)
            || !(len as u64).is_multiple_of(block_size)
            || begin > self.geometry.bytes()
            || len as u64 > self.geometry.bytes() - begin
        {
            Err(BlockError::OutOfRange)
        } else {
            let queue = &mut state.queue;
            if queue.held_bytes() != 0 && queue.held_bytes() + len > MAX_HELD_BYTES {
                queue.drain_to(&*self.device)
            } else {
                Ok(())
            }
            .and_then(|()| queue.put(begin, &data))
        };
        if let Some(control) = &self.control {
            if result.is_ok() {
                control.saw(begin, &data);
            }
            let mut held = control.0.read_ahead.lock();
            match held.as_mut() {
                Some(read_ahead) if result.is_ok() => read_ahead.update(begin, &data),
                // What is held no longer tells what is on the device.
                _ => *held = None,
            }
        }
        state.note(result).map_err(to_fs_error)
    }

    /// Makes every write so far durable.
    fn settle(&self) -> Result<(), NvBlkDevIoError> {
        let mut state = self.state.lock();
        let result = state.queue.drain_to(&*self.device);
        state.note(result).map_err(to_fs_error)
    }

    /// First byte and length of a region; `None` where it is empty.
    fn span(&self, region: &ChunkedIoRegion) -> Result<Option<(u64, usize)>, NvBlkDevIoError> {
        let chunk_bytes_log2 = region.chunk_size_128b_log2() + UNIT_LOG2;
        let len = region
            .chunks_count()
            .checked_mul(1 << chunk_bytes_log2)
            .ok_or(NvBlkDevIoError::IoBlockOutOfRange)?;
        let first = region
            .aligned_blocks_iter(self.io_block_bytes_log2 - UNIT_LOG2)
            .map_err(|_| NvBlkDevIoError::Internal)?
            .next();
        let Some((first, _)) = first else {
            return Ok(None);
        };
        if first > u64::MAX >> self.io_block_bytes_log2 {
            return Err(NvBlkDevIoError::IoBlockOutOfRange);
        }
        Ok(Some((first << self.io_block_bytes_log2, len)))
    }

    /// The chunks of a region that begins at byte `begin`, each with its offset in the
    /// region and its length in bytes.
    fn chunks<'a>(
        &self,
        region: &'a ChunkedIoRegion,
        begin: u64,
    ) -> Result<
        impl Iterator<
            Item = (
                cocoon_tpm_storage::blkdev::ChunkedIoRegionChunkRange,
                usize,
                usize,
            ),
        > + use<'a>,
        NvBlkDevIoError,
    > {
        let block_log2 = self.io_block_bytes_log2;
        let blocks = region
            .aligned_blocks_iter(block_log2 - UNIT_LOG2)
            .map_err(|_| NvBlkDevIoError::Internal)?;
        Ok(blocks.flat_map(move |(block, chunks)| {
            chunks.map(move |(offset_128b, chunk)| {
                let offset = (block << block_log2) + (offset_128b << UNIT_LOG2) - begin;
                let len = chunk.range_in_chunk().len();
                (chunk, offset as usize, len)
            })
        }))
    }
}

impl State {
    fn note<T>(&mut self, result: Result<T, BlockError>) -> Result<T, BlockError> {
        if let Err(error) = &result {
            self.last_error = Some(*error);
        }
        result
    }
}

fn zeroed(len: usize) -> Result<Vec<u8>, BlockError> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(len)
        .map_err(|_| BlockError::NoMemory)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

fn to_fs_error(error: BlockError) -> NvBlkDevIoError {
    match error {
        BlockError::OutOfRange => NvBlkDevIoError::IoBlockOutOfRange,
        BlockError::NoMemory => NvBlkDevIoError::MemoryAllocationFailure,
        BlockError::Unsupported
        | BlockError::ReadOnly
        | BlockError::Io
        | BlockError::TimedOut
        | BlockError::Protocol => NvBlkDevIoError::IoFailure,
    }
}

impl NvBlkDev for FsDevice {
    type ResizeFuture = Never;
    type ReadFuture<R: NvBlkDevReadRequest> = Read<R>;
    type WriteFuture<R: NvBlkDevWriteRequest> = Write<R>;
    type FlushQueuedWritesFuture = Nothing;
    type WriteBarrierFuture = Settle;
    type WriteSyncFuture = Settle;
    type TrimFuture = Never;

    fn io_block_size_128b_log2(&self) -> u32 {
        self.io_block_bytes_log2 - UNIT_LOG2
    }

    fn io_blocks(&self) -> u64 {
        self.geometry.bytes() >> self.io_block_bytes_log2
    }

    fn preferred_io_blocks_bulk_log2(&self) -> u32 {
        PREFERRED_BYTES_LOG2.saturating_sub(self.io_block_bytes_log2)
    }

    /// Not supported: a device has the size it has.
    fn resize(&self, _io_blocks: u64) -> Result<Never, NvBlkDevIoError> {
        Err(NvBlkDevIoError::OperationNotSupported)
    }

    fn read<R: NvBlkDevReadRequest>(
        &self,
        request: R,
    ) -> Result<Result<Read<R>, (R, NvBlkDevIoError)>, NvBlkDevIoError> {
        Ok(Ok(Read(Some(request))))
    }

    fn write<R: NvBlkDevWriteRequest>(
        &self,
        request: R,
    ) -> Result<Result<Write<R>, (R, NvBlkDevIoError)>, NvBlkDevIoError> {
        Ok(Ok(Write(Some(request))))
    }

    /// Nothing to do: every write is accepted when it is first polled.
    fn flush_queued_writes(&self) -> Result<Nothing, NvBlkDevIoError> {
        Ok(Nothing)
    }

    fn write_barrier(&self) -> Result<Settle, NvBlkDevIoError> {
        Ok(Settle)
    }

    fn write_sync(&self) -> Result<Settle, NvBlkDevIoError> {
        Ok(Settle)
    }

    /// Not supported: what is free is told to nobody.
    fn trim(&self, _io_block_index: u64, _io_blocks: u64) -> Result<Never, NvBlkDevIoError> {
        Err(NvBlkDevIoError::OperationNotSupported)
    }
}

/// A request that was carried out, and what came of it; an error only where it is lost.
type Answered<R> = Result<(R, Result<(), NvBlkDevIoError>), NvBlkDevIoError>;

/// Gives `request` back with what came of it, unless the device is held back.
fn carry_out<R>(
    device: &FsDevice,
    request: &mut Option<R>,
    work: impl FnOnce(&mut R) -> Result<(), NvBlkDevIoError>,
) -> Poll<Answered<R>> {
    if device.is_held_back() {
        return Poll::Pending;
    }
    Poll::Ready(match request.take() {
        Some(mut request) => {
            let result = work(&mut request);
            Ok((request, result))
        }
        None => Err(NvBlkDevIoError::Internal),
    })
}

/// A read. Ready at the first poll unless the device is held back.
pub struct Read<R>(Option<R>);

impl<R: NvBlkDevReadRequest> NvBlkDevFuture<FsDevice> for Read<R> {
    type Output = Answered<R>;

    fn poll(
        mut self: Pin<&mut Self>,
        device: &FsDevice,
        _: &mut Context<'_>,
    ) -> Poll<Self::Output> {
        carry_out(device, &mut self.0, |request| device.read_request(request))
    }
}

/// A write. Ready at the first poll unless the device is held back.
pub struct Write<R>(Option<R>);

impl<R: NvBlkDevWriteRequest> NvBlkDevFuture<FsDevice> for Write<R> {
    type Output = Answered<R>;

    fn poll(
        mut self: Pin<&mut Self>,
        device: &FsDevice,
        _: &mut Context<'_>,
    ) -> Poll<Self::Output> {
        carry_out(device, &mut self.0, |request| device.write_request(request))
    }
}

/// A barrier or sync. Ready at the first poll unless the device is held back.
pub struct Settle;

impl NvBlkDevFuture<FsDevice> for Settle {
    type Output = Result<(), NvBlkDevIoError>;

    fn poll(self: Pin<&mut Self>, device: &FsDevice, _: &mut Context<'_>) -> Poll<Self::Output> {
        if device.is_held_back() {
            return Poll::Pending;
        }
        Poll::Ready(device.settle())
    }
}

/// Something that is already done.
pub struct Nothing;

impl NvBlkDevFuture<FsDevice> for Nothing {
    type Output = Result<(), NvBlkDevIoError>;

    fn poll(self: Pin<&mut Self>, _: &FsDevice, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// An operation this device does not have.
pub enum Never {}

impl NvBlkDevFuture<FsDevice> for Never {
    type Output = Result<(), NvBlkDevIoError>;

    fn poll(self: Pin<&mut Self>, _: &FsDevice, _: &mut Context<'_>) -> Poll<Self::Output> {
        match *self {}
    }
}
