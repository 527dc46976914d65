//! The UEFI variable service: MM buffers of a guest, with events, resets and failing
//! storage in between. Nothing is written outside of the body; what is stored is what the
//! service says; a variable of another boot is there or not as it was answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uefivars::memory::{Fault, Memory};
use uefivars::storage::StorageError;
use uefivars::{Config, Guid, Quota, Service, guids, record};

const NAMES: [&str; 12] = [
    "A",
    "B",
    "Boot0001",
    "BootOrder",
    "PK",
    "KEK",
    "db",
    "dbx",
    "SecureBootEnable",
    "AuditMode",
    "DeployedMode",
    "SetupMode",
];
const NAMESPACES: [Guid; 5] = [
    guids::GLOBAL,
    guids::IMAGE_SECURITY_DATABASE,
    guids::SECURE_BOOT_ENABLE,
    guids::EVENT_END_OF_DXE,
    guids::SERVICE,
];
const PAYLOADS: [&[u8]; 8] = [
    include_bytes!("../../uefivars/tests/vectors/pk-self.auth"),
    include_bytes!("../../uefivars/tests/vectors/kek.auth"),
    include_bytes!("../../uefivars/tests/vectors/db.auth"),
    include_bytes!("../../uefivars/tests/vectors/db-later.auth"),
    include_bytes!("../../uefivars/tests/vectors/dbx-append-kek2.auth"),
    include_bytes!("../../uefivars/tests/vectors/pk-delete.auth"),
    include_bytes!("../../uefivars/tests/vectors/virt-KEK.auth"),
    include_bytes!("../../uefivars/tests/vectors/private.auth"),
];

/// Takes bytes off the front; zeros when there are none left.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.byte()).min(most).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A size: right, or one of those that break sums.
    fn size(&mut self, right: usize) -> u64 {
        match self.byte() {
            0..224 => right as u64,
            224..232 => u64::from(self.byte()),
            232..240 => right as u64 + 1,
            240..248 => u64::MAX - u64::from(self.byte()),
            byte => 1 << (byte % 64),
        }
    }
}

fn name(input: &mut Input<'_>) -> Vec<u8> {
    let mut name: Vec<u8> = match input.byte() {
        0..240 => input
            .pick(&NAMES)
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
        _ => input.bytes(64).to_vec(),
    };
    if input.byte() < 248 {
        name.extend([0, 0]);
    }
    name
}

fn variable_message(input: &mut Input<'_>) -> Vec<u8> {
    let function = match input.byte() {
        0..224 => input.pick(&[1, 2, 3, 3, 3, 4, 5, 6, 8, 11]),
        byte => u64::from(byte),
    };
    let mut body = function.to_le_bytes().to_vec();
    body.extend([0xaf; 8]);
    body.extend(input.pick(&NAMESPACES).to_bytes());
    let name = name(input);
    match function {
        1 | 3 => {
            let data = match input.byte() {
                0..96 => input.pick(&PAYLOADS),
                96..224 => input.bytes(255),
                byte => &[0x5a; 40_000][..usize::from(byte) * 156],
            };
            body.extend(input.size(data.len()).to_le_bytes());
            body.extend(input.size(name.len()).to_le_bytes());
            body.extend(
                input
                    .pick(&[7_u32, 0x27, 0x67, 3, 6, 2, 0, 0x47, 0xff])
                    .to_le_bytes(),
            );
            body.extend(&name);
            body.extend(data);
        }
        4 => body.extend(input.bytes(32)),
        _ => {
            let room = usize::from(input.byte());
            body.extend(input.size(name.len().max(room)).to_le_bytes());
            body.extend(&name);
            body.resize(body.len().max(40 + room), 0);
        }
    }
    body
}

