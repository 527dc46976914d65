//! What a volume promises its users.

use std::sync::Arc;

use svsm::block::memory::MemoryDevice;
use svsm::block::{BlockDevice, BlockError, Geometry};
use svsm::persistence::boot_counter::{BOOT_COUNTER, BootCounterError, count_boot};
use svsm::persistence::{
    CocoonVolume, FileId, FormatPolicy, Namespace, Transaction, Volume, VolumeError, VolumeKey,
    file_data, open_first,
};

use crate::support::*;

const A: FileId = FileId::new(Namespace::Vtpm, 1);
const B: FileId = FileId::new(Namespace::Vtpm, u32::MAX);
const C: FileId = FileId::new(Namespace::Uefi, 0);

#[test]
fn files_survive_a_reboot() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    let sizes = [0, 1, 63, 64, 511, 512, 513, 4096, 65536];
    for (index, size) in sizes.into_iter().enumerate() {
        let file = FileId::new(Namespace::Uefi, index as u32);
        write(&volume, file, &pattern(index as u64, size)).unwrap();
    }
    let volume = reopen(device.snapshot(), &key()).unwrap();
    for (index, size) in sizes.into_iter().enumerate() {
        let file = FileId::new(Namespace::Uefi, index as u32);
        assert_eq!(read(&volume, file), Some(pattern(index as u64, size)));
    }
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let volume = open_device(&formatted(&key()), &key()).unwrap();
    for (round, size) in [10, 3000, 5, 0, 700].into_iter().enumerate() {
        write(&volume, A, &pattern(round as u64, size)).unwrap();
        assert_eq!(read(&volume, A), Some(pattern(round as u64, size)));
    }
}

#[test]
fn a_missing_file_is_not_an_empty_one() {
    let volume = open_device(&formatted(&key()), &key()).unwrap();
    assert_eq!(volume.read(A), Err(VolumeError::NotFound));
    write(&volume, A, b"").unwrap();
    assert_eq!(volume.read(A).unwrap().len(), 0);
}

#[test]
fn a_list_has_the_files_of_its_namespace_only() {
    let volume = open_device(&formatted(&key()), &key()).unwrap();
    assert_eq!(volume.list(Namespace::Vtpm), Ok(vec![]));
    for file in [B, C, A, BOOT_COUNTER] {
        write(&volume, file, b"x").unwrap();
    }
    assert_eq!(volume.list(Namespace::Vtpm), Ok(vec![1, u32::MAX]));
    assert_eq!(volume.list(Namespace::Uefi), Ok(vec![0]));
    assert_eq!(volume.list(Namespace::Attestation), Ok(vec![]));
    assert_eq!(volume.list(Namespace::System), Ok(vec![1]));
}

#[test]
fn a_transaction_happens_as_a_whole() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, A, b"old").unwrap();
    let mut transaction = Transaction::new();
    transaction.write(B, file_data(b"b").unwrap()).unwrap();
    transaction.write(C, file_data(b"c").unwrap()).unwrap();
    transaction.remove(A).unwrap();
    transaction.remove(BOOT_COUNTER).unwrap();
    volume.transaction(transaction).unwrap();
    for volume in [&volume, &reopen(device.snapshot(), &key()).unwrap()] {
        assert_eq!(read(volume, A), None);
        assert_eq!(read(volume, B), Some(b"b".to_vec()));
        assert_eq!(read(volume, C), Some(b"c".to_vec()));
    }
}

#[test]
fn a_transaction_without_changes_costs_nothing() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    device.reset_counters();
    volume.transaction(Transaction::new()).unwrap();
    assert_eq!(device.counters().requests(), 0);
}

#[test]
fn a_full_volume_says_so_and_stays_as_it_was() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, A, b"kept").unwrap();
    for _ in 0..20 {
        let mut transaction = Transaction::new();
        transaction.write(A, file_data(b"lost").unwrap()).unwrap();
        transaction
            .write(B, file_data(&pattern(1, IMAGE)).unwrap())
            .unwrap();
        assert_eq!(volume.transaction(transaction), Err(VolumeError::NoSpace));
        assert_eq!(read(&volume, A), Some(b"kept".to_vec()));
        assert_eq!(read(&volume, B), None);
    }
    // Nothing was lost to the failed attempts.
    write(&volume, B, &pattern(2, IMAGE * 3 / 4)).unwrap();
    let volume = reopen(device.snapshot(), &key()).unwrap();
    assert_eq!(read(&volume, B), Some(pattern(2, IMAGE * 3 / 4)));
    assert_eq!(read(&volume, A), Some(b"kept".to_vec()));
}

