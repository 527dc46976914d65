//! The rules for variables without authentication, over MM messages.

mod common;

use common::{APPEND, GLOBAL, Guest, SHIM, access, name, status};
use uefivars::memory::{Fault, Memory};
use uefivars::mm::{BufferError, Outcome};
use uefivars::storage::{Storage, StorageError, Volatile};
use uefivars::{Config, Guid, LoadError, Quota, Service, Status, guids, record};

const OK: Status = Status::SUCCESS;
const INVALID: Status = Status::INVALID_PARAMETER;
const PROTECTED: Status = Status::WRITE_PROTECTED;
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
fn every_form_of_deletion_deletes_for_good() {
    for (attributes, data) in [(0, &[][..]), (7, &[]), (0, b"data"), (1, &[]), (1, b"data")] {
        let mut guest = Guest::new();
        assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
        assert_eq!(
            guest.set(SHIM, "A", attributes, data),
            OK,
            "{attributes:#x} {data:?}"
        );
        assert_eq!(guest.get(SHIM, "A"), Err(ABSENT));
        assert_eq!(guest.reload().get(SHIM, "A"), Err(ABSENT));
        assert_eq!(guest.set(SHIM, "A", attributes, data), ABSENT);
    }
}

#[test]
fn other_attributes_change_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
    for attributes in [2, 3, 6, 0x27] {
        assert!(
            guest.set(SHIM, "A", attributes, b"other").is_error(),
            "{attributes:#x}"
        );
        assert!(
            guest.set(SHIM, "A", attributes, &[]).is_error(),
            "{attributes:#x}"
        );
    }
    assert_eq!(guest.get(SHIM, "A"), Ok((7, b"value".to_vec())));
}

#[test]
fn meaningless_and_unsupported_attributes_are_refused() {
    let mut guest = Guest::new();
    for (attributes, expected) in [
        (4, INVALID),
        (5, INVALID),
        (8 | 2, INVALID),
        (0x107, INVALID),
        (0x8000_0007, INVALID),
        (0x17, Status::UNSUPPORTED),
        (0x87, Status::UNSUPPORTED),
    ] {
        assert_eq!(
            guest.set(SHIM, "A", attributes, b"x"),
            expected,
            "{attributes:#x}"
        );
    }
    assert_eq!(guest.set(SHIM, "HwErrRec0001", 0xf, b"x"), OK);
    assert_eq!(guest.get(SHIM, "HwErrRec0001"), Ok((0xf, b"x".to_vec())));
}

#[test]
fn appending_extends_creates_and_does_nothing_with_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7 | APPEND, b"one"), OK);
    assert_eq!(guest.set(SHIM, "A", 7 | APPEND, b"two"), OK);
    assert_eq!(guest.set(SHIM, "A", 7 | APPEND, &[]), OK);
    assert_eq!(guest.reload().get(SHIM, "A"), Ok((7, b"onetwo".to_vec())));
    assert_eq!(guest.set(SHIM, "A", 3 | APPEND, b"three"), INVALID);
    assert_eq!(guest.set(SHIM, "B", 7 | APPEND, &[]), OK);
    assert_eq!(guest.get(SHIM, "B"), Err(ABSENT));
}

