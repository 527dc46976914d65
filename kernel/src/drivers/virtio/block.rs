//! The virtio block device (virtio 1.2, section 5.2).
//!
//! Requests go out together, up to a page of headers at a time, and are waited for
//! with a time-out that starts anew with every answer. A device that stays silent
//! or breaks the protocol is dead from then on; whatever it still does can only
//! touch host-shared memory.

use super::hal::{Chain, ProtocolViolation, RequestQueue};
use crate::block::{BlockDevice, BlockError, Counters, Geometry, Run};
use crate::mm::PAGE_SIZE;
use crate::mm::shared::{SharedBuffer, SharedRange};
use crate::time::{Clock, Deadline};
use core::time::Duration;
use spin::Mutex;
use virtio_drivers::transport::{DeviceStatus, Transport};

/// How long a device may take to answer anything.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes copied through host-shared memory at a time.
const WINDOW: usize = 256 << 10;

/// Size of a sector in bytes, whatever the logical block size (5.2.4).
const SECTOR: u64 = 512;

/// Logical block sizes that are believed, in bytes.
const BLOCK_SIZES: core::ops::RangeInclusive<u32> = 512..=65536;

/// Feature bits (5.2.3 and 6).
mod feature {
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// Offsets in the configuration space (5.2.4).
mod config {
    pub const CAPACITY_LOW: usize = 0;
    pub const CAPACITY_HIGH: usize = 4;
    pub const BLK_SIZE: usize = 20;
    pub const WRITEBACK: usize = 32;
}

/// Request types (5.2.6).
mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
}

/// Size of a request header: type, reserved, sector.
const HEADER_SIZE: usize = 16;

/// A slot holds a header and, at this offset, the status byte of one request.
const STATUS_OFFSET: usize = HEADER_SIZE;
const SLOT_SIZE: usize = 32;

/// Requests in flight: three descriptors each must fit the queue.
const SLOTS: usize = 16;

const _: () = assert!(SLOTS * SLOT_SIZE <= PAGE_SIZE && SLOTS * 3 <= super::hal::QUEUE_SIZE);

/// What a status byte is before the device writes it; no status has this value.
const STATUS_UNSET: u8 = 0xff;

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The device speaks only the interface before virtio 1.0.
    #[error("device is of the legacy kind (start it with virtio-mmio.force-legacy=false)")]
    Legacy,
    /// The device did not keep FEATURES_OK set.
    #[error("device refuses the features")]
    Features,
    /// The configuration space changed under every look.
    #[error("configuration does not stand still")]
    Unstable,
    /// There is less configuration than a block device has.
    #[error("configuration space is too small")]
    Configuration,
    /// A logical block size that makes no sense.
    #[error("logical block size of {0} bytes makes no sense")]
    BlockSize(u32),
    /// No queue of the needed size.
    #[error("device has no usable queue")]
    Queue,
    /// No host-shared memory is left.
    #[error("no host-shared memory for another device")]
    NoMemory,
}

/// A virtio block device.
pub struct VirtioBlock<T: Transport> {
    geometry: Geometry,
    clock: &'static dyn Clock,
    state: Mutex<State<T>>,
}

struct State<T: Transport> {
    queue: RequestQueue<T>,
    headers: SharedBuffer,
    /// Token of the request that a slot holds.
    slots: [Option<InFlight>; SLOTS],
    counters: Counters,
    dead: Option<BlockError>,
}

#[derive(Clone, Copy)]
struct InFlight {
    token: u16,
    /// Bytes that there are for the device to write, the status byte included. A
    /// request that succeeds writes all of them.
    writable: u32,
}

/// One request: what to do, from which sector on, with which data.
#[derive(Clone, Copy)]
struct Request {
    kind: u32,
    sector: u64,
    data: Option<SharedRange>,
}

