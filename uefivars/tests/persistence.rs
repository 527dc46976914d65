//! What is stored: when, what it survives, and what is not taken for a store.

mod common;

use common::{APPEND, GLOBAL, Guest, SHIM};
use uefivars::memory::{Fault, Memory};
use uefivars::storage::{Storage, StorageError, Volatile};
use uefivars::{Config, LoadError, Service, Status, record};

const OK: Status = Status::SUCCESS;
const ABSENT: Status = Status::NOT_FOUND;

#[test]
fn a_variable_is_there_in_the_next_boot_if_it_is_non_volatile() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(GLOBAL, "Boot0001", 7, b"kept"), OK);
    assert_eq!(guest.set(GLOBAL, "BootCurrent", 6, &[1, 0]), OK);
    assert_eq!(guest.set(SHIM, "MokList", 3, b"boot only"), OK);
    guest.service.power_on().unwrap();
    for mut guest in [guest.reload(), guest] {
        assert_eq!(guest.get(GLOBAL, "Boot0001"), Ok((7, b"kept".to_vec())));
        assert_eq!(guest.get(SHIM, "MokList"), Ok((3, b"boot only".to_vec())));
        assert_eq!(guest.get(GLOBAL, "BootCurrent"), Err(ABSENT));
    }
}

#[test]
fn an_index_that_is_used_again_does_not_mix_variables_up() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "Old", 7, b"old"), OK);
    assert_eq!(guest.set(SHIM, "Old", 0, &[]), OK);
    assert_eq!(guest.set(SHIM, "New", 7, b"new"), OK);
    let mut guest = guest.reload();
    assert_eq!(guest.get(SHIM, "Old"), Err(ABSENT));
    assert_eq!(guest.value(SHIM, "New"), b"new");

    // The last index of all.
    let mut disk = guest.service.into_storage();
    let record = disk.records_mut().remove(&1).unwrap();
    disk.records_mut().insert(u32::MAX, record);
    let mut guest = Guest::with(disk, Config::default());
    assert_eq!(guest.set(SHIM, "Newer", 7, b"newer"), OK);
    let mut guest = guest.reload();
    assert_eq!(guest.value(SHIM, "New"), b"new");
    assert_eq!(guest.value(SHIM, "Newer"), b"newer");
}

#[test]
fn what_is_the_same_is_not_written_again() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
    let commits = guest.service.storage().commits;
    assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
    assert_eq!(guest.set(SHIM, "Volatile", 6, b"value"), OK);
    guest.service.power_on().unwrap();
    assert_eq!(guest.service.storage().commits, commits);
}

#[test]
fn a_failed_commit_changes_nothing() {
    for (error, expected) in [
        (StorageError::Device, Status::DEVICE_ERROR),
        (StorageError::NoSpace, Status::OUT_OF_RESOURCES),
    ] {
        let mut guest = Guest::new();
        assert_eq!(guest.set(SHIM, "A", 7, b"old"), OK);
        let disk = guest.service.storage().records().clone();
        let names = guest.names();
        guest
            .service
            .storage_mut()
            .set_fault(Fault::FailAfter(0, error));
        assert_eq!(guest.set(SHIM, "A", 7, b"new"), expected);
        assert_eq!(guest.set(SHIM, "A", 0, &[]), expected);
        assert_eq!(guest.set(SHIM, "A", 7 | APPEND, b"new"), expected);
        assert_eq!(guest.set(SHIM, "B", 7, b"new"), expected);
        assert_eq!(guest.set(GLOBAL, "AuditMode", 6, &[1]), expected);
        assert_eq!(guest.names(), names);
        assert_eq!(guest.value(SHIM, "A"), b"old");
        assert_eq!(*guest.service.storage().records(), disk);
        // What needs no storage still works.
        assert_eq!(guest.set(SHIM, "C", 6, b"volatile"), OK);
        guest.service.storage_mut().set_fault(Fault::None);
        assert_eq!(guest.set(SHIM, "A", 7, b"new"), OK);
    }
}

#[test]
fn nothing_is_answered_while_it_is_open_what_became_of_a_failed_commit() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, b"old"), OK);
    guest.service.storage_mut().set_fault(Fault::CutAfter(0));
    assert_eq!(guest.set(SHIM, "A", 7, b"new"), Status::DEVICE_ERROR);
    // The disk has the new value. To say that the old one is there already, or that there is
    // no B to delete, would be what the next boot gives the lie to.
    assert_eq!(guest.set(SHIM, "A", 7, b"old"), Status::DEVICE_ERROR);
    assert_eq!(guest.set(SHIM, "B", 0, &[]), Status::DEVICE_ERROR);
    assert_eq!(guest.value(SHIM, "A"), b"old");
    assert_eq!(guest.reload().value(SHIM, "A"), b"new");
}

