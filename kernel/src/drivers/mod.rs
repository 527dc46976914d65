//! Devices.
pub mod stream;
