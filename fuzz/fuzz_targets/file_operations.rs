//! The file API: operations on a volume on a device that fails now and then, against a
//! model. What is read must be what the model says.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use svsm::block::BlockError;
use svsm::block::memory::{Fault, MemoryDevice};
use svsm::persistence::{
    CocoonVolume, FileId, Namespace, Transaction, Volume, VolumeError, file_data,
};
use svsm_fuzz::{image_with, open};

const SIZES: [usize; 8] = [0, 1, 64, 511, 512, 4096, 20_000, 60_000];

/// An empty volume.
static VOLUME: LazyLock<Vec<u8>> = LazyLock::new(|| image_with(Transaction::new()));

const fn file(n: u8) -> FileId {
    FileId::new(Namespace::Uefi, n as u32 % 8)
}

type Model = BTreeMap<FileId, Vec<u8>>;

/// Whether every file and the list are as in `model`; `None` where the device fails.
fn agrees(volume: &CocoonVolume, model: &Model) -> Option<bool> {
    for n in 0..8 {
        let seen = match volume.read(file(n)) {
            Ok(data) => Some(data.to_vec()),
            Err(VolumeError::NotFound) => None,
            Err(VolumeError::DeviceFailed) => return None,
            Err(error) => panic!("read: {error}"),
        };
        if seen.as_ref() != model.get(&file(n)) {
            return Some(false);
        }
    }
    match volume.list(Namespace::Uefi) {
        Ok(listed) => Some(model.keys().map(|file| file.index).eq(listed)),
        Err(VolumeError::DeviceFailed) => None,
        Err(error) => panic!("list: {error}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let device = MemoryDevice::from_bytes(VOLUME.clone(), 512);
    let mut volume = open(&device).expect("opens");
    let mut model = Model::new();
    let mut transaction = Transaction::new();
    let mut staged = model.clone();
    // What a boot may find, until an operation has undone it.
    let mut unknown: Option<Model> = None;
    for operation in input.chunks_exact(3).take(64) {
        let &[kind, which, value] = operation else {
            unreachable!("chunks of three");
        };
        match kind % 8 {
            0..=2 => {
                let data = vec![value; SIZES[usize::from(kind / 8 % 8)]];
                let copy = file_data(&data).expect("there is memory");
                transaction
                    .write(file(which), copy)
                    .expect("there is memory");
                staged.insert(file(which), data);
            }
            3 => {
                transaction.remove(file(which)).expect("there is memory");
                staged.remove(&file(which));
            }
            4 | 5 => {
                let result = volume.transaction(std::mem::take(&mut transaction));
                match result {
                    Ok(()) => model = staged,
                    Err(VolumeError::NoSpace | VolumeError::DeviceFailed) => {}
                    Err(VolumeError::OutcomeUnknown) => unknown = Some(staged),
                    Err(error) => panic!("transaction: {error}"),
                }
                staged = model.clone();
            }
            6 => {
                // A boot; the device is in order again.
                device.fail(Fault::Never);
                drop(volume);
                volume = open(&device).expect("opens");
                if let Some(after) = unknown.take()
                    && agrees(&volume, &after) == Some(true)
                {
                    model = after;
                    staged = model.clone();
                    transaction = Transaction::new();
                }
            }
            _ => {
                let n = u64::from(value);
                device.fail(match which % 4 {
                    0 => Fault::Never,
                    1 => Fault::Once(n, BlockError::Io),
                    2 => Fault::From(n, BlockError::TimedOut),
                    _ => Fault::FromWrite(n, BlockError::Io),
                });
            }
        }
        if kind % 8 >= 4 {
            match agrees(&volume, &model) {
                Some(true) => unknown = None,
                Some(false) => panic!("not what was written"),
                None => {}
            }
        }
    }
    device.fail(Fault::Never);
    assert_eq!(agrees(&volume, &model), Some(true));
    drop(volume);
    assert_eq!(agrees(&open(&device).expect("opens"), &model), Some(true));
});
