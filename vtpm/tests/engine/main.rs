//! The TPM as a whole: what is durable when, and what no input can do.

mod client;
mod found;

use client::*;
use vtpm::{Existing, Origin, PowerOnError, storage::StorageError};

const INDEX: u32 = 0x0150_0000;

/// CreatePrimary parameters for a template: no data, no PCRs.
fn primary(template: &[u8]) -> Vec<u8> {
    let mut params = vec![0, 4, 0, 0, 0, 0];
    params.extend((template.len() as u16).to_be_bytes());
    params.extend(template);
    params.extend([0, 0, 0, 0, 0, 0]);
    params
}

fn ecc_storage_key() -> Vec<u8> {
    let mut params = vec![0, 0x23, 0, 0x0B, 0, 3, 0, 0x72, 0, 0];
    params.extend([0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
    primary(&params)
}

#[test]
fn written_index_is_there_after_a_power_cut() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b""), 0);
    assert_eq!(client.write(INDEX, b"durable!"), 0);
    client.cut_power();
    assert_eq!(client.read(INDEX, 8).unwrap(), b"durable!");
}

#[test]
fn nothing_of_a_command_remains_when_its_commit_fails() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b""), 0);
    assert_eq!(client.write(INDEX, b"before.."), 0);
    for (error, rc) in [
        (StorageError::Unavailable, 0x923),
        (StorageError::Busy, 0x920),
        (StorageError::Full, 0x14B),
    ] {
        client.store.lock().fail_after(0, error);
        assert_eq!(client.write(INDEX, b"after..."), rc);
        assert_eq!(client.define(INDEX + 1, OPEN, 8, b""), rc);
        assert_eq!(
            client.authorized(0x129, &[OWNER], &[b""], &[0, 1, b'x']).0,
            rc
        );
        // What needs no storage still works, and shows the old state.
        assert_eq!(client.read(INDEX, 8).unwrap(), b"before..");
        assert_eq!(client.read(INDEX + 1, 8), Err(0x28B));
        client.store.lock().heal();
    }
    assert_eq!(client.write(INDEX, b"after..."), 0);
    client.cut_power();
    assert_eq!(client.read(INDEX, 8).unwrap(), b"after...");
}

#[test]
fn counter_never_shows_a_value_twice() {
    for attributes in [COUNTER, COUNTER | ORDERLY] {
        let mut client = started();
        assert_eq!(client.define(INDEX, attributes, 8, b""), 0);
        let mut last = 0;
        for round in 0..6 {
            for _ in 0..=round * 50 {
                assert_eq!(client.increment(INDEX), 0);
                let value = client.counter(INDEX);
                assert!(value > last, "{value} after {last}");
                last = value;
            }
            if round % 2 == 0 {
                assert_eq!(client.shutdown(false), 0);
            }
            client.cut_power();
            assert!(client.counter(INDEX) >= last);
        }
        // Neither does one that is defined again under the same or another handle.
        let value = client.counter(INDEX);
        assert_eq!(client.authorized(0x122, &[OWNER, INDEX], &[b""], &[]).0, 0);
        client.cut_power();
        assert_eq!(client.define(INDEX + 1, attributes, 8, b""), 0);
        assert_eq!(client.increment(INDEX + 1), 0);
        assert!(client.counter(INDEX + 1) > value);
    }
}

#[test]
fn orderly_counter_writes_its_record_every_256_values() {
    let mut client = started();
    assert_eq!(client.define(INDEX, COUNTER | ORDERLY, 8, b""), 0);
    assert_eq!(client.increment(INDEX), 0);
    let before = client.store.lock().commits();
    for _ in 0..512 {
        assert_eq!(client.increment(INDEX), 0);
    }
    assert_eq!(client.store.lock().commits() - before, 2);
}

#[test]
fn first_manufacture_and_later_starts_are_told_apart() {
    let store = Shared::default();
    let first = power_on(&store, 1).unwrap();
    assert_eq!(first.origin, Origin::Manufactured);
    let key = first.tpm.ek_public().to_vec();
    let second = power_on(&store, 2).unwrap();
    assert_eq!(second.origin, Origin::Loaded);
    assert_eq!(second.tpm.ek_public(), key);
}

