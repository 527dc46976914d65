//! What several fuzz targets share: small volumes whose every byte is the same in every
//! run, and a heap that ends, as the kernel's does.

pub mod tpm;

use std::alloc::System;
use std::sync::Arc;

use cap::Cap;
use svsm::block::BlockDevice;
use svsm::block::memory::MemoryDevice;
use svsm::entropy::{Entropy, EntropyError};
use svsm::persistence::{CocoonVolume, FormatPolicy, Transaction, VolumeKey, open_first};

/// Size of an image in bytes.
pub const SIZE: usize = 256 << 10;

/// An image that is to be formatted, without what comes behind the header.
pub const HEADER: &[u8] = include_bytes!("../seeds/creation-header.img");

/// Most bytes on the heap. A creation header may ask for blocks of any size; what
/// cannot be had is to be an error.
const HEAP_BYTES: usize = 256 << 20;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, HEAP_BYTES);

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for (n, byte) in buffer.iter_mut().enumerate() {
            *byte = (n as u8).wrapping_mul(31) ^ 0x5c;
        }
        Ok(())
    }
}

/// Opens the image on `device`, or formats it where it has only a header.
pub fn open(device: &MemoryDevice) -> Option<CocoonVolume> {
    let key = VolumeKey::new(&[0x42; 32]).expect("32 bytes are a key");
    let devices: [Arc<dyn BlockDevice>; 1] = [Arc::new(device.clone())];
    open_first(&devices, &key, &Fixed, FormatPolicy::Allow)
}

/// A formatted image on which `transaction` was done.
pub fn image_with(transaction: Transaction) -> Vec<u8> {
    use svsm::persistence::Volume as _;

    let mut image = HEADER.to_vec();
    image.resize(SIZE, 0);
    let device = MemoryDevice::from_bytes(image, 512);
    let volume = open(&device).expect("the creation header is formatted");
    volume.transaction(transaction).expect("there is space");
    drop(volume);
    device.snapshot()
}
