//! A virtio block device that is a test: it sees the pool of host-shared memory at
//! device addresses, as a real one does, and does with its queue what it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use svsm::mm::shared::at_device_address;
use svsm::time::Clock;
use virtio_drivers::PhysAddr;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Feature bits of a block device (virtio 1.2, 5.2.3 and 6).
pub const BLK_SIZE: u64 = 1 << 6;
pub const FLUSH: u64 = 1 << 9;
pub const VERSION_1: u64 = 1 << 32;

/// A descriptor (2.7.5).
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub device_writes: bool,
}

/// One request as the device finds it in the queue.
#[derive(Clone, Debug)]
pub struct Chain {
    pub id: u16,
    pub descriptors: Vec<Descriptor>,
}

/// What a device does when it is notified.
pub type Behaviour = Box<dyn FnMut(&mut Device) + Send>;

/// The device's side.
pub struct Device {
    pub features: u64,
    /// Size that is announced for the queue.
    pub queue_size: u32,
    pub config: Vec<u8>,
    /// The configuration changes at every look.
    pub restless: bool,
    /// Refuses to keep FEATURES_OK.
    pub refuses_features: bool,
    pub disk: Vec<u8>,
    pub status: DeviceStatus,
    pub notifications: u64,
    size: u32,
    descriptors: u64,
    driver_area: u64,
    device_area: u64,
    next_available: u16,
    next_used: u16,
}

impl Device {
    /// A well-behaved device with a disk of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let mut config = vec![0; 36];
        config[..8].copy_from_slice(&(bytes as u64 / 512).to_le_bytes());
        config[20..24].copy_from_slice(&512u32.to_le_bytes());
        Self {
            features: BLK_SIZE | FLUSH | VERSION_1,
            queue_size: 256,
            config,
            restless: false,
            refuses_features: false,
            disk: vec![0; bytes],
            status: DeviceStatus::empty(),
            notifications: 0,
            size: 0,
            descriptors: 0,
            driver_area: 0,
            device_area: 0,
            next_available: 0,
            next_used: 0,
        }
    }

    pub fn set_block_size(&mut self, bytes: u32) {
        self.config[20..24].copy_from_slice(&bytes.to_le_bytes());
    }

    pub fn set_capacity(&mut self, sectors: u64) {
        self.config[..8].copy_from_slice(&sectors.to_le_bytes());
    }

    /// The next request in the queue.
    pub fn take(&mut self) -> Option<Chain> {
        let ready = self.is_ready();
        if !ready || self.next_available == u16::from_le_bytes(read(self.driver_area + 2)) {
            return None;
        }
        let slot = u64::from(self.next_available) % u64::from(self.size);
        let id = u16::from_le_bytes(read(self.driver_area + 4 + 2 * slot));
        self.next_available = self.next_available.wrapping_add(1);
        let mut descriptors = Vec::new();
        let mut index = id;
        loop {
            assert!(u32::from(index) < self.size && descriptors.len() < 64);
            let raw: [u8; 16] = read(self.descriptors + 16 * u64::from(index));
            let flags = u16::from_le_bytes([raw[12], raw[13]]);
            descriptors.push(Descriptor {
                address: u64::from_le_bytes(raw[..8].try_into().unwrap()),
                length: u32::from_le_bytes(raw[8..12].try_into().unwrap()),
                device_writes: flags & 2 != 0,
            });
            assert_eq!(flags & !3, 0, "only NEXT and WRITE are negotiated");
            if flags & 1 == 0 {
                return Some(Chain { id, descriptors });
            }
            index = u16::from_le_bytes([raw[14], raw[15]]);
        }
    }

    /// Puts an entry into the used ring.
    pub fn complete(&mut self, id: u32, length: u32) {
        let slot = u64::from(self.next_used) % u64::from(self.size);
        write(self.device_area + 4 + 8 * slot, &id.to_le_bytes());
        write(self.device_area + 8 + 8 * slot, &length.to_le_bytes());
        self.move_used(1);
    }

    /// Moves the index of the used ring on, whatever its entries hold.
    pub fn move_used(&mut self, by: u16) {
        self.next_used = self.next_used.wrapping_add(by);
        write(self.device_area + 2, &self.next_used.to_le_bytes());
    }

    /// Fills the used ring's entries with `bytes`, over and over.
    pub fn scribble_used(&mut self, bytes: impl FnMut() -> u8) {
        let mut ring = vec![0; 8 * self.size as usize];
        ring.fill_with(bytes);
        write(self.device_area + 4, &ring);
    }

    /// Asks the driver not to notify (2.7.10).
    pub fn suppress_notifications(&mut self) {
        write(self.device_area, &1u16.to_le_bytes());
    }

    /// Does what `chain` asks for and returns the bytes written, without completing
    /// it.
    pub fn serve(&mut self, chain: &Chain) -> u32 {
        let header: [u8; 16] = read(chain.descriptors[0].address);
        assert!(!chain.descriptors[0].device_writes && chain.descriptors[0].length == 16);
        let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
        let sector = u64::from_le_bytes(header[8..].try_into().unwrap());
        let (status, data) = chain.descriptors[1..].split_last().expect("a status");
        assert!(status.device_writes && status.length == 1);
        let mut written = 1;
        for descriptor in data {
            let begin = sector as usize * 512;
            let end = begin + descriptor.length as usize;
            let range = at_device_address(descriptor.address, descriptor.length as usize)
                .expect("data lies in the pool");
            assert_eq!(descriptor.device_writes, kind == 0);
            match kind {
                0 => {
                    range.write(&self.disk[begin..end]);
                    written += descriptor.length;
                }
                1 => range.read(&mut self.disk[begin..end]),
                other => panic!("request {other} has no data"),
            }
        }
        assert!(data.len() == usize::from(kind != 4));
        set_status(chain, 0);
        written
    }

    /// Serves and completes everything in the queue.
    pub fn serve_all(&mut self) {
        while let Some(chain) = self.take() {
            let written = self.serve(&chain);
            self.complete(chain.id.into(), written);
        }
    }

    fn is_ready(&self) -> bool {
        self.status.contains(DeviceStatus::DRIVER_OK) && self.size != 0
    }
}

