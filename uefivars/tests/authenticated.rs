//! Authenticated variables and Secure Boot keys, with payloads of other tools.

mod common;

use common::{APPEND, AT, DB, GLOBAL, Guest, SHIM, vector};
use uefivars::memory::Memory;
use uefivars::{Attributes, Config, EfiTime, Enrolled, InitialSet, Mode, Status, guids, siglist};

const REFUSED: Status = Status::SECURITY_VIOLATION;
const OK: Status = Status::SUCCESS;

fn time_of(guest: &Guest<Memory>, guid: uefivars::Guid, name: &str) -> EfiTime {
    guest.service.variable(guid, name).unwrap().time
}

fn modes(guest: &mut Guest<Memory>) -> [u8; 4] {
    ["SetupMode", "SecureBoot", "AuditMode", "DeployedMode"]
        .map(|name| guest.value(GLOBAL, name)[0])
}

#[test]
fn keys_are_enrolled_from_setup_mode_and_count_in_the_next_boot() {
    let mut guest = Guest::new();
    assert_eq!(modes(&mut guest), [1, 0, 0, 0]);
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    assert_eq!(guest.set(GLOBAL, "KEK", AT, &vector("kek.auth")), OK);
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-self.auth")), OK);
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    assert_eq!(guest.value(GLOBAL, "PK"), vector("pk.esl"));
    assert_eq!(guest.value(GLOBAL, "KEK"), vector("kek-all.esl"));
    assert_eq!(guest.value(DB, "db"), vector("other.esl"));
    assert!(guest.service.flags().secureboot_enabled);
    assert!(guest.service.flags().secureboot_db_update);

    let mut guest = guest.reload();
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    assert_eq!(guest.service.mode(), Mode::User);
    assert_eq!(guest.service.flags().bits(), 0b111);
    assert_eq!(
        time_of(&guest, GLOBAL, "PK"),
        EfiTime::new(2025, 1, 1, 0, 0, 0)
    );
}

#[test]
fn a_pk_that_is_not_signed_with_its_own_key_is_refused() {
    let mut guest = Guest::new();
    let mut corrupt = vector("pk-self.auth");
    let end_of_signature = corrupt.len() - vector("pk.esl").len() - 1;
    corrupt[end_of_signature] ^= 1;
    for bad in [vector("pk-by-other.auth"), vector("virt-PK.auth"), corrupt] {
        assert_eq!(guest.set(GLOBAL, "PK", AT, &bad), REFUSED);
    }
    assert_eq!(modes(&mut guest), [1, 0, 0, 0]);
    assert_eq!(guest.get(GLOBAL, "PK"), Err(Status::NOT_FOUND));
}

#[test]
fn an_unsigned_pk_is_taken_in_setup_mode_where_the_owner_allows_it() {
    let config = Config {
        self_signed_pk: false,
        ..Config::default()
    };
    let mut guest = Guest::with(Memory::default(), config);
    for (guid, name) in [(DB, "db"), (GLOBAL, "KEK"), (GLOBAL, "PK")] {
        assert_eq!(
            guest.set(guid, name, AT, &vector(&format!("virt-{name}.auth"))),
            OK
        );
    }
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    assert_eq!(guest.value(GLOBAL, "PK"), vector("pk.esl"));
    // And not any more after that.
    assert_eq!(guest.set(DB, "db", AT, &vector("virt-db.auth")), REFUSED);
}

#[test]
fn in_user_mode_each_key_is_changed_by_the_one_above_it() {
    let mut guest = Guest::in_user_mode();
    assert_eq!(
        guest.set(DB, "db", AT, &vector("db-by-other.auth")),
        REFUSED
    );
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    assert_eq!(guest.set(DB, "db", AT, &vector("db-later.auth")), OK);
    assert_eq!(
        guest.value(DB, "db"),
        [vector("pk.esl"), vector("kek.esl")].concat()
    );
    assert_eq!(guest.set(DB, "db", AT, &vector("db-by-pk.auth")), OK);
    assert_eq!(
        guest.set(GLOBAL, "KEK", AT, &vector("kek-by-other.auth")),
        REFUSED
    );
    assert_eq!(
        guest.set(GLOBAL, "KEK", AT | APPEND, &vector("kek-append.auth")),
        OK
    );
    assert_eq!(
        guest.value(GLOBAL, "KEK"),
        [vector("kek-all.esl"), vector("other.esl")].concat()
    );
    assert_eq!(
        guest.set(GLOBAL, "PK", AT, &vector("pk-to-other.auth")),
        REFUSED
    );
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-to-pk2.auth")), OK);
    // The old one has lost its power.
    assert_eq!(
        guest.set(GLOBAL, "PK", AT, &vector("pk-delete.auth")),
        REFUSED
    );
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
}

