//! What `virtio-drivers` needs of a kernel, and a queue that is safe to use.
//!
//! All memory a device sees is in the pool of host-shared memory: the rings, and
//! every buffer, since [`RequestQueue`] takes [`SharedRange`]s and nothing else. The
//! device is hostile: an id in the used ring is only ever looked up among the
//! requests in flight, and the crate keeps its own copy of the descriptors.

#![allow(unsafe_code)]

use crate::mm::PAGE_SIZE;
use crate::mm::mmio::MmioWindow;
use crate::mm::shared::{SharedBuffer, SharedRange, device_address};
use core::ptr::NonNull;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport};
use virtio_drivers::transport::{DeviceStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Descriptors of a queue.
pub const QUEUE_SIZE: usize = 64;

/// Most buffers of one request.
pub const MAX_CHAIN: usize = 4;

/// The device broke the protocol: it is not to be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolViolation;

/// The kernel as `virtio-drivers` sees it.
#[derive(Debug)]
pub struct SvsmHal;

// SAFETY: `dma_alloc` hands out whole, zeroed, page-aligned runs of the shared pool
// that no one else uses until `dma_dealloc`; shared memory needs no further sharing.
unsafe impl Hal for SvsmHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // Address 0 means failure to the crate.
        let Ok(buffer) = SharedBuffer::allocate(pages * PAGE_SIZE) else {
            return (0, NonNull::dangling());
        };
        let range = buffer.leak();
        range.clear();
        let pointer = range.pointer();
        (device_address(pointer).unwrap_or(0), pointer)
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        drop(SharedBuffer::reclaim(vaddr, pages * PAGE_SIZE));
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        // Only the PCI transport asks, and there is none here.
        unreachable!("no PCI transport")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        // `RequestQueue` passes pool memory only. Should that ever be wrong, the
        // device gets an address where no RAM of ours is.
        device_address(buffer.cast()).unwrap_or(0)
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// Opens the virtio-mmio registers in `window`, or says why they are none.
pub fn open_transport(window: MmioWindow) -> Result<MmioTransport<'static>, MmioError> {
    // SAFETY: the window is mapped for ever, aligned to a slot, and as long as told.
    unsafe { MmioTransport::new(window.start().cast(), window.physical().size as usize) }
}

/// The buffers of one request, first those the device reads, then those it writes.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    ranges: [Option<SharedRange>; MAX_CHAIN],
    readable: usize,
}

impl Chain {
    /// A request that gives the device `readable` and lets it fill `writable`.
    /// Ranges past [`MAX_CHAIN`] are left out, and so are empty ones.
    pub fn new(readable: &[SharedRange], writable: &[SharedRange]) -> Self {
        let mut ranges = [None; MAX_CHAIN];
        let filled = |range: &&SharedRange| range.size() > 0;
        let all = readable.iter().chain(writable).filter(filled);
        for (place, range) in ranges.iter_mut().zip(all) {
            *place = Some(*range);
        }
        Self {
            ranges,
            readable: readable.iter().filter(filled).count(),
        }
    }

    /// Runs `action` with the buffers as the crate wants them.
    ///
    /// # Safety
    /// `action` must use the slices as addresses only: the host may change what is
    /// behind them at any time.
    unsafe fn with_slices<R>(
        &self,
        action: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
    ) -> R {
        let mut readable: [&[u8]; MAX_CHAIN] = [&[]; MAX_CHAIN];
        let mut writable: [&mut [u8]; MAX_CHAIN] = Default::default();
        let (mut reads, mut writes) = (0, 0);
        for (index, range) in self.ranges.iter().flatten().enumerate() {
            let pointer = range.pointer().as_ptr();
            // SAFETY: the range lies in the pool, which is mapped for ever; the
            // caller promises that nobody reads or writes through the slices.
            unsafe {
                if index < self.readable {
                    readable[reads] = core::slice::from_raw_parts(pointer, range.size());
                    reads += 1;
                } else {
                    writable[writes] = core::slice::from_raw_parts_mut(pointer, range.size());
                    writes += 1;
                }
            }
        }
        action(&readable[..reads], &mut writable[..writes])
    }
}

/// One queue of a device and the requests in flight on it.
pub struct RequestQueue<T: Transport> {
    transport: T,
    index: u16,
    queue: VirtQueue<SvsmHal, QUEUE_SIZE>,
    in_flight: [Option<Chain>; QUEUE_SIZE],
}

impl<T: Transport> RequestQueue<T> {
    /// Sets up queue `index` of a device whose features are negotiated.
    pub fn new(mut transport: T, index: u16) -> Result<Self, virtio_drivers::Error> {
        let queue = VirtQueue::new(&mut transport, index, false, false)?;
        transport.finish_init();
        Ok(Self {
            transport,
            index,
            queue,
            in_flight: [None; QUEUE_SIZE],
        })
    }

    /// Puts a request into the queue and returns its token; none when the queue is
    /// full. The device learns of it with [`notify`](Self::notify).
    pub fn submit(&mut self, chain: Chain) -> Option<u16> {
        // SAFETY: `add` only takes the addresses; the memory stays valid for ever.
        let token =
            unsafe { chain.with_slices(|readable, writable| self.queue.add(readable, writable)) }
                .ok()?;
        *self.in_flight.get_mut(usize::from(token))? = Some(chain);
        Some(token)
    }

    /// Tells the device that there are requests, unless it asked not to be told.
    pub fn notify(&mut self) {
        if self.queue.should_notify() {
            self.transport.notify(self.index);
        }
    }

    /// Resets the device, which is not to be used any more: one that means well leaves
    /// the memory of requests in flight alone from now on.
    pub fn abandon(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
    }

    /// Takes one finished request out of the queue: its token and the number of
    /// bytes that the device claims to have written.
    pub fn completed(&mut self) -> Result<Option<(u16, u32)>, ProtocolViolation> {
        let Some(token) = self.queue.peek_used() else {
            return Ok(None);
        };
        let chain = self
            .in_flight
            .get_mut(usize::from(token))
            .and_then(Option::take)
            .ok_or(ProtocolViolation)?;
        // SAFETY: the very buffers that were added under this token. The crate reads
        // the id a second time and refuses one that has changed.
        let written = unsafe {
            chain.with_slices(|readable, writable| self.queue.pop_used(token, readable, writable))
        }
        .map_err(|_| ProtocolViolation)?;
        Ok(Some((token, written)))
    }
}
