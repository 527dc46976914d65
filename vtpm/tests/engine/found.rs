//! What the comparison with the reference found, each as a test of its own.

use vtpm::storage::StorageError;

use crate::client::*;

const LOCALITY: u32 = 0x907;

fn at(client: &mut Client, locality: u8, command: &[u8]) -> u32 {
    let mut response = Vec::new();
    client.tpm.execute(locality, command, &mut response);
    u32::from_be_bytes(response[6..10].try_into().unwrap())
}

fn startup_at(client: &mut Client, locality: u8, state: bool) -> u32 {
    let command = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, u8::from(state)];
    at(client, locality, &command)
}

#[test]
fn a_clear_takes_a_shutdown_back() {
    let mut client = started();
    assert_eq!(client.shutdown(true), 0);
    assert_eq!(client.authorized(0x126, &[PLATFORM], &[b""], &[]).0, 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(startup_at(&mut client, 0, true), 0x1C4);
    assert_eq!(client.startup(), 0);
}

#[test]
fn a_new_session_leaves_a_shutdown_valid() {
    let mut client = started();
    assert_eq!(client.shutdown(true), 0);
    let mut body = [NULL.to_be_bytes(), NULL.to_be_bytes()].concat();
    body.extend([0, 16]);
    body.extend([7; 16]);
    body.extend([0, 0, 0, 0, 0x10, 0, 0x0B]);
    assert_eq!(client.plain(0x176, &body).0, 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(startup_at(&mut client, 0, true), 0);
}

#[test]
fn only_the_locality_that_started_may_resume() {
    let mut client = started();
    client.tpm.power_cycle().unwrap();
    assert_eq!(startup_at(&mut client, 3, false), 0);
    assert_eq!(client.shutdown(true), 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(startup_at(&mut client, 0, true), LOCALITY);
    assert_eq!(startup_at(&mut client, 3, true), 0);
    assert_eq!(client.shutdown(true), 0);
    client.tpm.power_cycle().unwrap();
    assert_eq!(startup_at(&mut client, 3, true), 0);
}

#[test]
fn no_command_resets_a_dynamic_pcr_from_locality_4() {
    let mut client = started();
    for pcr in 17..=22u8 {
        let command = [
            0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3D, 0, 0, 0, pcr, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1,
            0, 0,
        ];
        assert_eq!(at(&mut client, 4, &command), LOCALITY, "PCR {pcr}");
    }
}

#[test]
fn the_clock_is_safe_again_from_its_next_update_on() {
    let mut client = started();
    let safe = |client: &mut Client| *client.plain(0x181, &[]).1.last().unwrap();
    client.cut_power();
    assert_eq!(safe(&mut client), 0);
    *client.now.lock().unwrap() += 4096;
    assert_eq!(safe(&mut client), 1);
}

/// TPMS_TIME_INFO: the clock, and whether it is safe.
fn clock(client: &mut Client) -> (u64, bool) {
    let (rc, info) = client.plain(0x181, &[]);
    assert_eq!(rc, 0);
    (
        u64::from_be_bytes(info[8..16].try_into().unwrap()),
        info[24] == 1,
    )
}

#[test]
fn a_safe_clock_has_never_shown_more() {
    let mut client = started();
    let mut shown = 0;
    for step in [1, 4095, 5000, 1_000_000, 4096, 77] {
        *client.now.lock().unwrap() += step;
        shown = shown.max(clock(&mut client).0);
        client.cut_power();
        for _ in 0..9 {
            *client.now.lock().unwrap() += 1000;
            let (now, safe) = clock(&mut client);
            assert!(!safe || now >= shown, "safe at {now} after {shown}");
            assert!(now + 4096 > shown, "{now} after {shown}");
            shown = shown.max(now);
        }
        assert!(clock(&mut client).1);
    }
}

#[test]
fn the_clock_stands_still_while_it_cannot_be_written() {
    let mut client = started();
    *client.now.lock().unwrap() += 3000;
    let (before, _) = clock(&mut client);
    client.store.lock().fail_after(0, StorageError::Unavailable);
    for _ in 0..3 {
        *client.now.lock().unwrap() += 3000;
        // The command itself needs no storage.
        let (now, _) = clock(&mut client);
        assert!((before..4096).contains(&now), "{now}");
    }
    client.store.lock().heal();
    *client.now.lock().unwrap() += 10;
    assert!(clock(&mut client).0 >= 4096);
}

#[test]
fn a_clear_brings_the_first_dictionary_attack_settings_back() {
    let mut client = started();
    let settings = [10u32, 20, 30].map(u32::to_be_bytes).concat();
    assert_eq!(client.authorized(0x13A, &[LOCKOUT], &[b""], &settings).0, 0);
    assert_eq!(client.property(0x20F), 10);
    assert_eq!(client.authorized(0x126, &[PLATFORM], &[b""], &[]).0, 0);
    assert_eq!(
        [0x20F, 0x210, 0x211].map(|property| client.property(property)),
        [3, 1000, 1000]
    );
}

#[test]
fn a_certified_time_does_not_come_again_after_a_shutdown() {
    let mut client = started();
    // An ECC P-256 key that signs with ECDSA.
    let public = [
        0, 0x23, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0,
    ];
    let parameters = [&[0, 4, 0, 0, 0, 0, 0, 24][..], &public, &[0; 6]].concat();
    for (command, safe) in [(0x181, true), (0x14C, false)] {
        let (rc, answer) = client.authorized(0x131, &[OWNER], &[b""], &parameters);
        assert_eq!(rc, 0);
        let key = u32::from_be_bytes(answer[..4].try_into().unwrap());
        assert_eq!(client.shutdown(false), 0);
        let rc = match command {
            0x181 => client.plain(command, &[]).0,
            _ => {
                client
                    .authorized(command, &[0x4000_000B, key], &[b"", b""], &[0, 0, 0, 0x10])
                    .0
            }
        };
        assert_eq!(rc, 0);
        client.cut_power();
        assert_eq!(clock(&mut client).1, safe, "after {command:#x}");
    }
}

#[test]
fn children_of_an_endorsement_key_do_not_outlive_a_clear() {
    const ENDORSEMENT: u32 = 0x4000_000B;
    let mut client = started();
    // An ECC P-256 storage key, and a sealed byte below it.
    let parent = [
        0, 4, 0, 0, 0, 0, 0, 26, 0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0,
        0x10, 0, 3, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let child = [
        0, 5, 0, 0, 0, 1, b'x', 0, 14, 0, 8, 0, 0x0B, 0, 0, 0, 0x52, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
        0, 0, 0,
    ];
    for (hierarchy, survives) in [(OWNER, false), (ENDORSEMENT, false), (PLATFORM, true)] {
        let make = |client: &mut Client| {
            let (rc, answer) = client.authorized(0x131, &[hierarchy], &[b""], &parent);
            assert_eq!(rc, 0);
            u32::from_be_bytes(answer[..4].try_into().unwrap())
        };
        let key = make(&mut client);
        let (rc, answer) = client.authorized(0x153, &[key], &[b""], &child);
        assert_eq!(rc, 0);
        let answer = &answer[4..];
        let sized = |at: usize| 2 + usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
        let private = sized(0);
        let blobs = answer[..private + sized(private)].to_vec();
        assert_eq!(client.authorized(0x157, &[key], &[b""], &blobs).0, 0);
        client.cut_power();
        let key = make(&mut client);
        assert_eq!(client.authorized(0x157, &[key], &[b""], &blobs).0, 0);
        assert_eq!(client.authorized(0x126, &[PLATFORM], &[b""], &[]).0, 0);
        client.cut_power();
        let key = make(&mut client);
        let rc = client.authorized(0x157, &[key], &[b""], &blobs).0;
        assert_eq!(rc, if survives { 0 } else { 0x1DF }, "{hierarchy:#x}");
        client.cut_power();
    }
}
