//! A volume that is full says so, loses nothing, and works on.

use std::sync::Arc;

use svsm::block::BlockDevice;
use svsm::block::memory::MemoryDevice;
use svsm::persistence::{CocoonVolume, FileId, Namespace, Transaction, Volume, VolumeError};

use crate::report::{amount, record};
use crate::state::open;
use crate::support::{self, formatted_as, key, pattern, project_layout};

/// Size of the image in bytes.
const IMAGE: usize = 256 << 10;

const fn file(n: usize) -> FileId {
    FileId::new(Namespace::System, n as u32)
}

/// A volume that holds files of `size` bytes until no more go in, and their number.
fn filled(size: usize) -> (MemoryDevice, CocoonVolume, usize) {
    let device = formatted_as(IMAGE, 512, &project_layout(), &key());
    let volume = open(&as_device(&device)).expect("opens");
    for n in 0.. {
        match support::write(&volume, file(n), &pattern(n as u64, size)) {
            Ok(()) => {}
            Err(VolumeError::NoSpace) => return (device, volume, n),
            Err(error) => panic!("file {n}: {error}"),
        }
        assert!(n < IMAGE, "the volume never fills");
    }
    unreachable!()
}

fn as_device(device: &MemoryDevice) -> Arc<dyn BlockDevice> {
    Arc::new(device.clone())
}

/// The first `count` files have their contents, and there are no others.
fn check(volume: &dyn Volume, count: usize, size: usize) {
    let listed = volume.list(Namespace::System).unwrap();
    assert!(listed.into_iter().eq(0..count as u32));
    for n in 0..count {
        let data = support::read(volume, file(n)).expect("is listed");
        assert!(data == pattern(n as u64, size), "file {n}");
    }
}

#[test]
fn a_full_volume_keeps_everything_and_works_on() {
    let mut refused = 0;
    let sizes: &[usize] = amount(&[3000, 40_000], &[0, 1, 500, 3000, 12_000, 40_000, 120_000]);
    for &size in sizes {
        let (device, volume, count) = filled(size);
        assert!(count > 0, "{size}");
        check(&volume, count, size);
        // Again and again, in other sizes, alone and together with what would fit.
        for attempt in 0..10 {
            let mut transaction = Transaction::new();
            let too_much = support::pattern(99, IMAGE);
            let too_much = svsm::persistence::file_data(&too_much).unwrap();
            transaction.write(file(count + attempt), too_much).unwrap();
            if attempt % 2 == 1 {
                transaction.remove(file(0)).unwrap();
            }
            assert_eq!(volume.transaction(transaction), Err(VolumeError::NoSpace));
            refused += 1;
        }
        check(&volume, count, size);
        check(&open(&as_device(&device)).expect("opens"), count, size);

        // A removal needs no free space, and makes some.
        let mut transaction = Transaction::new();
        transaction.remove(file(count - 1)).unwrap();
        volume
            .transaction(transaction)
            .expect("removes from a full volume");
        check(&volume, count - 1, size);
        support::write(&volume, file(count - 1), &pattern(count as u64 - 1, size))
            .expect("what was removed fits again");
        check(&volume, count, size);
        check(&open(&as_device(&device)).expect("opens"), count, size);
    }
    record(&[("diskfull.refused", refused)]);
}
