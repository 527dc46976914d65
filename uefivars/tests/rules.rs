//! The rules for variables without authentication, over MM messages.

mod common;

use common::{APPEND, GLOBAL, Guest, SHIM, access, name, status};
use uefivars::memory::Memory;
use uefivars::mm::{BufferError, Outcome};
use uefivars::storage::Volatile;
use uefivars::{Config, Guid, Quota, Service, Status, guids};

const OK: Status = Status::SUCCESS;
const INVALID: Status = Status::INVALID_PARAMETER;
const PROTECTED: Status = Status::WRITE_PROTECTED;
const ABSENT: Status = Status::NOT_FOUND;

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