#[test]
fn interrupted_manufacture_is_detected_and_done_again() {
    let store = Shared::default();
    store.lock().fail_after(1, StorageError::Unavailable);
    let error = power_on(&store, 1).err();
    assert_eq!(
        error,
        Some(PowerOnError::Storage(StorageError::Unavailable))
    );
    store.lock().heal();
    let mut client = power_on(&store, 2).unwrap();
    assert_eq!(client.origin, Origin::ManufacturedAgain);
    assert_eq!(client.startup(), 0);
    // The same when an existing TPM is manufactured again: the old seeds do not come back.
    let old = client.tpm.ek_public().to_vec();
    let commits = store.lock().commits();
    store.lock().fail_after(1, StorageError::Unavailable);
    assert!(power_on_with(Existing::Replace, &store, 3).is_err());
    assert_eq!(store.lock().commits(), commits + 1);
    store.lock().heal();
    let client = power_on(&store, 4).unwrap();
    assert_eq!(client.origin, Origin::ManufacturedAgain);
    assert_ne!(client.tpm.ek_public(), old);
}

#[test]
fn owner_can_have_a_new_tpm_in_place_of_one() {
    let store = Shared::default();
    let first = power_on_with(Existing::Replace, &store, 1).unwrap();
    assert_eq!(first.origin, Origin::Manufactured);
    let second = power_on_with(Existing::Replace, &store, 2).unwrap();
    assert_eq!(second.origin, Origin::Replaced);
    assert_ne!(second.tpm.ek_public(), first.tpm.ek_public());
    let kept = power_on(&store, 3).unwrap();
    assert_eq!(kept.origin, Origin::Loaded);
    assert_eq!(kept.tpm.ek_public(), second.tpm.ek_public());
}

#[test]
fn a_commit_of_unknown_outcome_is_undone_before_anything_is_said_to_be_written() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b""), 0);
    assert_eq!(client.write(INDEX, b"the old "), 0);
    client.store.lock().leave_undecided();
    assert_eq!(client.write(INDEX, b"the new "), 0x923);
    // As far as memory knows there is nothing to write; the disk may know better.
    assert_eq!(client.write(INDEX, b"the old "), 0x923);
    client.store.lock().heal();
    assert_eq!(client.write(INDEX, b"the old "), 0);
    client.cut_power();
    assert_eq!(client.read(INDEX, 8).unwrap(), b"the old ");

    // What nobody settled may show after a power cut, as a whole.
    client.store.lock().leave_undecided();
    assert_eq!(client.write(INDEX, b"the new "), 0x923);
    client.store.lock().heal();
    client.cut_power();
    assert_eq!(client.read(INDEX, 8).unwrap(), b"the new ");
}

#[test]
fn damaged_record_is_an_error_and_never_a_new_tpm() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b""), 0);
    assert_eq!(client.shutdown(true), 0);
    let ids: Vec<u32> = client.store.lock().records_mut().keys().copied().collect();
    assert!(ids.len() >= 11, "{ids:x?}");
    for id in ids {
        let whole = client.store.lock().records_mut()[&id].clone();
        for at in [0, 6, whole.len() / 2, whole.len() - 1] {
            client.store.lock().records_mut().get_mut(&id).unwrap()[at] ^= 1;
            let error = power_on(&client.store, 2).err();
            let version = matches!(error, Some(PowerOnError::Version(_)));
            assert!(
                version || error == Some(PowerOnError::Damaged(id)),
                "{id:x} {at}: {error:?}"
            );
            client.store.lock().records_mut().insert(id, whole.clone());
        }
        for size in [0, 7, whole.len() - 1] {
            client
                .store
                .lock()
                .records_mut()
                .get_mut(&id)
                .unwrap()
                .truncate(size);
            assert_eq!(
                power_on(&client.store, 2).err(),
                Some(PowerOnError::Damaged(id))
            );
            client.store.lock().records_mut().insert(id, whole.clone());
        }
        client.store.lock().records_mut().remove(&id);
        // An index that is gone cannot be told from one that never was; the volume can.
        if id != INDEX {
            assert_eq!(
                power_on(&client.store, 2).err(),
                Some(PowerOnError::Damaged(id))
            );
        }
        client.store.lock().records_mut().insert(id, whole);
    }
    client
        .store
        .lock()
        .records_mut()
        .insert(0x77, Default::default());
    assert_eq!(
        power_on(&client.store, 2).err(),
        Some(PowerOnError::Damaged(0x77))
    );
}