#[test]
fn after_exit_boot_services_only_runtime_variables_are_seen_and_only_stored_ones_written() {
    let mut guest = Guest::new();
    for (name, attributes) in [
        ("Boot", 3),
        ("BootVolatile", 2),
        ("Run", 7),
        ("RunVolatile", 6),
    ] {
        assert_eq!(guest.set(SHIM, name, attributes, b"v"), OK);
    }
    guest.event(guids::EVENT_EXIT_BOOT_SERVICES);
    for (name, attributes, seen, written) in [
        ("Boot", 3, false, PROTECTED),
        ("BootVolatile", 2, false, PROTECTED),
        ("Run", 7, true, OK),
        ("RunVolatile", 6, true, PROTECTED),
        ("New", 7, false, OK),
        ("NewVolatile", 6, false, INVALID),
        ("NewBoot", 3, false, INVALID),
    ] {
        assert_eq!(guest.get(SHIM, name).is_ok(), seen, "{name}");
        assert_eq!(guest.set(SHIM, name, attributes, b"w"), written, "{name}");
        if name.starts_with("Boot") {
            assert_eq!(guest.set(SHIM, name, 0, &[]), PROTECTED);
            assert!(!guest.names().iter().any(|(_, seen)| seen == name));
        }
    }
    // The function does the same as the event.
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "Boot", 3, b"v"), OK);
    let reply = guest.send(
        guids::MM_VARIABLE,
        &[&6_u64.to_le_bytes()[..], &[0xaf; 8]].concat(),
    );
    assert_eq!(status(&reply), OK);
    assert_eq!(guest.get(SHIM, "Boot"), Err(ABSENT));
}

#[test]
fn status_variables_are_read_only() {
    let mut guest = Guest::new();
    for (guid, name) in [
        (GLOBAL, "SecureBoot"),
        (GLOBAL, "SetupMode"),
        (GLOBAL, "SignatureSupport"),
        (GLOBAL, "VendorKeys"),
        (GLOBAL, "VendorKeysNv"),
        (guids::CUSTOM_MODE, "CustomMode"),
    ] {
        let (attributes, value) = guest.get(guid, name).unwrap();
        for (attributes, data) in [
            (attributes, &[1][..]),
            (attributes, &[]),
            (0, &[]),
            (7, &[1]),
        ] {
            assert_eq!(guest.set(guid, name, attributes, data), PROTECTED, "{name}");
        }
        assert_eq!(guest.value(guid, name), value);
    }
    assert_eq!(
        guest.set(guids::SERVICE, "PlatformMode", 3, &[2]),
        PROTECTED
    );
    assert_eq!(guest.set(GLOBAL, "dbDefault", 6, b"set by firmware"), OK);
    guest.event(guids::EVENT_END_OF_DXE);
    assert_eq!(
        guest.set(GLOBAL, "dbDefault", 6, b"set by others"),
        PROTECTED
    );
}

#[test]
fn globally_defined_variables_have_the_attributes_and_sizes_of_the_specification() {
    let mut guest = Guest::new();
    for (name, attributes, data) in [
        ("Boot0001", 3, &b"x"[..]),
        ("BootNext", 7, b"x"),
        ("BootOrder", 7, b"xyz"),
        ("PK", 7, b"x"),
        ("Nonsense", 7, b"x"),
    ] {
        assert_eq!(guest.set(GLOBAL, name, attributes, data), INVALID, "{name}");
    }
}

#[test]
fn the_enumeration_keeps_its_order_whatever_is_written() {
    let mut guest = Guest::new();
    for name in ["A", "B", "C", "D"] {
        assert_eq!(guest.set(SHIM, name, 7, b"1"), OK);
    }
    let before = guest.names();
    assert_eq!(guest.set(SHIM, "A", 7, b"longer than before"), OK);
    assert_eq!(guest.set(SHIM, "C", 7 | APPEND, b"2"), OK);
    assert_eq!(guest.names(), before);
    assert_eq!(guest.set(SHIM, "B", 0, &[]), OK);
    assert_eq!(guest.set(SHIM, "D", 0, &[]), OK);
    assert_eq!(guest.set(SHIM, "E", 7, b"1"), OK);
    let ours = |guest: &mut Guest<Memory>| -> Vec<String> {
        let names = guest.names().into_iter();
        names
            .filter(|(guid, _)| *guid == SHIM)
            .map(|(_, name)| name)
            .collect()
    };
    assert_eq!(ours(&mut guest), ["A", "C", "E"]);
    assert_eq!(ours(&mut guest.reload()), ["A", "C", "E"]);
}

