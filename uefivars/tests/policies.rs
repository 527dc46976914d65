//! Variable policies and locks, over MM messages.

mod common;

use common::{Guest, SHIM, name, status};
use uefivars::memory::Memory;
use uefivars::{Status, guids};

const OK: Status = Status::SUCCESS;
const INVALID: Status = Status::INVALID_PARAMETER;
const PROTECTED: Status = Status::WRITE_PROTECTED;
const ABSENT: Status = Status::NOT_FOUND;

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