#[test]
fn the_room_that_is_told_is_there() {
    let device = formatted_as(4 * MIB, 512, &project_layout(), &key());
    let volume = open_device(&device, &key()).unwrap();
    let empty = volume.space().unwrap();
    assert_eq!(empty.total, 4 * MIB as u64);
    assert!(empty.free() > 3 * MIB as u64, "{empty:?}");

    // A new file of nearly all of it fits, one of a little more does not.
    let free = empty.free() as usize;
    assert_eq!(
        write(&volume, B, &vec![1; free + 4096]),
        Err(VolumeError::NoSpace)
    );
    write(&volume, B, &vec![1; free / 100 * 95]).unwrap();
    let full = volume.space().unwrap();
    assert_eq!(full.total, empty.total);
    assert!(full.free() <= empty.free() / 100 * 6, "{full:?}");
    assert_eq!(reopen(device.snapshot(), &key()).unwrap().space(), Ok(full));

    let mut transaction = Transaction::new();
    transaction.remove(B).unwrap();
    volume.transaction(transaction).unwrap();
    assert_eq!(volume.space(), Ok(empty));

    // Many small files take whole blocks.
    for index in 0..100 {
        write(&volume, FileId::new(Namespace::Uefi, index), &[1; 20]).unwrap();
    }
    let used = volume.space().unwrap().used - empty.used;
    assert!((100 * 512..100 * 1024).contains(&used), "{used}");
}

#[test]
fn tampered_data_is_refused_and_never_returned() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, C, b"innocent").unwrap();
    let free = device.snapshot();
    write(&volume, A, &pattern(1, 8192)).unwrap();
    volume.settle().unwrap();
    drop(volume);
    let whole = device.snapshot();
    let changed: Vec<usize> = (4096..whole.len())
        .step_by(512)
        .filter(|at| whole[*at..*at + 512] != free[*at..*at + 512])
        .collect();
    let mut refused = 0;
    for at in changed {
        let mut bytes = whole.clone();
        bytes[at + 100] ^= 0x80;
        let (outcome, lines) = logged(|| {
            let volume = reopen(bytes, &key())?;
            Some(volume.read(A))
        });
        match outcome {
            // Refused with the whole volume, or a block that is no longer in use.
            None => assert!(lines[0].contains("skipped")),
            Some(Ok(data)) => assert!(*data == pattern(1, 8192)),
            Some(Err(error)) => {
                assert_eq!(error, VolumeError::AuthenticationFailed);
                assert_eq!(
                    lines.last().unwrap(),
                    "ERROR: persistence: file vtpm/1: authentication failed, the data is damaged or was tampered with"
                );
                refused += 1;
            }
        }
    }
    assert!(refused >= 16, "{refused}");
}

#[test]
fn the_boot_counter_counts_boots() {
    let device = formatted(&key());
    for boot in 1..=4u64 {
        let volume = open_device(&device, &key()).unwrap();
        let (result, lines) = logged(|| count_boot(&volume));
        assert_eq!(result, Ok(boot));
        let first = if boot == 1 {
            "persistence demo: no boot counter found yet".to_owned()
        } else {
            format!("persistence demo: boot counter read back is {}", boot - 1)
        };
        assert_eq!(
            lines,
            [
                first.as_str(),
                "persistence demo: successfully wrote updated boot counter"
            ]
        );
    }
}

#[test]
fn an_unusable_boot_counter_is_told_in_one_line() {
    let volume = open_device(&formatted(&key()), &key()).unwrap();
    write(&volume, BOOT_COUNTER, b"12345").unwrap();
    let (result, lines) = logged(|| count_boot(&volume));
    assert_eq!(result, Err(BootCounterError::Length(5)));
    assert_eq!(
        lines,
        ["ERROR: persistence demo: the boot counter has 5 bytes, not 8"]
    );
}

/// Requests, flushes included, for an overwrite on the project's layout. The first one
/// behind a mount also reads; the numbers are in Documentation/PERSISTENCE.md.
#[test]
fn commits_take_few_requests() {
    println!("size: before the answer, in all, what");
    for (size, limit) in [
        (64, 10),
        (4 << 10, 11),
        (16 << 10, 12),
        (64 << 10, 14),
        (256 << 10, 18),
    ] {
        let device = formatted_as(8 * MIB, 512, &project_layout(), &key());
        let volume = open_device(&device, &key()).unwrap();
        for round in 0..2 {
            write(&volume, A, &pattern(round, size)).unwrap();
        }
        let (mut most, mut most_before) = (0, 0);
        for round in 2..8 {
            volume.settle().unwrap();
            device.reset_counters();
            write(&volume, A, &pattern(round, size)).unwrap();
            let before = device.counters().requests();
            volume.settle().unwrap();
            let counters = device.counters();
            println!("{size}: {before} {} {counters:?}", counters.requests());
            most = most.max(counters.requests());
            most_before = most_before.max(before);
        }
        assert!(most <= limit, "{size}: {most} requests");
        assert!(most_before <= 7, "{size}: {most_before} before the answer");
        assert!(size != 16 << 10 || most_before <= 6, "{most_before}");
    }
}