#[test]
fn an_unknown_name_does_not_continue_an_enumeration() {
    let mut guest = Guest::new();
    let mut body = [&2_u64.to_le_bytes()[..], &[0; 8], &SHIM.to_bytes()].concat();
    body.extend(64_u64.to_le_bytes());
    body.extend(name("Nobody"));
    body.resize(40 + 64, 0);
    assert_eq!(status(&guest.send(guids::MM_VARIABLE, &body)), INVALID);
    // No zero in the name.
    body[40..].fill(b'x');
    assert_eq!(status(&guest.send(guids::MM_VARIABLE, &body)), INVALID);
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
fn quotas_hold_and_keep_a_reserve_for_boot() {
    let quota = Quota {
        non_volatile: 10_000,
        volatile: 5_000,
        boot_reserve: 2_000,
        variables: 20,
        boot_reserve_variables: 5,
    };
    let config = Config {
        quota,
        ..Config::default()
    };
    let info = |guest: &mut Guest<Memory>, attributes: u32| {
        let mut body = [&4_u64.to_le_bytes()[..], &[0; 8], &[0; 24]].concat();
        body.extend(attributes.to_le_bytes());
        let reply = guest.send(guids::MM_VARIABLE, &body);
        assert_eq!(status(&reply), OK);
        let number = |n: usize| u64::from_le_bytes(reply[16 + n * 8..][..8].try_into().unwrap());
        (number(0), number(1), number(2))
    };
    let mut guest = Guest::with(Memory::default(), config);
    assert_eq!(info(&mut guest, 7), (10_000, 10_000, 0x8400));
    assert_eq!(info(&mut guest, 6), (5_000, 5_000, 0x8400));
    assert_eq!(guest.set(SHIM, "Big", 7, &[1; 7000]), OK);
    // 52 bytes for the header, 8 for the name.
    let free = 10_000 - 7000 - 60;
    assert_eq!(info(&mut guest, 7).1, free);
    assert_eq!(
        guest.set(SHIM, "Too", 7, &vec![1; free as usize - 59]),
        Status::OUT_OF_RESOURCES
    );
    assert_eq!(
        guest.set(SHIM, "Vol", 6, &[1; 4_960]),
        Status::OUT_OF_RESOURCES
    );
    guest.event(guids::EVENT_EXIT_BOOT_SERVICES);
    assert_eq!(info(&mut guest, 7).1, free - 2_000);
    let reserved = free as usize - 2_000;
    assert_eq!(
        guest.set(SHIM, "Run", 7, &vec![1; reserved - 59]),
        Status::OUT_OF_RESOURCES
    );
    assert_eq!(guest.set(SHIM, "Run", 7, &vec![1; reserved - 60]), OK);
    assert_eq!(info(&mut guest, 7).1, 0);
    // What gets smaller is never refused; at boot the reserve is there.
    assert_eq!(guest.set(SHIM, "Run", 7, b"small"), OK);
    assert_eq!(guest.set(SHIM, "Run", 7, &vec![1; reserved - 60]), OK);
    guest.service.power_on().unwrap();
    assert_eq!(guest.set(SHIM, "Bot", 7, &[1; 1_900]), OK);

    let mut guest = Guest::with(Memory::default(), config);
    let count = |guest: &mut Guest<Memory>, prefix: &str| {
        (0..100)
            .take_while(|n| guest.set(SHIM, &format!("{prefix}{n}"), 7, b"x") == OK)
            .count()
    };
    assert_eq!(guest.set(SHIM, "V", 6, b"x"), OK);
    guest.event(guids::EVENT_EXIT_BOOT_SERVICES);
    assert_eq!(count(&mut guest, "R"), 14);
    guest.service.power_on().unwrap();
    assert_eq!(count(&mut guest, "B"), 6);
    assert_eq!(guest.set(SHIM, "R0", 7, b"xy"), OK);
}

#[test]
fn names_and_values_have_limits() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, &vec![1; 0x8400]), OK);
    assert_eq!(guest.set(SHIM, "B", 7, &vec![1; 0x8401]), INVALID);
    assert_eq!(
        guest.set(SHIM, "A", 7 | APPEND, &[1]),
        Status::OUT_OF_RESOURCES
    );
    assert_eq!(guest.set(SHIM, &"n".repeat(511), 7, &[1]), OK);
    assert_eq!(guest.set(SHIM, &"n".repeat(512), 7, &[1]), INVALID);
    assert_eq!(guest.set(SHIM, "", 7, &[1]), INVALID);
}