impl<T: Transport> VirtioBlock<T> {
    /// Negotiates with the device behind `transport` and takes it into use.
    pub fn open(mut transport: T, clock: &'static dyn Clock) -> Result<Self, OpenError> {
        let features = negotiate(&mut transport)?;
        let geometry = read_geometry(&transport, features)?;
        let headers = SharedBuffer::allocate(PAGE_SIZE).map_err(|_| OpenError::NoMemory)?;
        let queue = RequestQueue::new(transport, 0).map_err(|error| match error {
            virtio_drivers::Error::DmaError => OpenError::NoMemory,
            _ => OpenError::Queue,
        })?;
        Ok(Self {
            geometry,
            clock,
            state: Mutex::new(State {
                queue,
                headers,
                slots: [None; SLOTS],
                counters: Counters::default(),
                dead: None,
            }),
        })
    }

    /// Checks a range of `length` bytes from `block` on and returns its first sector.
    fn first_sector(&self, block: u64, length: usize) -> Result<u64, BlockError> {
        let Geometry {
            block_size,
            block_count,
            ..
        } = self.geometry;
        let blocks = (length / block_size) as u64;
        let fits = length.is_multiple_of(block_size)
            && block
                .checked_add(blocks)
                .is_some_and(|end| end <= block_count);
        fits.then(|| block * (block_size as u64 / SECTOR))
            .ok_or(BlockError::OutOfRange)
    }
}