#[test]
fn deleting_pk_leads_back_to_setup_mode() {
    let mut guest = Guest::in_user_mode();
    assert_eq!(
        guest.set(guids::SECURE_BOOT_ENABLE, "SecureBootEnable", 3, &[0]),
        OK
    );
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-delete.auth")), OK);
    assert_eq!(modes(&mut guest), [1, 0, 0, 0]);
    assert_eq!(
        guest.get(guids::SECURE_BOOT_ENABLE, "SecureBootEnable"),
        Err(Status::NOT_FOUND)
    );
    let mut guest = guest.reload();
    assert_eq!(modes(&mut guest), [1, 0, 0, 0]);
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-self.auth")), OK);
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
}

#[test]
fn time_stamps_only_go_forward() {
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    // The same once more, and an older one.
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), REFUSED);
    assert_eq!(guest.set(DB, "db", AT, &vector("db-earlier.auth")), REFUSED);
    let mut guest = guest.reload();
    assert_eq!(guest.set(DB, "db", AT, &vector("db-earlier.auth")), REFUSED);
    assert_eq!(guest.set(DB, "db", AT, &vector("db-later.auth")), OK);
    assert_eq!(guest.set(DB, "db", AT, &vector("db-delete.auth")), OK);
    assert_eq!(guest.get(DB, "db"), Err(Status::NOT_FOUND));
}

#[test]
fn appending_merges_lists_and_keeps_the_later_time() {
    let mut guest = Guest::in_user_mode();
    let hashes = |all: &[u8]| {
        all.iter().fold(Vec::new(), |lists, n| {
            let owner = uefivars::guid!("11111111-2222-3333-4444-123456789abc");
            let one = siglist::single(guids::CERT_SHA256, owner, &[*n; 32]).unwrap();
            siglist::merge(&lists, &one).unwrap()
        })
    };
    assert_eq!(guest.set(DB, "dbx", AT, &vector("dbx.auth")), OK);
    assert_eq!(guest.value(DB, "dbx"), hashes(&[1]));
    assert_eq!(
        guest.set(DB, "dbx", AT | APPEND, &vector("dbx-append-earlier.auth")),
        OK
    );
    assert_eq!(guest.value(DB, "dbx"), hashes(&[1, 2]));
    assert_eq!(
        time_of(&guest, DB, "dbx"),
        EfiTime::new(2025, 1, 1, 0, 0, 0)
    );
    assert_eq!(
        guest.set(DB, "dbx", AT | APPEND, &vector("dbx-append-kek2.auth")),
        OK
    );
    assert_eq!(guest.value(DB, "dbx"), hashes(&[1, 2]));
    assert_eq!(
        time_of(&guest, DB, "dbx"),
        EfiTime::new(2025, 5, 1, 0, 0, 0)
    );
    assert_eq!(
        guest.service.variable(DB, "dbx").unwrap().attributes,
        Attributes(AT)
    );
}

#[test]
fn payloads_of_sbsigntool_are_accepted() {
    let mut guest = Guest::in_user_mode();
    assert_eq!(
        guest.set(DB, "db", AT | APPEND, &vector("sb-db-append.auth")),
        OK
    );
    assert_eq!(guest.value(DB, "db"), vector("kek.esl"));
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.set(DB, "db", AT, &vector("sb-db.auth")), OK);
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("sb-private.auth")),
        OK
    );
    assert_eq!(guest.value(SHIM, "Private"), b"first");
}

