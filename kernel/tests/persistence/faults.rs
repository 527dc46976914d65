//! What a failing device does to a transaction: it happens or it does not, the answer
//! says which, and afterwards the volume works again.

use svsm::block::memory::{Fault, MemoryDevice};
use svsm::block::{BlockDevice, BlockError};
use svsm::persistence::{FileId, Namespace, Transaction, Volume, VolumeError, file_data};

use crate::support::*;

const FILES: [FileId; 3] = [
    FileId::new(Namespace::Vtpm, 1),
    FileId::new(Namespace::Uefi, 2),
    FileId::new(Namespace::System, 3),
];

/// Two states of the three files: which of them exist, and with what.
fn state(new: bool) -> [Option<Vec<u8>>; 3] {
    if new {
        [Some(pattern(10, 16384)), None, Some(pattern(12, 700))]
    } else {
        [Some(pattern(0, 16384)), Some(pattern(1, 300)), None]
    }
}

fn go_to(volume: &dyn Volume, new: bool) -> Result<(), VolumeError> {
    let mut transaction = Transaction::new();
    for (file, data) in FILES.into_iter().zip(state(new)) {
        match data {
            Some(data) => transaction.write(file, file_data(&data)?)?,
            None => transaction.remove(file)?,
        };
    }
    volume.transaction(transaction)
}

/// Whether the volume shows the new state; anything but the old or the new is fatal.
fn is_new(volume: &dyn Volume) -> bool {
    let seen = FILES.map(|file| read(volume, file));
    assert!(
        seen == state(false) || seen == state(true),
        "half a transaction"
    );
    seen == state(true)
}

fn prepared() -> MemoryDevice {
    let device = formatted(&key());
    go_to(&open_device(&device, &key()).unwrap(), false).unwrap();
    device
}

/// Runs one transaction with the `n`-th request failing as `fault` says, for every n,
/// and checks the answer against what a running system and a rebooted one see.
fn every_fault(fault: fn(u64) -> Fault) -> [u32; 3] {
    let before = prepared().snapshot();
    let [mut done, mut failed, mut unknown] = [0; 3];
    for index in 0.. {
        let device = MemoryDevice::from_bytes(before.clone(), 512);
        let volume = open_device(&device, &key()).unwrap();
        device.reset_counters();
        device.fail(fault(index));
        let (result, lines) = logged(|| {
            let result = go_to(&volume, true);
            if result.is_ok() {
                // What is left over meets the fault too; whether it is done now or
                // later changes nothing.
                let _ = volume.settle();
            }
            result
        });
        let reached_end = device.counters().requests() <= index;
        let after_cut = device.snapshot();
        device.fail(Fault::Never);
        match result {
            Ok(()) => {
                done += 1;
                assert!(is_new(&volume), "{index}");
                assert!(is_new(&reopen(after_cut, &key()).unwrap()), "{index}");
            }
            Err(VolumeError::DeviceFailed) => {
                failed += 1;
                assert!(!is_new(&volume), "{index}");
                assert!(!is_new(&reopen(after_cut, &key()).unwrap()), "{index}");
            }
            Err(VolumeError::OutcomeUnknown) => {
                unknown += 1;
                assert_eq!(
                    lines,
                    [
                        "ERROR: persistence: transaction: the device failed while it was written to, the outcome is unknown"
                    ]
                );
                is_new(&reopen(after_cut, &key()).unwrap());
                // Recovery comes before the next operation, and undoes it.
                let (new, lines) = logged(|| is_new(&volume));
                assert!(!new, "{index}");
                assert_eq!(
                    lines,
                    [
                        "WARNING: persistence: volume recovered, the interrupted transaction was undone"
                    ]
                );
            }
            Err(error) => panic!("{index}: {error}"),
        }
        // Whatever has happened, the next transaction works and lasts.
        for new in [false, true] {
            go_to(&volume, new).unwrap();
            assert_eq!(is_new(&volume), new);
            let reopened = reopen(device.snapshot(), &key()).unwrap();
            assert_eq!(is_new(&reopened), new);
            assert_eq!(reopened.update_counter(), volume.update_counter());
        }
        if reached_end {
            break;
        }
    }
    println!("{done} done, {failed} failed, {unknown} unknown");
    [done, failed, unknown]
}

#[test]
fn one_failed_request_leaves_the_old_or_the_new_state() {
    let [done, failed, _] = every_fault(|index| Fault::Once(index, BlockError::Io));
    assert!(done >= 3 && failed >= 2, "{done} {failed}");
}

#[test]
fn a_device_that_dies_leaves_the_old_or_the_new_state() {
    let [done, failed, unknown] = every_fault(|index| Fault::From(index, BlockError::TimedOut));
    assert!(
        done >= 2 && failed >= 1 && unknown >= 1,
        "{done} {failed} {unknown}"
    );
}