impl<T: Transport + Send> BlockDevice for VirtioBlock<T> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut sector = self.first_sector(block, buffer.len())?;
        let mut state = self.state.lock();
        for piece in buffer.chunks_mut(WINDOW) {
            let shared = SharedBuffer::allocate(piece.len()).map_err(|_| BlockError::NoMemory)?;
            let data = shared.range(0, piece.len());
            let kind = request::IN;
            state.run(self.clock, &[Request { kind, sector, data }])?;
            data.ok_or(BlockError::NoMemory)?.read(piece);
            sector += piece.len() as u64 / SECTOR;
        }
        Ok(())
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        self.write_runs(&[Run { block, data }])
    }

    fn write_runs(&self, runs: &[Run<'_>]) -> Result<(), BlockError> {
        if self.geometry.read_only {
            return Err(BlockError::ReadOnly);
        }
        for run in runs {
            self.first_sector(run.block, run.data.len())?;
        }
        let block_size = self.geometry.block_size as u64;
        let mut pieces = runs.iter().flat_map(|run| {
            let first = run.block * (block_size / SECTOR);
            let pieces = run.data.chunks(WINDOW).enumerate();
            // Within the range that was just checked: nothing overflows.
            pieces.map(move |(n, data)| (first + n as u64 * (WINDOW as u64 / SECTOR), data))
        });
        let mut state = self.state.lock();
        let mut next = pieces.next();
        while next.is_some() {
            let mut batch = Batch::new()?;
            while let Some((sector, data)) = next
                && batch.add(sector, data)
            {
                next = pieces.next();
            }
            state.run(self.clock, batch.requests())?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        if !self.geometry.needs_flush {
            return Ok(());
        }
        let flush = Request {
            kind: request::FLUSH,
            sector: 0,
            data: None,
        };
        self.state.lock().run(self.clock, &[flush])
    }

    fn counters(&self) -> Counters {
        self.state.lock().counters
    }
}

/// Writes that go out together, their data in one window of host-shared memory.
struct Batch {
    window: SharedBuffer,
    used: usize,
    requests: [Request; SLOTS],
    count: usize,
}

impl Batch {
    fn new() -> Result<Self, BlockError> {
        let empty = Request {
            kind: request::OUT,
            sector: 0,
            data: None,
        };
        Ok(Self {
            window: SharedBuffer::allocate(WINDOW).map_err(|_| BlockError::NoMemory)?,
            used: 0,
            requests: [empty; SLOTS],
            count: 0,
        })
    }

    /// Adds a write of at most a window; false when it no longer fits.
    fn add(&mut self, sector: u64, data: &[u8]) -> bool {
        let Some(slot) = self.requests.get_mut(self.count) else {
            return false;
        };
        let Some(range) = self.window.range(self.used, data.len()) else {
            return false;
        };
        range.write(data);
        slot.sector = sector;
        slot.data = Some(range);
        self.used += data.len();
        self.count += 1;
        true
    }

    fn requests(&self) -> &[Request] {
        &self.requests[..self.count]
    }
}

impl<T: Transport> State<T> {
    /// Sends `requests`, as many at a time as there are slots, and waits for all.
    fn run(&mut self, clock: &dyn Clock, requests: &[Request]) -> Result<(), BlockError> {
        if let Some(error) = self.dead {
            return Err(error);
        }
        let result = self.exchange(clock, requests);
        if let Err(error @ (BlockError::TimedOut | BlockError::Protocol)) = result {
            self.dead = Some(error);
            self.queue.abandon();
        }
        result
    }

    fn exchange(&mut self, clock: &dyn Clock, requests: &[Request]) -> Result<(), BlockError> {
        // Nothing is in flight: an answer that is there already has no question, and
        // must not pass for that to a request which gets its token.
        if !matches!(self.queue.completed(), Ok(None)) {
            return Err(BlockError::Protocol);
        }
        let mut waiting = requests.iter();
        let mut next = waiting.next();
        let mut result = Ok(());
        let mut deadline = Deadline::after(clock, REQUEST_TIMEOUT);
        loop {
            let mut sent = false;
            while let Some(request) = next
                && self.submit(request)?
            {
                sent = true;
                next = waiting.next();
            }
            if sent {
                self.queue.notify();
            }
            match self.queue.completed() {
                Ok(Some((token, written))) => {
                    result = result.and(self.finish(token, written)?);
                    deadline = Deadline::after(clock, REQUEST_TIMEOUT);
                }
                Ok(None) if deadline.passed() => return Err(BlockError::TimedOut),
                Ok(None) => core::hint::spin_loop(),
                Err(ProtocolViolation) => return Err(BlockError::Protocol),
            }
            if next.is_none() && self.slots.iter().all(Option::is_none) {
                return result;
            }
        }
    }

    /// Puts a request into a free slot and into the queue; false when either is full.
    fn submit(&mut self, request: &Request) -> Result<bool, BlockError> {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Ok(false);
        };
        let (header, status) = self.slot(slot)?;
        let mut bytes = [0; HEADER_SIZE];
        bytes[..4].copy_from_slice(&request.kind.to_le_bytes());
        bytes[8..].copy_from_slice(&request.sector.to_le_bytes());
        header.write(&bytes);
        status.write(&[STATUS_UNSET]);
        let (chain, data_size) = match (request.kind, request.data) {
            (request::IN, Some(data)) => (Chain::new(&[header], &[data, status]), data.size()),
            (_, Some(data)) => (Chain::new(&[header, data], &[status]), 0),
            (_, None) => (Chain::new(&[header], &[status]), 0),
        };
        let Some(token) = self.queue.submit(chain) else {
            return Ok(false);
        };
        self.count(request);
        self.slots[slot] = Some(InFlight {
            token,
            writable: data_size as u32 + 1,
        });
        Ok(true)
    }

    fn count(&mut self, request: &Request) {
        let counters = &mut self.counters;
        let bytes = request.data.map_or(0, |data| data.size() as u64);
        let (requests, total) = match request.kind {
            request::IN => (&mut counters.reads, &mut counters.bytes_read),
            request::OUT => (&mut counters.writes, &mut counters.bytes_written),
            _ => {
                counters.flushes += 1;
                return;
            }
        };
        *requests += 1;
        *total += bytes;
    }

    /// Takes the finished request `token` out of its slot. The outer error is the
    /// end of the device, the inner one that of the request.
    fn finish(&mut self, token: u16, written: u32) -> Result<Result<(), BlockError>, BlockError> {
        let of_token = |slot: &Option<InFlight>| slot.is_some_and(|held| held.token == token);
        let slot = self.slots.iter().position(of_token);
        let slot = slot.ok_or(BlockError::Protocol)?;
        let held = self.slots[slot].take().ok_or(BlockError::Protocol)?;
        let mut status = [STATUS_UNSET];
        self.slot(slot)?.1.read(&mut status);
        match status[0] {
            _ if written > held.writable => Err(BlockError::Protocol),
            0 if written == held.writable => Ok(Ok(())),
            1 => Ok(Err(BlockError::Io)),
            2 => Ok(Err(BlockError::Unsupported)),
            _ => Err(BlockError::Protocol),
        }
    }

    /// Header and status byte of a slot.
    fn slot(&self, slot: usize) -> Result<(SharedRange, SharedRange), BlockError> {
        let base = slot * SLOT_SIZE;
        self.headers
            .range(base, HEADER_SIZE)
            .zip(self.headers.range(base + STATUS_OFFSET, 1))
            .ok_or(BlockError::NoMemory)
    }
}