#[test]
fn every_algorithm_is_verified() {
    let mut accepted = 0;
    for entry in std::fs::read_dir(common::vectors()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(way) = file.strip_prefix("way-") else {
            continue;
        };
        let expected = if way.starts_with("refused-") {
            REFUSED
        } else {
            OK
        };
        let mut guest = Guest::in_user_mode();
        assert_eq!(guest.set(DB, "db", AT, &vector(&file)), expected, "{file}");
        accepted += usize::from(expected == OK);
    }
    assert_eq!(accepted, 12);
}

#[test]
fn a_signature_counts_only_for_what_was_signed() {
    for file in [
        "refused-attribute.auth",
        "refused-name.auth",
        "refused-namespace.auth",
    ] {
        assert_eq!(
            Guest::in_user_mode().set(DB, "db", AT, &vector(file)),
            REFUSED,
            "{file}"
        );
    }
    let mut guest = Guest::in_user_mode();
    for (name, attributes, expected) in [
        ("dbx", AT, REFUSED),
        ("db", AT | APPEND, REFUSED),
        ("db", 0x07, Status::INVALID_PARAMETER),
        ("db", 0x23, Status::INVALID_PARAMETER),
        ("db", 0x37, Status::UNSUPPORTED),
        ("db", 0xa7, Status::UNSUPPORTED),
        ("dby", AT, Status::INVALID_PARAMETER),
    ] {
        let status = guest.set(DB, name, attributes, &vector("db.auth"));
        if name == "dby" {
            assert!(status.is_error());
        } else {
            assert_eq!(status, expected, "{name} {attributes:#x}");
        }
    }
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
}

#[test]
fn damaged_requests_are_refused() {
    let mut guest = Guest::in_user_mode();
    let good = vector("db.auth");
    let signature = u32::from_le_bytes(good[16..20].try_into().unwrap()) as usize - 24;
    // Cut off anywhere.
    for len in 0..good.len() {
        let status = guest.set(DB, "db", AT, &good[..len]);
        assert_eq!(status, REFUSED, "{len}");
    }
    // A byte more: of the value, and of the signature.
    let mut long = good.clone();
    long.push(0);
    assert_eq!(guest.set(DB, "db", AT, &long), REFUSED);
    let mut long = good.clone();
    long.insert(40 + signature, 0);
    long[16..20].copy_from_slice(&(signature as u32 + 25).to_le_bytes());
    assert_eq!(guest.set(DB, "db", AT, &long), REFUSED);
    // A byte less of the signature, and other kinds of header.
    let mut short = good.clone();
    short.remove(40 + signature - 1);
    short[16..20].copy_from_slice(&(signature as u32 + 23).to_le_bytes());
    assert_eq!(guest.set(DB, "db", AT, &short), REFUSED);
    for offset in [7, 8, 12, 14, 15, 20, 22, 24, 39] {
        let mut bad = good.clone();
        bad[offset] ^= 1;
        assert_eq!(guest.set(DB, "db", AT, &bad), REFUSED, "{offset}");
    }
    // Impossible sizes in a list that is signed.
    for file in ["dbx-cut-list.auth", "dbx-long-list.auth"] {
        assert_eq!(
            guest.set(DB, "dbx", AT, &vector(file)),
            Status::INVALID_PARAMETER,
            "{file}"
        );
    }
    assert_eq!(
        guest.set(GLOBAL, "PK", AT, &vector("pk-two.auth")),
        Status::INVALID_PARAMETER
    );
    assert_eq!(
        guest.set(GLOBAL, "PK", AT | APPEND, &vector("pk-to-pk2.auth")),
        Status::INVALID_PARAMETER
    );
    assert_eq!(guest.set(DB, "db", AT, &good), OK);
}

#[test]
fn without_a_signature_nothing_in_user_mode_is_deleted() {
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    for (guid, name) in [(GLOBAL, "PK"), (GLOBAL, "KEK"), (DB, "db")] {
        for attributes in [0, 1, 7, AT, AT | APPEND] {
            assert!(
                guest.set(guid, name, attributes, &[]).is_error(),
                "{name} {attributes:#x}"
            );
        }
        assert!(guest.get(guid, name).is_ok());
    }
}

