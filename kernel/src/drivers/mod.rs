//! Devices.

pub mod fw_cfg;
pub mod stream;
pub mod uart;
pub mod virtio;