#[test]
fn question_about_storage_needs_meaningful_attributes() {
    let service = Service::new(Volatile, Config::default()).unwrap();
    for (attributes, expected) in [
        (0, Status::UNSUPPORTED),
        (0x10, Status::UNSUPPORTED),
        (0x17, Status::UNSUPPORTED),
        (1, INVALID),
        (4, INVALID),
        (5, INVALID),
    ] {
        let info = service.query_info(uefivars::Attributes(attributes));
        assert_eq!(info, Err(expected), "{attributes:#x}");
    }
    let mut service = service;
    service.exit_boot_services();
    assert_eq!(service.query_info(uefivars::Attributes(3)), Err(INVALID));
    assert!(service.query_info(uefivars::Attributes(7)).is_ok());
}

#[test]
fn sizes_that_lie_are_refused() {
    let mut guest = Guest::new();
    for function in [1, 3] {
        for (offset, size) in [
            (32, u64::MAX),
            (40, u64::MAX),
            (40, 7),
            (32, 100),
            (40, 0),
            (40, 1 << 32),
        ] {
            let mut body = access(function, SHIM, "Name", 7, &[0; 8]);
            body[offset..offset + 8].copy_from_slice(&size.to_le_bytes());
            let reply = guest.send(guids::MM_VARIABLE, &body);
            assert!(status(&reply).is_error(), "{function} {offset} {size:#x}");
        }
    }
    let mut both = access(3, SHIM, "Name", 7, &[0; 8]);
    both[32..40].copy_from_slice(&(u64::MAX - 5).to_le_bytes());
    assert_eq!(
        status(&guest.send(guids::MM_VARIABLE, &both)),
        Status::BAD_BUFFER_SIZE
    );
}

#[test]
fn a_value_that_does_not_fit_is_announced_with_its_size() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "A", 7, b"value"), OK);
    let reply = guest.send(guids::MM_VARIABLE, &access(1, SHIM, "A", 0, &[0xee; 4]));
    assert_eq!(status(&reply), Status::BUFFER_TOO_SMALL);
    assert_eq!(reply[32..40], 5_u64.to_le_bytes());
    assert_eq!(reply[48..52], 7_u32.to_le_bytes());
    assert_eq!(reply[56..], [0xee; 4]);
}

#[test]
fn unknown_functions_and_messages_are_answered_as_qemu_does() {
    let mut guest = Guest::new();
    for function in [0, 7, 9, 10, 12, 13, 14, 15, u64::MAX] {
        let body = [&function.to_le_bytes()[..], &[0; 100]].concat();
        let reply = guest.send(guids::MM_VARIABLE, &body);
        assert_eq!(status(&reply), Status::UNSUPPORTED, "{function}");
    }
    let unknown: Guid = uefivars::guid!("00000000-1111-2222-3333-444444444444");
    let mut body = [1; 40];
    assert_eq!(
        guest.service.communicate(unknown, &mut body),
        Outcome::UnknownType(unknown)
    );
    assert_eq!(body, [1; 40]);
    let mut short = [1; 15];
    assert_eq!(
        guest.service.communicate(guids::MM_VARIABLE, &mut short),
        Outcome::TooShort
    );
    assert_eq!(
        guest.service.communicate(guids::MM_POLICY, &mut short),
        Outcome::TooShort
    );
    assert_eq!(short, [1; 15]);
}

