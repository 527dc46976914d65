//! The flash image of edk2 that holds variables: `OVMF_VARS_4M.fd` and its like.
//!
//! A firmware volume with a variable store in it (edk2, VariableFormat.h), the event log,
//! and the two areas of the fault-tolerant writer, empty.

use std::vec;
use std::vec::Vec;

use uguid::{Guid, guid};
use zerocopy::IntoBytes;

use crate::variable::Variable;

/// Size of the image, in bytes.
pub const SIZE: usize = 0x84000;

const BLOCK: usize = 0x1000;
const VOLUME_HEADER: usize = 0x48;
const STORE_END: usize = 0x40000;
const WORKING_BLOCK: usize = 0x41000;
const STORE_HEADER: usize = 28;

const NV_DATA_VOLUME: Guid = guid!("fff12b8d-7696-4c8b-a985-2747075b4f50");
const AUTHENTICATED_STORE: Guid = guid!("aaf32c78-947b-439a-a180-2e144ec37792");
const WORKING_BLOCK_SIGNATURE: Guid = guid!("9e58292b-7c68-497d-a0ce-6500fd9f1b95");

/// The variables need more room than the image has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variables need {needed} bytes of a flash image that has room for {room}")]
pub struct Full {
    pub needed: usize,
    pub room: usize,
}

/// Writes an image with these variables, the non-volatile ones of them.
///
/// # Errors
/// Where they do not fit.
pub fn export<'a>(variables: impl Iterator<Item = &'a Variable>) -> Result<Vec<u8>, Full> {
    let mut store = Vec::new();
    for variable in variables.filter(|variable| variable.attributes.non_volatile()) {
        put(&mut store, variable);
    }
    let room = STORE_END - VOLUME_HEADER - STORE_HEADER;
    if store.len() > room {
        return Err(Full {
            needed: store.len(),
            room,
        });
    }
    let mut image = vec![0xff; SIZE];
    let mut start = volume_header();
    start.extend(AUTHENTICATED_STORE.to_bytes());
    start.extend(((STORE_END - VOLUME_HEADER) as u32).to_le_bytes());
    // Formatted, healthy, and six reserved bytes.
    start.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    start.extend(&store);
    image[..start.len()].copy_from_slice(&start);

    let mut working = WORKING_BLOCK_SIGNATURE.to_bytes().to_vec();
    // CRC-32 of this header as an empty queue has it, and its state.
    working.extend([0x2c, 0xaf, 0x2c, 0x64, 0xfe, 0xff, 0xff, 0xff]);
    working.extend(((BLOCK - 32) as u64).to_le_bytes());
    image[WORKING_BLOCK..][..working.len()].copy_from_slice(&working);
    Ok(image)
}

/// EFI_FIRMWARE_VOLUME_HEADER (PI 1.8, volume 3, section 3.2.1.1) with one run of blocks.
fn volume_header() -> Vec<u8> {
    let mut header = vec![0; 16];
    header.extend(NV_DATA_VOLUME.to_bytes());
    header.extend((SIZE as u64).to_le_bytes());
    header.extend(b"_FVH");
    header.extend(0x0004_feff_u32.to_le_bytes());
    header.extend((VOLUME_HEADER as u16).to_le_bytes());
    // Checksum, extended header, reserved, revision.
    header.extend([0, 0, 0, 0, 0, 2]);
    for number in [(SIZE / BLOCK) as u32, BLOCK as u32, 0, 0] {
        header.extend(number.to_le_bytes());
    }
    let sum = header.as_chunks::<2>().0.iter().fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes(*word))
    });
    header[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    header
}

/// AUTHENTICATED_VARIABLE_HEADER, name, value, and padding to four bytes.
fn put(store: &mut Vec<u8>, variable: &Variable) {
    store.extend(0x55aa_u16.to_le_bytes());
    // Added, and not deleted since.
    store.extend([0x3f, 0]);
    store.extend(variable.attributes.0.to_le_bytes());
    store.extend([0; 8]);
    store.extend(variable.time.as_bytes());
    store.extend([0; 4]);
    store.extend((variable.key.name.size() as u32).to_le_bytes());
    store.extend((variable.data.len() as u32).to_le_bytes());
    store.extend(variable.key.guid.to_bytes());
    store.extend(variable.key.name.le_bytes());
    store.extend([0, 0]);
    store.extend(&variable.data);
    store.resize(store.len().next_multiple_of(4), 0xff);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, guids};

    #[test]
    fn the_words_of_the_volume_header_add_up_to_zero() {
        let image = export(core::iter::empty()).unwrap();
        let words = image[..VOLUME_HEADER].as_chunks::<2>().0;
        let sum = words.iter().fold(0_u16, |sum, word| {
            sum.wrapping_add(u16::from_le_bytes(*word))
        });
        assert_eq!((sum, image.len()), (0, SIZE));
    }

    #[test]
    fn more_than_fits_is_refused() {
        let large: Vec<_> = (0..9)
            .map(|_| Variable::plain(guids::GLOBAL, "A", Attributes(7), &[0; 0x8000]).unwrap())
            .collect();
        assert!(export(large.iter()).is_err());
        assert!(export(large[..7].iter()).is_ok());
    }
}
