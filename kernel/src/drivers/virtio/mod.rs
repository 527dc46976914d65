//! Virtio devices over MMIO (virtio 1.2, section 4.2).
//!
//! Registers and queue layout come from the `virtio-drivers` crate; [`hal`] ties it
//! to host-shared memory and gives out a safe queue, [`block`] is the one driver.

pub mod block;
pub mod discovery;
pub mod hal;
pub mod hardware_info;