#[test]
fn a_private_variable_belongs_to_who_created_it() {
    let mut guest = Guest::new();
    assert_eq!(guest.set(SHIM, "Private", AT, &vector("private.auth")), OK);
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-by-kek.auth")),
        REFUSED
    );
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-delete-by-kek.auth")),
        REFUSED
    );
    assert_eq!(
        guest.set(SHIM, "Private", 7, b"plain"),
        Status::INVALID_PARAMETER
    );
    assert_eq!(guest.set(SHIM, "Private", 0, &[]), REFUSED);
    let mut guest = guest.reload();
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-by-kek.auth")),
        REFUSED
    );
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private.auth")),
        REFUSED
    );
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-later.auth")),
        OK
    );
    assert_eq!(
        guest.set(SHIM, "Private", AT | APPEND, &vector("private-append.auth")),
        OK
    );
    assert_eq!(guest.value(SHIM, "Private"), b"second third");
    assert_eq!(
        time_of(&guest, SHIM, "Private"),
        EfiTime::new(2025, 1, 2, 0, 0, 0)
    );
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-delete.auth")),
        OK
    );
    assert_eq!(guest.get(SHIM, "Private"), Err(Status::NOT_FOUND));
    // Now it is anybody's again.
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-by-kek.auth")),
        OK
    );
}

#[test]
fn the_owner_of_a_chain_is_its_top_and_the_name_at_its_end() {
    use sha2::Digest;
    let mut guest = Guest::new();
    assert_eq!(
        guest.set(SHIM, "Private", AT, &vector("private-chain.auth")),
        OK
    );
    // SHA-256 over the common name and the signed part of the intermediate certificate,
    // which comes first in it.
    let top = vector("middle.der");
    let tbs_len = usize::from(u16::from_be_bytes([top[6], top[7]])) + 4;
    let mut hash = sha2::Sha256::new();
    hash.update(b"leaf");
    hash.update(&top[4..4 + tbs_len]);
    let owner: [u8; 32] = hash.finalize().into();
    assert_eq!(
        guest.service.variable(SHIM, "Private").unwrap().owner,
        Some(owner)
    );
}

#[test]
fn the_updates_of_microsoft_are_accepted() {
    use virtfw_libefi::sb::{certs, dbx};
    let microsoft = uefivars::guid!("77fa9abd-0359-4d32-bd60-28f4e78f784b");
    for (kek, update) in [
        (certs::MICROSOFT_KEK_2011, dbx::DBX_2011_X86_64),
        (certs::MICROSOFT_KEK_2023, dbx::DBX_2023_X86_64),
        (certs::MICROSOFT_KEK_2011, dbx::DBX_2011_AARCH64),
        (certs::MICROSOFT_KEK_2023, dbx::DBX_2023_AARCH64),
    ] {
        let list = |certificate| siglist::single(guids::CERT_X509, microsoft, certificate).unwrap();
        let mut guest = Guest::new();
        let set = InitialSet {
            pk: &list(certs::MICROSOFT_PK_2023),
            kek: &list(kek),
            db: &list(certs::MICROSOFT_DB_UEFI_2011),
            ..InitialSet::default()
        };
        assert_eq!(guest.service.enroll(&set), Ok(Enrolled::Yes));
        assert_eq!(guest.set(DB, "dbx", AT | APPEND, update), OK);
        let stored = guest.value(DB, "dbx");
        assert!(update.ends_with(&stored[stored.len() - 48..]));
        // Not with the KEK of somebody else.
        let mut guest = Guest::in_user_mode();
        assert_eq!(guest.set(DB, "dbx", AT | APPEND, update), REFUSED);
    }
}

#[test]
fn enrolling_changes_nothing_that_is_there() {
    let lists = |name: &str| vector(name);
    let (pk, kek) = (lists("pk.esl"), lists("kek-all.esl"));
    let set = InitialSet {
        pk: &pk,
        kek: &kek,
        ..InitialSet::default()
    };
    let mut guest = Guest::new();
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    assert_eq!(guest.service.enroll(&set), Ok(Enrolled::KeysPresent));
    assert_eq!(modes(&mut guest), [1, 0, 0, 0]);

    let mut guest = Guest::new();
    assert_eq!(guest.service.enroll(&set), Ok(Enrolled::Yes));
    let commits = guest.service.storage().commits;
    assert_eq!(commits, 1);
    assert_eq!(guest.service.enroll(&set), Ok(Enrolled::KeysPresent));
    assert_eq!(guest.service.storage().commits, commits);
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    let bad = InitialSet { kek: &[], ..set };
    assert_eq!(
        Guest::new().service.enroll(&bad),
        Err(Status::INVALID_PARAMETER)
    );
}