/// Resets the device and agrees on features (3.1.1).
fn negotiate<T: Transport>(transport: &mut T) -> Result<u64, OpenError> {
    let mut status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(DeviceStatus::empty());
    transport.set_status(status);
    let offered = transport.read_device_features();
    if offered & feature::VERSION_1 == 0 {
        return Err(OpenError::Legacy);
    }
    // With flushes the cache's mode does not matter. Without, only this tells it.
    let cache = match offered & feature::FLUSH {
        0 => feature::CONFIG_WCE,
        flush => flush,
    };
    let wanted =
        feature::RO | feature::BLK_SIZE | cache | feature::VERSION_1 | feature::ACCESS_PLATFORM;
    transport.write_driver_features(offered & wanted);
    status |= DeviceStatus::FEATURES_OK;
    transport.set_status(status);
    if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
        return Err(OpenError::Features);
    }
    Ok(offered & wanted)
}

/// Reads size and kind of the device from its configuration space.
fn read_geometry<T: Transport>(transport: &T, features: u64) -> Result<Geometry, OpenError> {
    let read = |offset| transport.read_config_space::<u32>(offset);
    let mut settled = None;
    // The device may count its generation up for ever; eight looks are enough for
    // one that means it.
    for _ in 0..8 {
        let before = transport.read_config_generation();
        let words = (
            read(config::CAPACITY_LOW),
            read(config::CAPACITY_HIGH),
            read(config::BLK_SIZE),
        );
        if before == transport.read_config_generation() {
            settled = Some(words);
            break;
        }
    }
    let (low, high, block_size) = settled.ok_or(OpenError::Unstable)?;
    let (Ok(low), Ok(high)) = (low, high) else {
        return Err(OpenError::Configuration);
    };
    let block_size = match block_size {
        _ if features & feature::BLK_SIZE == 0 => SECTOR as u32,
        Ok(size) => size,
        Err(_) => return Err(OpenError::Configuration),
    };
    if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
        return Err(OpenError::BlockSize(block_size));
    }
    let sectors = u64::from(high) << 32 | u64::from(low);
    Ok(Geometry {
        block_size: block_size as usize,
        block_count: sectors / (u64::from(block_size) / SECTOR),
        read_only: features & feature::RO != 0,
        needs_flush: features & feature::FLUSH != 0,
        write_through: announces_write_through(features, || {
            transport.read_config_space(config::WRITEBACK).ok()
        }),
    })
}

/// Whether a write is durable when it completes, by what was negotiated and by the
/// field `writeback` of the configuration space.
///
/// A driver may guess so when a device offers neither FLUSH nor CONFIG_WCE (5.2.5.1),
/// but such a device promises nothing (5.2.6.2): only CONFIG_WCE with a field of 0 does.
fn announces_write_through(features: u64, writeback: impl FnOnce() -> Option<u8>) -> bool {
    features & feature::CONFIG_WCE != 0 && writeback() == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_through_is_believed_only_where_it_is_announced() {
        let announces = |features, field| announces_write_through(features, || field);
        assert!(announces(feature::CONFIG_WCE, Some(0)));
        assert!(!announces(feature::CONFIG_WCE, Some(1)));
        assert!(!announces(feature::CONFIG_WCE, None));
        assert!(!announces(0, Some(0)));
        assert!(!announces(feature::FLUSH, Some(0)));
    }
}