#[test]
fn records_of_two_numbers_cannot_be_exchanged() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b""), 0);
    assert_eq!(client.define(INDEX + 1, OPEN, 8, b""), 0);
    let mut store = client.store.lock();
    let one = store.records_mut()[&INDEX].clone();
    let other = store.records_mut().insert(INDEX + 1, one).unwrap();
    store.records_mut().insert(INDEX, other);
    drop(store);
    assert_eq!(
        power_on(&client.store, 2).err(),
        Some(PowerOnError::Damaged(INDEX))
    );
}

#[test]
fn failed_authorization_is_durable_before_it_is_answered() {
    let mut client = started();
    assert_eq!(client.define(INDEX, OPEN, 8, b"secret"), 0);
    assert_eq!(client.write(INDEX, b"........"), 0);
    // The first use of a protected entity is recorded before the entity is used.
    let commits = client.store.lock().commits();
    assert_eq!(client.read_as(INDEX, b"secret", INDEX, 8), Err(RETRY));
    assert_eq!(client.store.lock().commits(), commits + 1);
    assert_eq!(client.read_as(INDEX, b"wrong", INDEX, 8), Err(0x98E));
    assert_eq!(client.store.lock().commits(), commits + 2);
    assert_eq!(client.property(0x20E), 1);
    // Without a shutdown the power cut itself counts as a failure that was not seen.
    client.cut_power();
    assert_eq!(client.property(0x20E), 2);
    assert_eq!(client.read_as(INDEX, b"wrong", INDEX, 8), Err(RETRY));
    assert_eq!(client.read_as(INDEX, b"wrong", INDEX, 8), Err(0x98E));
    assert_eq!(client.read_as(INDEX, b"secret", INDEX, 8), Err(0x921));
    assert_eq!(client.shutdown(false), 0);
    client.cut_power();
    assert_eq!(client.read_as(INDEX, b"secret", INDEX, 8), Err(0x921));
    // Time forgives one failure after the recovery time.
    *client.now.lock().unwrap() += 1_000_001;
    assert_eq!(client.read_as(INDEX, b"secret", INDEX, 8), Err(RETRY));
    assert_eq!(
        client.read_as(INDEX, b"secret", INDEX, 8).unwrap(),
        b"........"
    );
    // A failure that cannot be recorded is not answered as one.
    client.store.lock().fail_after(0, StorageError::Unavailable);
    assert_eq!(client.read_as(INDEX, b"wrong", INDEX, 8), Err(0x923));
    client.store.lock().heal();
    assert_eq!(client.property(0x20E), 2);
}

#[test]
fn lockout_authorization_fails_once() {
    let mut client = started();
    assert_eq!(
        client.authorized(0x139, &[LOCKOUT], &[b"wrong"], &[]).0,
        0x98E
    );
    assert_eq!(client.authorized(0x139, &[LOCKOUT], &[b""], &[]).0, 0x921);
    client.cut_power();
    assert_eq!(client.authorized(0x139, &[LOCKOUT], &[b""], &[]).0, 0x921);
    *client.now.lock().unwrap() += 1_000_001;
    assert_eq!(client.authorized(0x139, &[LOCKOUT], &[b""], &[]).0, 0);
}

#[test]
fn a_boot_commits_twice() {
    let mut client = started();
    assert_eq!(client.shutdown(false), 0);
    client.tpm.power_cycle().unwrap();
    let commits = client.store.lock().commits();
    assert_eq!(client.startup(), 0);
    for pcr in 0..8u32 {
        let mut digests = vec![0, 0, 0, 1, 0, 0x0B];
        digests.extend([pcr as u8; 32]);
        assert_eq!(client.authorized(0x182, &[pcr], &[b""], &digests).0, 0);
    }
    assert_eq!(client.plain(0x17B, &[0, 32]).0, 0);
    assert_eq!(
        client
            .authorized(0x131, &[OWNER], &[b""], &ecc_storage_key())
            .0,
        0
    );
    assert_eq!(
        client
            .authorized(0x129, &[PLATFORM], &[b""], &[0, 1, b'x'])
            .0,
        0
    );
    assert_eq!(client.shutdown(false), 0);
    assert_eq!(client.store.lock().commits() - commits, 2);
}

#[test]
fn primary_key_is_the_same_after_a_reboot_and_another_after_clear() {
    let mut client = started();
    let make = |client: &mut Client, hierarchy| {
        let (rc, body) = client.authorized(0x131, &[hierarchy], &[b""], &ecc_storage_key());
        assert_eq!(rc, 0);
        assert_eq!(client.plain(0x165, &body[..4]).0, 0);
        // handle, parameter size, size of the public area, public area
        body[8..8 + 90].to_vec()
    };
    let owner = make(&mut client, OWNER);
    let null = make(&mut client, NULL);
    assert_eq!(make(&mut client, OWNER), owner);
    assert_eq!(make(&mut client, NULL), null);
    client.cut_power();
    assert_eq!(make(&mut client, OWNER), owner);
    assert_ne!(make(&mut client, NULL), null);
    assert_eq!(client.authorized(0x126, &[PLATFORM], &[b""], &[]).0, 0);
    assert_ne!(make(&mut client, OWNER), owner);
}

