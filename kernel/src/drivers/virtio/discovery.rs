//! Finding the virtio-mmio block devices, in the order of their addresses.
//!
//! The slots are those that the host lists in fw_cfg, or else those of the platform. The
//! launch script attaches the n-th device to the n-th slot, so that their order is the
//! order in which the devices were given.

use super::block::VirtioBlock;
use super::hal::open_transport;
use super::hardware_info;
use crate::block::BlockDevice;
use crate::drivers::fw_cfg::FwCfg;
use crate::mm::mmio::MmioWindow;
use crate::platform::Platform;
use crate::time::Clock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bootinfo::PhysRange;
use virtio_drivers::transport::{DeviceType, Transport};

/// Register 0 of every slot, "virt" (virtio 1.2, 4.2.2).
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const DEVICE_ID_OFFSET: u64 = 8;

/// The slots to look at.
pub fn slots(platform: &dyn Platform) -> Vec<PhysRange> {
    let listed = FwCfg::open(platform.ports())
        .map(|device| device.read_file(hardware_info::FILE, hardware_info::FILE_LIMIT));
    let listed = match listed {
        Some(Ok(Some(file))) => hardware_info::slots(&file),
        Some(Err(error)) => {
            log::warn!("list of virtio-mmio slots is ignored: {error}");
            Vec::new()
        }
        Some(Ok(None)) | None => Vec::new(),
    };
    if listed.is_empty() {
        platform.virtio_slots()
    } else {
        listed
    }
}

/// Opens every block device among `slots`. One line in the log for each.
pub fn block_devices(slots: &[PhysRange], clock: &'static dyn Clock) -> Vec<Arc<dyn BlockDevice>> {
    let mut found: Vec<Arc<dyn BlockDevice>> = Vec::new();
    for slot in slots {
        match MmioWindow::map(*slot) {
            Ok(registers) => found.extend(open(registers, found.len(), clock)),
            Err(error) => {
                log::warn!(
                    "virtio-mmio slot at {:#x} cannot be reached: {error}",
                    slot.start
                );
            }
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