#[test]
fn an_answer_does_not_wait_for_what_is_left_over() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, A, &pattern(1, 3000)).unwrap();
    let answered = device.snapshot();
    device.reset_counters();
    // Visible at once, which does the rest first, and on the disk.
    assert_eq!(read(&volume, A), Some(pattern(1, 3000)));
    assert!(device.counters().writes > 0);
    assert_eq!(
        read(&reopen(answered, &key()).unwrap(), A),
        Some(pattern(1, 3000))
    );
    device.reset_counters();
    volume.settle().unwrap();
    assert_eq!(device.counters().requests(), 0);
}

#[test]
fn mounting_takes_few_requests() {
    for mib in [1, 8, 64] {
        let device = formatted_as(mib * MIB, 512, &project_layout(), &key());
        device.reset_counters();
        let volume = open_device(&device, &key()).unwrap();
        let counters = device.counters();
        println!("mount of {mib} MiB: {counters:?}");
        assert_eq!((counters.writes, counters.flushes), (0, 0));
        assert!(counters.reads <= 6, "{counters:?}");
        // What was read ahead is not what a later read gets.
        write(&volume, A, b"data").unwrap();
        volume.settle().unwrap();
        device.tamper(|bytes| bytes.fill(0x5a));
        assert_eq!(volume.read(A), Err(VolumeError::AuthenticationFailed));
    }
}

/// Everything there is runs on the stack of a kernel thread.
#[test]
fn a_stack_of_32_kib_is_enough() {
    let device = creation_header(IMAGE, 512, IMAGE as u64, &project_layout());
    std::thread::Builder::new()
        .stack_size(32 << 10)
        .spawn(move || {
            let key = VolumeKey::new(&[0x11; 32]).unwrap();
            for _ in 0..2 {
                let volume = open_device(&device, &key).unwrap();
                write(&volume, A, &[1; 3000]).unwrap();
                let mut transaction = Transaction::new();
                transaction.remove(A).unwrap();
                volume.transaction(transaction).unwrap();
                assert_eq!(volume.list(Namespace::Vtpm), Ok(vec![]));
                count_boot(&volume).unwrap();
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn the_update_counter_grows_by_one_with_every_commit() {
    for layout in [
        project_layout(),
        layout(128, 512, 1024, 512),
        layout(4096, 4096, 4096, 4096),
    ] {
        let device = formatted_as(IMAGE, 512, &layout, &key());
        let volume = open_device(&device, &key()).unwrap();
        let first = volume.update_counter();
        let grown = |volume: &CocoonVolume| volume.update_counter().wrapping_sub(first);
        for round in 1..=20 {
            write(&volume, A, &pattern(round as u64, 3000)).unwrap();
            assert_eq!(grown(&volume), round);
            // With the journal still to be applied, and without.
            for _ in 0..2 {
                let reopened = reopen(device.snapshot(), &key()).unwrap();
                assert_eq!(grown(&reopened), round);
                volume.settle().unwrap();
            }
        }
        // What changes nothing is no commit.
        volume.transaction(Transaction::new()).unwrap();
        read(&volume, A).unwrap();
        assert_eq!(grown(&volume), 20);
    }
}

#[test]
fn an_older_image_has_an_older_update_counter_whatever_header_is_shown_later() {
    // The host shows the header of the newest state in place of an old one's, as soon as
    // the file system has read the old one.
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, A, b"old").unwrap();
    volume.settle().unwrap();
    let old = device.snapshot();
    for round in 0..10 {
        write(&volume, A, &pattern(round, 100)).unwrap();
    }
    volume.settle().unwrap();
    let new = device.snapshot();
    let expected = reopen(old.clone(), &key()).unwrap().update_counter();
    let header = 512..1024;
    assert_ne!(old[header.clone()], new[header.clone()]);
    let mut opened = 0;
    for reads in 0..12 {
        let shown = Shown {
            device: MemoryDevice::from_bytes(old.clone(), 512),
            header: new[header.clone()].to_vec(),
            from: reads,
        };
        let devices: [Arc<dyn BlockDevice>; 1] = [Arc::new(shown)];
        if let Some(volume) = open_first(&devices, &key(), &OsEntropy, FormatPolicy::Deny) {
            assert_eq!(volume.update_counter(), expected);
            opened += 1;
        }
    }
    assert!(opened > 0);
}

/// A device that shows another header from its `from`-th read on.
struct Shown {
    device: MemoryDevice,
    header: Vec<u8>,
    from: u64,
}

impl BlockDevice for Shown {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        if self.device.counters().reads == self.from {
            self.device
                .tamper(|data| data[512..1024].copy_from_slice(&self.header));
        }
        self.device.read(block, buffer)
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        self.device.write(block, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.device.flush()
    }
}
