//! What the comparison with the reference found, each as a test of its own.

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