#[test]
fn buffers_are_checked_before_they_are_used() {
    let mut service = Service::new(Volatile, Config::default()).unwrap();
    assert_eq!(
        service.communicate_buffer(&mut [0; 23]),
        Err(BufferError::TooSmall(23))
    );
    let mut large = vec![0; 64 * 1024 + 1];
    assert_eq!(
        service.communicate_buffer(&mut large),
        Err(BufferError::TooLarge(large.len()))
    );
    let mut buffer = [0; 64];
    for length in [41, u64::MAX] {
        buffer[16..24].copy_from_slice(&length.to_le_bytes());
        let expected = BufferError::Length { length, room: 40 };
        assert_eq!(service.communicate_buffer(&mut buffer), Err(expected));
    }
    buffer[16] = 40;
    buffer[17..24].fill(0);
    assert!(service.communicate_buffer(&mut buffer).is_ok());
    let mut whole = vec![0; 64 * 1024];
    whole[..16].copy_from_slice(&guids::MM_VARIABLE.to_bytes());
    whole[16..24].copy_from_slice(&65_512_u64.to_le_bytes());
    assert_eq!(service.communicate_buffer(&mut whole), Ok(Outcome::Replied));
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
fn locks_and_policies_hold_from_end_of_dxe_to_the_next_boot() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "Locked", 7, b"a"), OK);
    let lock = |guest: &mut Guest<Memory>, text: &str| {
        let name = name(text);
        let mut body = [&8_u64.to_le_bytes()[..], &[0; 8], &SHIM.to_bytes()].concat();
        body.extend((name.len() as u64).to_le_bytes());
        body.extend(name);
        status(&guest.send(guids::MM_VARIABLE, &body))
    };
    assert_eq!(lock(&mut guest, "Locked"), OK);
    assert_eq!(lock(&mut guest, "Locked"), OK);
    assert_eq!(guest.set(SHIM, "Locked", 7, b"b"), OK);
    guest.event(guids::EVENT_END_OF_DXE);
    assert_eq!(guest.set(SHIM, "Locked", 7, b"c"), PROTECTED);
    assert_eq!(guest.set(SHIM, "Locked", 0, &[]), PROTECTED);
    assert_eq!(lock(&mut guest, "Other"), Status::ACCESS_DENIED);
    guest.service.power_on().unwrap();
    guest.event(guids::EVENT_END_OF_DXE);
    assert_eq!(guest.set(SHIM, "Locked", 7, b"c"), OK);
}

/// A policy message: command, and what follows it.
fn policy(guest: &mut Guest<Memory>, command: u32, rest: &[u8]) -> (Status, Vec<u8>) {
    let mut body = b"VCPC\x01\0\0\0".to_vec();
    body.extend(command.to_le_bytes());
    body.extend([0xaf; 8]);
    body.extend(rest);
    let mut reply = guest.send(guids::MM_POLICY, &body);
    let result = Status(u64::from_le_bytes(reply[12..20].try_into().unwrap()));
    (result, reply.split_off(20))
}