#[test]
fn after_a_power_cut_each_variable_is_old_or_new() {
    let names = ["A", "B", "C", "D", "E"];
    let workload = |guest: &mut Guest<Memory>, stop_at_error: bool| {
        let mut acknowledged: Vec<Option<Vec<u8>>> = vec![None; names.len()];
        for step in 0..60_usize {
            let which = step * 7 % names.len();
            let delete = step % 6 == 5 && acknowledged[which].is_some();
            let value = format!("{step}").repeat(step % 9 + 1).into_bytes();
            let data = if delete { &[][..] } else { &value };
            let status = guest.set(SHIM, names[which], if delete { 0 } else { 7 }, data);
            let new = (!delete).then(|| value.clone());
            if status != OK {
                assert!(stop_at_error && status == Status::DEVICE_ERROR);
                return (acknowledged, Some((which, new)));
            }
            acknowledged[which] = new;
        }
        (acknowledged, None)
    };
    let mut guest = Guest::new();
    workload(&mut guest, false);
    let commits = guest.service.storage().commits as u32;
    assert_eq!(commits, 60);
    for cut in 0..commits {
        for fault in [Fault::CutBefore(cut), Fault::CutAfter(cut)] {
            let mut guest = Guest::new();
            guest.service.storage_mut().set_fault(fault);
            let (acknowledged, in_flight) = workload(&mut guest, true);
            let (which, new) = in_flight.unwrap();
            let mut guest = guest.reload();
            for (n, name) in names.iter().enumerate() {
                let value = guest.get(SHIM, name).ok().map(|(_, value)| value);
                let old = acknowledged[n].clone();
                assert!(
                    value == old || (n == which && value == new),
                    "{fault:?} {name}"
                );
                if n == which {
                    let expected = if matches!(fault, Fault::CutAfter(_)) {
                        &new
                    } else {
                        &old
                    };
                    assert_eq!(value, *expected);
                }
            }
        }
    }
}

#[test]
fn a_store_that_does_not_parse_is_not_taken_for_an_empty_one() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, b"a"), OK);
    assert_eq!(guest.set(SHIM, "B", 7, b"b"), OK);
    let disk = guest.service.into_storage().power_cycle();
    let damage = |change: fn(&mut std::collections::BTreeMap<u32, Vec<u8>>)| {
        let mut disk = disk.clone();
        change(disk.records_mut());
        Service::new(disk, Config::default()).unwrap_err()
    };
    assert_eq!(
        damage(|records| records.get_mut(&2).unwrap()[0] = 0).to_string(),
        "UEFI variable record 2 is damaged: its magic number is wrong"
    );
    assert_eq!(
        damage(|records| records.get_mut(&1).unwrap().truncate(54)).to_string(),
        "UEFI variable record 1 is damaged: it has 54 bytes where its header says 55"
    );
    assert_eq!(
        damage(|records| drop(records.insert(7, records[&1].clone()))).to_string(),
        "UEFI variable records 1 and 7 are both A-605dab50-e046-4300-abb6-3dd810dd8b23"
    );
    #[derive(Debug)]
    struct Broken;
    impl Storage for Broken {
        fn load(&mut self) -> Result<Vec<(u32, Vec<u8>)>, StorageError> {
            Err(StorageError::Device)
        }
        fn commit(&mut self, _: &[uefivars::storage::Change<'_>]) -> Result<(), StorageError> {
            Ok(())
        }
    }
    assert_eq!(
        Service::new(Broken, Config::default()).unwrap_err(),
        LoadError::Storage(StorageError::Device)
    );
    assert!(record::decode(&[]).is_err());
}

#[test]
fn without_a_volume_it_works_and_says_that_it_forgets() {
    let mut guest = Guest::with(Volatile, Config::default());
    assert!(!guest.service.flags().persistent_nv_vars);
    assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
    assert_eq!(guest.value(SHIM, "A"), b"value");
    assert_eq!(guest.service.flags().bits(), 0);
    assert_eq!(Guest::new().service.flags().bits(), 1);
}
