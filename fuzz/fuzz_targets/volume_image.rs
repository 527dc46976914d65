//! What is on the disk: a volume or a creation header with bytes changed, or anything
//! at all. Opening must end, and what is read must be what was written or an error.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use svsm::block::memory::MemoryDevice;
use svsm::persistence::{FileId, Namespace, Transaction, Volume, file_data};
use svsm_fuzz::{HEADER, SIZE, image_with, open};

const CONTENT: &[u8] = b"what was written";
const FILE: FileId = FileId::new(Namespace::System, 7);

/// A volume with one file.
static VOLUME: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut transaction = Transaction::new();
    transaction
        .write(FILE, file_data(CONTENT).expect("it is short"))
        .expect("there is memory");
    image_with(transaction)
});

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let mut image = match kind % 3 {
        0 => VOLUME.clone(),
        1 => HEADER.to_vec(),
        _ => Vec::new(),
    };
    image.resize(SIZE, 0);
    if kind % 3 == 2 {
        let count = rest.len().min(SIZE);
        image[..count].copy_from_slice(&rest[..count]);
    } else {
        // Changes of one byte: three bytes of place, one of difference.
        for change in rest.chunks_exact(4) {
            let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
            let limit = if kind % 3 == 1 { HEADER.len() } else { SIZE };
            image[place % limit] ^= change[3];
        }
    }
    let device = MemoryDevice::from_bytes(image, 512);
    if let Some(volume) = open(&device)
        && kind % 3 == 0
        && let Ok(content) = volume.read(FILE)
    {
        assert_eq!(content.as_slice(), CONTENT);
    }
});