/// An entry for `text` with sizes 1 to 4 that locks by the state of the variable S.
fn state_entry(text: &str) -> Vec<u8> {
    let state = [&SHIM.to_bytes()[..], &[1, 0], &name("S")].concat();
    let name = name(text);
    let mut entry = 0x1_0000_u32.to_le_bytes().to_vec();
    entry.extend(((44 + state.len() + name.len()) as u16).to_le_bytes());
    entry.extend(((44 + state.len()) as u16).to_le_bytes());
    entry.extend(SHIM.to_bytes());
    entry.extend([1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    entry.extend(state);
    entry.extend(name);
    entry
}

#[test]
fn policies_are_registered_dumped_described_and_enforced() {
    let mut guest = Guest::new();
    let entry = state_entry("P#");
    assert_eq!(policy(&mut guest, 3, &entry).0, OK);
    assert_eq!(policy(&mut guest, 3, &entry).0, Status::ALREADY_STARTED);
    assert_eq!(
        policy(&mut guest, 2, &[0xee; 4]),
        (OK, vec![1, 0xee, 0xee, 0xee])
    );
    assert_eq!(policy(&mut guest, 1, &[]).0, Status::UNSUPPORTED);
    for unknown in [0, 8, u32::MAX] {
        assert_eq!(policy(&mut guest, unknown, &[]).0, Status::UNSUPPORTED);
    }

    // A dump in pages of 50 bytes.
    let page = |guest: &mut Guest<Memory>, number: u32| {
        let request = [&number.to_le_bytes()[..], &[0; 9], &[0; 50]].concat();
        let (result, reply) = policy(guest, 4, &request);
        let field = |n: usize| u32::from_le_bytes(reply[n * 4..][..4].try_into().unwrap()) as usize;
        (result, field(1), field(2), reply[12], reply[13..].to_vec())
    };
    assert_eq!(page(&mut guest, 1).0, Status::TIMEOUT);
    let first = page(&mut guest, 0);
    assert_eq!((first.0, first.1, first.3), (OK, entry.len(), 1));
    let mut dumped: Vec<u8> = Vec::new();
    for number in 1.. {
        let (result, total, size, more, data) = page(&mut guest, number);
        assert_eq!((result, total), (OK, entry.len()));
        dumped.extend(&data[..size]);
        if more == 0 {
            break;
        }
    }
    assert_eq!(dumped, entry);
    assert_eq!(page(&mut guest, 99).0, INVALID);

    // Who decides about P1, and by what.
    let ask = |guest: &mut Guest<Memory>, command: u32, text: &str, room: u32| {
        let name = name(text);
        let mut request = SHIM.to_bytes().to_vec();
        request.extend((name.len() as u32).to_le_bytes());
        request.extend(room.to_le_bytes());
        request.extend([0; 44]);
        request.extend(&name);
        request.resize(68 + name.len() + 32, 0xee);
        let (result, reply) = policy(guest, command, &request);
        let size = u32::from_le_bytes(reply[20..24].try_into().unwrap());
        let out = reply[68 + name.len()..].to_vec();
        (result, size, reply[24..68].to_vec(), out)
    };
    let (result, size, header, out) = ask(&mut guest, 6, "P1", 32);
    assert_eq!(
        (result, size, &header[..], &out[..6]),
        (OK, 6, &entry[..44], &b"P\0#\0\0\0"[..])
    );
    let (result, size, header, out) = ask(&mut guest, 7, "P1", 4);
    assert_eq!(
        (result, size, &header[..18], &out[..4]),
        (OK, 4, &entry[44..62], &b"S\0\0\0"[..])
    );
    assert_eq!(ask(&mut guest, 6, "P1", 5).0, Status::BUFFER_TOO_SMALL);
    assert_eq!(ask(&mut guest, 6, "Q1", 32).0, ABSENT);
    assert_eq!(ask(&mut guest, 6, "P1", 33).0, Status::BAD_BUFFER_SIZE);

    guest.event(guids::EVENT_END_OF_DXE);
    assert_eq!(guest.set(SHIM, "P1", 7, b"12345"), INVALID);
    assert_eq!(guest.set(SHIM, "P1", 6, b"1234"), INVALID);
    assert_eq!(guest.set(SHIM, "P1", 7, b"1234"), OK);
    assert_eq!(guest.set(SHIM, "S", 6, &[1]), OK);
    assert_eq!(guest.set(SHIM, "P1", 7, b"1"), PROTECTED);
    assert_eq!(guest.set(SHIM, "P1", 0, &[]), PROTECTED);
    assert_eq!(guest.set(SHIM, "S", 6, &[2]), OK);
    assert_eq!(guest.set(SHIM, "P1", 0, &[]), OK);
    guest.event(guids::EVENT_READY_TO_BOOT);
    assert_eq!(policy(&mut guest, 3, &state_entry("Q#")).0, PROTECTED);
}

#[test]
fn the_signature_of_a_policy_message_is_checked() {
    let mut guest = Guest::new();
    for (offset, value) in [(0, b'X'), (4, 2)] {
        let mut body = b"VCPC\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        body[offset] = value;
        let reply = guest.send(guids::MM_POLICY, &body);
        assert_eq!(reply[12..20], INVALID.0.to_le_bytes());
    }
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