#[test]
fn endorsement_key_of_the_manifest_is_the_one_a_client_makes() {
    let mut client = started();
    let mut template = vec![0, 1, 0, 0x0B, 0, 3, 0, 0xB2, 0, 32];
    template.extend((0..32).map(|i| u8::from_str_radix(&EK_POLICY[2 * i..2 * i + 2], 16).unwrap()));
    template.extend([0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 1, 0]);
    template.extend([0; 256]);
    let (rc, body) = client.authorized(0x131, &[ENDORSEMENT], &[b""], &primary(&template));
    assert_eq!(rc, 0);
    let size = usize::from(u16::from_be_bytes([body[8], body[9]]));
    assert_eq!(client.tpm.ek_public(), &body[10..10 + size]);
    // ChangeEPS changes both.
    let old = client.tpm.ek_public().to_vec();
    assert_eq!(client.authorized(0x124, &[PLATFORM], &[b""], &[]).0, 0);
    assert_ne!(client.tpm.ek_public(), old);
}

/// PolicySecret(endorsement), as hex.
const EK_POLICY: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

#[test]
fn saved_state_comes_back_with_startup_state_only() {
    let mut client = started();
    let mut digests = vec![0, 0, 0, 1, 0, 0x0B];
    digests.extend([7; 32]);
    assert_eq!(client.authorized(0x182, &[0], &[b""], &digests).0, 0);
    assert_eq!(client.authorized(0x182, &[16], &[b""], &digests).0, 0);
    let read = |client: &mut Client| {
        client
            .plain(0x17E, &[0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 1])
            .1
            .split_off(4)
    };
    let before = read(&mut client);
    assert_eq!(client.shutdown(true), 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(client.plain(0x144, &[0, 1]).0, 0);
    let after = read(&mut client);
    assert_eq!(before[..10 + 4 + 2 + 32], after[..10 + 4 + 2 + 32]);
    assert_ne!(before, after);
    // Once used, or outdated by a later change, it does not come back.
    client.tpm.power_cycle().unwrap();
    assert_eq!(client.plain(0x144, &[0, 1]).0, 0x1C4);
    assert_eq!(client.startup(), 0);
    assert_eq!(client.shutdown(true), 0);
    assert_eq!(client.authorized(0x182, &[0], &[b""], &digests).0, 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(client.plain(0x144, &[0, 1]).0, 0x1C4);
}

#[test]
fn every_cut_of_a_command_gets_a_whole_answer() {
    let mut client = started();
    let mut commands: Vec<Vec<u8>> = Vec::new();
    let mut params = ecc_storage_key();
    let mut command = vec![
        0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 9,
    ];
    command.extend([0x40, 0, 0, 9, 0, 0, 1, 0, 0]);
    command.append(&mut params);
    commands.push(command);
    commands.push(vec![
        0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x7A, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 1, 0,
    ]);
    for whole in &commands {
        for size in 0..=whole.len() {
            let mut command = whole[..size].to_vec();
            if size >= 6 {
                command[2..6].copy_from_slice(&(size as u32).to_be_bytes());
            }
            let (rc, _) = client.raw(&command);
            assert!(rc != 0 || size == whole.len());
        }
    }
}

#[test]
fn random_bytes_after_each_command_code_do_no_harm() {
    let mut client = started();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for round in 0..40u32 {
        for code in 0x11F..0x19A {
            if matches!(code, 0x124 | 0x144 | 0x145) {
                continue;
            }
            let size = (next() % 64) as usize;
            let mut body: Vec<u8> = (0..size).map(|_| (next() & 3) as u8).collect();
            if round % 2 == 1 && size > 8 {
                body[..4].copy_from_slice(
                    &[PLATFORM, OWNER, NULL, 0][next() as usize % 4].to_be_bytes(),
                );
            }
            client.plain(code, &body);
            client.authorized(code, &[PLATFORM], &[b""], &body);
        }
    }
    assert_eq!(client.plain(0x17B, &[0, 8]).0, 0);
}