#[test]
fn the_four_modes_lead_into_each_other_as_specified() {
    // Setup to audit, which stays, to deployed by enrolling PK.
    let mut guest = Guest::new();
    assert_eq!(
        guest.set(GLOBAL, "DeployedMode", 6, &[1]),
        Status::WRITE_PROTECTED
    );
    assert_eq!(guest.set(GLOBAL, "AuditMode", 6, &[1]), OK);
    let mut guest = guest.reload();
    assert_eq!(modes(&mut guest), [1, 0, 1, 0]);
    assert_eq!(
        guest.set(GLOBAL, "AuditMode", 6, &[0]),
        Status::WRITE_PROTECTED
    );
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-self.auth")), OK);
    assert_eq!(modes(&mut guest), [0, 1, 0, 1]);
    let mut guest = guest.reload();
    assert_eq!(guest.service.mode(), Mode::Deployed);
    for (name, data) in [("DeployedMode", 0), ("AuditMode", 1)] {
        assert_eq!(guest.set(GLOBAL, name, 6, &[data]), Status::WRITE_PROTECTED);
    }
    // Out of it only with the owner's signature.
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-delete.auth")), OK);
    assert_eq!(modes(&mut guest.reload()), [1, 0, 0, 0]);

    // User to deployed, and user to audit, which loses PK.
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.set(GLOBAL, "DeployedMode", 6, &[1]), OK);
    assert_eq!(modes(&mut guest.reload()), [0, 1, 0, 1]);
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.set(GLOBAL, "AuditMode", 6, &[1]), OK);
    assert_eq!(modes(&mut guest.reload()), [1, 0, 1, 0]);
    assert_eq!(guest.get(GLOBAL, "PK"), Err(Status::NOT_FOUND));

    // Not after ExitBootServices.
    let mut guest = Guest::in_user_mode();
    guest.event(guids::EVENT_EXIT_BOOT_SERVICES);
    for name in ["AuditMode", "DeployedMode"] {
        assert_eq!(guest.set(GLOBAL, name, 6, &[1]), Status::WRITE_PROTECTED);
    }
}

#[test]
fn secure_boot_can_be_switched_off_only_where_the_owner_lets_it() {
    let enable = guids::SECURE_BOOT_ENABLE;
    let mut guest = Guest::in_user_mode();
    assert_eq!(guest.value(enable, "SecureBootEnable"), [1]);
    assert_eq!(guest.set(enable, "SecureBootEnable", 3, &[0]), OK);
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    let mut guest = guest.reload();
    assert_eq!(modes(&mut guest), [0, 0, 0, 0]);
    assert!(!guest.service.flags().secureboot_enabled);

    let config = Config {
        enforce_secure_boot: true,
        ..Config::default()
    };
    // What was switched off before does not count any more either.
    let mut guest = Guest::with(guest.service.storage().power_cycle(), config);
    assert_eq!(modes(&mut guest), [0, 1, 0, 0]);
    assert_eq!(
        guest.set(enable, "SecureBootEnable", 3, &[0]),
        Status::WRITE_PROTECTED
    );
    assert_eq!(
        guest.set(GLOBAL, "AuditMode", 6, &[1]),
        Status::WRITE_PROTECTED
    );
    for (attributes, data) in [(3, &[2][..]), (3, &[0, 0]), (7, &[1])] {
        assert_eq!(
            guest.set(enable, "SecureBootEnable", attributes, data),
            Status::INVALID_PARAMETER
        );
    }
}

#[test]
fn at_run_time_keys_change_with_a_signature_and_what_secure_boot_says_stays() {
    let mut guest = Guest::in_user_mode();
    guest.event(guids::EVENT_EXIT_BOOT_SERVICES);
    assert_eq!(guest.set(DB, "db", AT, &vector("db.auth")), OK);
    assert_eq!(guest.set(GLOBAL, "PK", AT, &vector("pk-delete.auth")), OK);
    assert_eq!(modes(&mut guest), [1, 1, 0, 0]);
    assert_eq!(modes(&mut guest.reload()), [1, 0, 0, 0]);
}
