//! Finding the virtio-mmio block devices, in the order of their addresses.
//!
//! The launch script attaches the n-th device to the n-th slot, so that this order
//! is the order in which the devices were given.

use super::block::VirtioBlock;
use super::hal::open_transport;
use crate::block::BlockDevice;
use crate::mm::mmio::MmioWindow;
use crate::time::Clock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bootinfo::PhysRange;
use virtio_drivers::transport::{DeviceType, Transport};

/// Register 0 of every slot, "virt" (virtio 1.2, 4.2.2).
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const DEVICE_ID_OFFSET: u64 = 8;

/// Opens every block device in `slots`: a window and the size of each slot in it.
/// One line in the log for each.
pub fn block_devices(
    (window, slot_size): (PhysRange, u64),
    clock: &'static dyn Clock,
) -> Vec<Arc<dyn BlockDevice>> {
    let mut found: Vec<Arc<dyn BlockDevice>> = Vec::new();
    let window = match MmioWindow::map(window) {
        Ok(window) => window,
        Err(error) => {
            log::warn!("virtio-mmio slots cannot be reached: {error}");
            return found;
        }
    };
    for slot in 0..window.physical().size / slot_size {
        let Some(registers) = window.part(slot * slot_size, slot_size) else {
            break;
        };
        if let Some(device) = open(registers, found.len(), clock) {
            found.push(device);
        }
    }
    if found.is_empty() {
        log::info!("no block device found");
    }
    found
}

fn open(
    registers: MmioWindow,
    index: usize,
    clock: &'static dyn Clock,
) -> Option<Arc<dyn BlockDevice>> {
    let empty = registers.read32(0) != Some(MAGIC) || registers.read32(DEVICE_ID_OFFSET) == Some(0);
    if empty {
        return None;
    }
    let address = registers.physical().start;
    let transport = match open_transport(registers) {
        Ok(transport) => transport,
        Err(error) => {
            log::warn!("virtio device at {address:#x} cannot be used: {error}");
            return None;
        }
    };
    if transport.device_type() != DeviceType::Block {
        log::info!(
            "virtio device at {address:#x} is not a block device: {:?}",
            transport.device_type()
        );
        return None;
    }
    match VirtioBlock::open(transport, clock) {
        Ok(device) => {
            let geometry = device.geometry();
            log::info!(
                "block device {index}: virtio-mmio at {address:#x}, {} bytes, {}-byte blocks{}{}",
                geometry.bytes(),
                geometry.block_size,
                if geometry.read_only {
                    ", read-only"
                } else {
                    ""
                },
                if geometry.needs_flush {
                    ""
                } else {
                    ", no flush"
                },
            );
            Some(Arc::new(device))
        }
        Err(error) => {
            log::warn!("block device at {address:#x} cannot be used: {error}");
            None
        }
    }
}