/// Writes the status byte of a request.
pub fn set_status(chain: &Chain, status: u8) {
    write(chain.descriptors.last().unwrap().address, &[status]);
}

fn read<const N: usize>(address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    at_device_address(address, N)
        .expect("rings and headers lie in the pool")
        .read(&mut bytes);
    bytes
}

fn write(address: u64, bytes: &[u8]) {
    at_device_address(address, bytes.len())
        .expect("rings and statuses lie in the pool")
        .write(bytes);
}

/// The registers, and what happens when the driver uses them.
pub struct Fake {
    device: Arc<Mutex<Device>>,
    behaviour: Behaviour,
}

impl Fake {
    /// `device` behind its registers, and a handle on it.
    pub fn new(device: Device, behaviour: Behaviour) -> (Self, Arc<Mutex<Device>>) {
        let device = Arc::new(Mutex::new(device));
        let fake = Self {
            device: device.clone(),
            behaviour,
        };
        (fake, device)
    }

    fn device(&self) -> std::sync::MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }
}

impl Transport for Fake {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        self.device().features
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        let mut device = self.device();
        assert_eq!(driver_features & !device.features, 0, "not offered");
        device.features = driver_features;
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        self.device().queue_size
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, 0);
        let mut device = self.device.lock().unwrap();
        device.notifications += 1;
        (self.behaviour)(&mut device);
    }

    fn get_status(&self) -> DeviceStatus {
        let device = self.device();
        if device.refuses_features {
            device.status - DeviceStatus::FEATURES_OK
        } else {
            device.status
        }
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.device().status = status;
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        _queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        let mut device = self.device();
        device.size = size;
        device.descriptors = descriptors;
        device.driver_area = driver_area;
        device.device_area = device_area;
    }

    fn queue_unset(&mut self, _queue: u16) {
        self.device().size = 0;
    }

    fn queue_used(&mut self, _queue: u16) -> bool {
        self.device().size != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        let mut device = self.device();
        if device.restless {
            // A size that is different, too, whenever somebody looks.
            let sectors = u64::from_le_bytes(device.config[..8].try_into().unwrap());
            device.set_capacity(sectors.wrapping_mul(3).wrapping_add(1));
            (sectors >> 7) as u32
        } else {
            0
        }
    }

    fn read_config_space<T: FromBytes + IntoBytes>(
        &self,
        offset: usize,
    ) -> virtio_drivers::Result<T> {
        let device = self.device();
        let bytes = device.config.get(offset..).unwrap_or_default();
        T::read_from_prefix(bytes)
            .map(|(value, _)| value)
            .map_err(|_| virtio_drivers::Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> virtio_drivers::Result<()> {
        Err(virtio_drivers::Error::ConfigSpaceMissing)
    }
}

/// A clock that moves on by a millisecond at every look.
pub struct FakeClock(AtomicU64);

impl FakeClock {
    /// Looks at the clock so far.
    pub fn looks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The clock of all drivers here.
pub static CLOCK: FakeClock = FakeClock(AtomicU64::new(0));