/// The caller has its answer; then something happens to the `n`-th request that comes
/// after it, for every n.
fn every_fault_after_the_answer(fault: fn(u64) -> Fault) {
    let before = prepared().snapshot();
    let mut met = 0;
    for index in 0.. {
        let device = MemoryDevice::from_bytes(before.clone(), 512);
        let volume = open_device(&device, &key()).unwrap();
        go_to(&volume, true).unwrap();
        // A cut right behind the answer.
        assert!(is_new(&reopen(device.snapshot(), &key()).unwrap()));
        device.reset_counters();
        device.fail(fault(index));
        let settled = volume.settle();
        let reached_end = device.counters().requests() <= index;
        // The next transaction may meet the fault, too, and did not happen then.
        let next = match &settled {
            Ok(()) => Ok(()),
            Err(error) => {
                met += 1;
                assert_eq!(*error, VolumeError::DeviceFailed, "{index}");
                go_to(&volume, false)
            }
        };
        let undone = settled.is_err() && next.is_ok();
        let after_cut = device.snapshot();
        device.fail(Fault::Never);
        assert_eq!(is_new(&reopen(after_cut, &key()).unwrap()), !undone);
        assert_eq!(is_new(&volume), !undone, "{index}: {next:?}");
        volume.settle().unwrap();
        assert_eq!(
            is_new(&reopen(device.snapshot(), &key()).unwrap()),
            !undone,
            "{index}"
        );
        if reached_end {
            break;
        }
    }
    assert!(met >= 5, "{met}");
}

#[test]
fn what_was_acknowledged_survives_a_failed_request() {
    every_fault_after_the_answer(|index| Fault::Once(index, BlockError::Io));
}

#[test]
fn what_was_acknowledged_survives_the_death_of_the_device() {
    every_fault_after_the_answer(|index| Fault::From(index, BlockError::TimedOut));
}

#[test]
fn a_dead_device_is_reported_until_it_is_back() {
    let device = prepared();
    let volume = open_device(&device, &key()).unwrap();
    device.fail(Fault::From(0, BlockError::Io));
    for _ in 0..3 {
        assert!(matches!(
            go_to(&volume, true),
            Err(VolumeError::DeviceFailed | VolumeError::OutcomeUnknown)
        ));
    }
    device.fail(Fault::Never);
    assert!(!is_new(&volume));
    go_to(&volume, true).unwrap();
    assert!(is_new(&volume));
}

#[test]
fn a_cut_during_recovery_leaves_the_old_or_the_new_state() {
    // A first cut leaves a journal behind, a second one hits its replay.
    let before = prepared().snapshot();
    let mut replayed = 0;
    for first in 0..16 {
        let device = MemoryDevice::from_bytes(before.clone(), 512);
        let volume = open_device(&device, &key()).unwrap();
        device.fail(Fault::From(first, BlockError::Io));
        let result = go_to(&volume, true);
        let _ = volume.settle();
        drop(volume);
        let cut = device.snapshot();
        for second in 0.. {
            let device = MemoryDevice::from_bytes(cut.clone(), 512);
            device.fail(Fault::From(second, BlockError::Io));
            let opened = open_device(&device, &key()).is_some();
            replayed += u32::from(device.snapshot() != cut);
            let new = is_new(&reopen(device.snapshot(), &key()).unwrap());
            if result.is_ok() {
                assert!(new, "{first} {second}");
            }
            if opened {
                break;
            }
        }
    }
    assert!(replayed >= 5, "{replayed}");
}

#[test]
fn a_truncated_device_with_a_journal_is_skipped() {
    // Cut the power where the journal is complete, then the end of the device.
    let before = prepared().snapshot();
    for first in 0..16 {
        let device = MemoryDevice::from_bytes(before.clone(), 512);
        let volume = open_device(&device, &key()).unwrap();
        device.fail(Fault::From(first, BlockError::Io));
        let _ = go_to(&volume, true).and_then(|()| volume.settle());
        let mut cut = device.snapshot();
        let tail = cut.split_off(IMAGE - 512);
        let truncated = MemoryDevice::from_bytes(cut, 512);
        let (volume, lines) = logged(|| open_device(&truncated, &key()));
        assert!(volume.is_none(), "{first}");
        assert!(
            lines[0].starts_with("WARNING: block device 0: truncated: "),
            "{first}: {lines:?}"
        );
        // With its end back it opens.
        let mut whole = truncated.snapshot();
        whole.extend_from_slice(&tail);
        is_new(&reopen(whole, &key()).unwrap());
    }
}