fn policy_message(input: &mut Input<'_>) -> Vec<u8> {
    let mut body = b"VCPC\x01\0\0\0".to_vec();
    body.extend(u32::from(input.byte() % 9).to_le_bytes());
    body.extend([0; 8]);
    let namespace = input.pick(&NAMESPACES).to_bytes();
    match body[8] {
        3 => {
            let state = match input.byte() % 4 {
                3 => [&namespace[..], &[1, 0], &name(input)].concat(),
                _ => Vec::new(),
            };
            let name = if input.byte() < 224 {
                name(input)
            } else {
                Vec::new()
            };
            let offset = 44 + state.len();
            body.extend(0x1_0000_u32.to_le_bytes());
            body.extend((input.size(offset + name.len()) as u16).to_le_bytes());
            body.extend((input.size(offset) as u16).to_le_bytes());
            body.extend(namespace);
            for _ in 0..2 {
                let size = usize::from(input.byte());
                body.extend((input.size(size) as u32).to_le_bytes());
            }
            body.extend(u32::from(input.byte() % 8).to_le_bytes());
            body.extend(u32::from(input.byte() & 0x80).to_le_bytes());
            body.extend([input.byte() % 5, 0, 0, 0]);
            body.extend(state);
            body.extend(name);
        }
        6 | 7 => {
            let name = name(input);
            body.extend(namespace);
            body.extend((input.size(name.len()) as u32).to_le_bytes());
            body.extend((input.size(20) as u32).to_le_bytes());
            body.extend([0; 44]);
            body.extend(name);
            body.extend([0; 20]);
        }
        _ => body.extend(input.bytes(200)),
    }
    body
}

fn config() -> Config {
    Config {
        self_signed_pk: true,
        enforce_secure_boot: false,
        quota: Quota {
            non_volatile: 100_000,
            volatile: 60_000,
            boot_reserve: 4_000,
            variables: 24,
            boot_reserve_variables: 4,
        },
    }
}

/// What is stored is what the service has.
fn check(service: &Service<Memory>) {
    let stored: Vec<_> = service
        .storage()
        .records()
        .values()
        .map(|bytes| record::decode(bytes).expect("a record that was written reads back"))
        .filter(|variable| variable.key.guid != guids::SERVICE)
        .collect();
    for variable in &stored {
        assert!(service.variables().any(|known| known == variable));
    }
    // Three variables that are derived say that they are not volatile.
    let kept = service
        .variables()
        .filter(|variable| variable.attributes.non_volatile());
    assert!((stored.len()..=stored.len() + 3).contains(&kept.count()));
    assert!(service.variables().count() <= 24 + 9);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut service = Service::new(Memory::default(), config()).expect("an empty store loads");
    for _ in 0..64 {
        if input.0.is_empty() {
            break;
        }
        let (guid, body) = match input.byte() {
            0..160 => (guids::MM_VARIABLE, variable_message(&mut input)),
            160..208 => (guids::MM_POLICY, policy_message(&mut input)),
            208..216 => {
                let events = [
                    guids::EVENT_END_OF_DXE,
                    guids::EVENT_READY_TO_BOOT,
                    guids::EVENT_EXIT_BOOT_SERVICES,
                ];
                (input.pick(&events), vec![0])
            }
            216..224 => {
                service.storage_mut().set_fault(Fault::None);
                service.power_on().expect("memory");
                continue;
            }
            224..232 => {
                let disk = service.storage().power_cycle();
                service = Service::new(disk, config()).expect("what was stored loads");
                check(&service);
                continue;
            }
            232..240 => {
                let error = input.pick(&[StorageError::Device, StorageError::NoSpace]);
                let count = u32::from(input.byte() % 4);
                service
                    .storage_mut()
                    .set_fault(Fault::FailAfter(count, error));
                continue;
            }
            240..248 => (
                input.pick(&[guids::MM_VARIABLE, guids::MM_POLICY]),
                input.bytes(255).to_vec(),
            ),
            _ => (guids::GLOBAL, input.bytes(64).to_vec()),
        };
        // Behind the body is memory that is none of the service's business.
        let mut buffer = guid.to_bytes().to_vec();
        buffer.extend((body.len() as u64).to_le_bytes());
        buffer.extend(&body);
        buffer.extend([0xcc; 16]);
        if buffer.len() > uefivars::mm::MAX_BUFFER {
            continue;
        }
        let header = buffer[..24].to_vec();
        service.communicate_buffer(&mut buffer).expect("sizes fit");
        assert_eq!(buffer[..24], header);
        assert_eq!(buffer[24 + body.len()..], [0xcc; 16]);
        check(&service);
    }
});
