//! What the TPM's targets share: a TPM that is the same in every run, with a persistent key,
//! an NV index of each kind and sessions, on storage that can fail.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use vtpm::{
    Tpm,
    crypto::{HashAlg, KdfRng, Native, hash},
    environment::{Environment, RandomError},
    storage::{Change, Memory, RecordBytes, RecordId, Storage, StorageError},
};

type Records = Vec<(RecordId, RecordBytes)>;

struct Fixed {
    random: KdfRng,
    now: u64,
}

impl Environment for Fixed {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.random.generate(out);
        Ok(())
    }
    fn now_ms(&mut self) -> u64 {
        self.now += 7;
        self.now
    }
}

/// Storage that the test can still see, and that fails when told to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Memory>>);

impl Shared {
    fn with<T>(&self, run: impl FnOnce(&mut Memory) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn holding(records: &Records) -> Self {
        let shared = Self::default();
        shared.with(|memory| *memory.records_mut() = records.iter().cloned().collect());
        shared
    }
    fn records(&self) -> Records {
        self.with(|memory| memory.records_mut().clone().into_iter().collect())
    }
}

impl Storage for Shared {
    fn load(&mut self) -> Result<Records, StorageError> {
        self.with(Storage::load)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        self.with(|memory| memory.commit(changes))
    }
}

fn power_on(storage: &Shared) -> Result<Tpm, vtpm::PowerOnError> {
    let random = KdfRng::new(HashAlg::Sha256, b"fuzz", "fuzz", &[]);
    let environment = Box::new(Fixed { random, now: 0 });
    Tpm::power_on(environment, Box::new(storage.clone()), &Native).map(|(tpm, _)| tpm)
}

/// Runs a command; every answer is whole.
fn execute(tpm: &mut Tpm, command: &[u8]) -> Vec<u8> {
    let mut response = Vec::new();
    tpm.execute(0, command, &mut response);
    assert!(
        (10..=4096).contains(&response.len()),
        "response of {} bytes",
        response.len()
    );
    let size = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
    assert_eq!(
        size as usize,
        response.len(),
        "the header's size is the response's"
    );
    let code = &response[6..10];
    assert!(
        code == [0; 4] || response.len() == 10,
        "an error has no parameters"
    );
    response
}

fn command(code: u32, body: &[u8], sessions: bool) -> Vec<u8> {
    let tag = if sessions { 0x8002u16 } else { 0x8001 };
    let size = 10 + body.len() as u32;
    [
        &tag.to_be_bytes()[..],
        &size.to_be_bytes(),
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

/// The authorization area with one empty password.
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
/// TPM2_GetCapability of the persistent handles.
const HANDLES: [u8; 12] = [0, 0, 0, 1, 0x81, 0, 0, 0, 0, 0, 0, 9];

/// An ECC P-256 storage key: TPM2B_PUBLIC.
const STORAGE_KEY: &[u8] = &[
    0, 26, 0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0,
    0, 0, 0,
];

fn must(tpm: &mut Tpm, code: u32, body: &[u8], sessions: bool) -> Vec<u8> {
    let response = execute(tpm, &command(code, body, sessions));
    assert_eq!(
        response[6..10],
        [0; 4],
        "command {code:#x} of the preparation"
    );
    response
}

/// The records of a TPM with a key at 0x81000001 and NV indices 0x01500000 to 3.
static RECORDS: LazyLock<Records> = LazyLock::new(|| {
    let storage = Shared::default();
    let mut tpm = power_on(&storage).expect("an empty store gives a new TPM");
    execute(&mut tpm, &STARTUP);
    let owner = 0x4000_0001u32.to_be_bytes();
    let key = create_primary(&mut tpm);
    let persist = [&owner[..], &key, &PASSWORD, &0x8100_0001u32.to_be_bytes()].concat();
    must(&mut tpm, 0x120, &persist, true);
    must(&mut tpm, 0x165, &key, false);
    // Ordinary, counter, bits, extend; the first two also orderly.
    for (index, kind, orderly, size) in [
        (0u32, 0u32, 0, 32u16),
        (1, 1, 1, 8),
        (2, 2, 0, 8),
        (3, 4, 0, 32),
    ] {
        let attributes = 0x0006_0006 | kind << 4 | orderly << 26;
        let public = [
            &(0x0150_0000 + index).to_be_bytes()[..],
            &[0, 0x0B],
            &attributes.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let define = [
            &owner[..],
            &PASSWORD,
            &[0, 0, 0, public.len() as u8],
            &public,
        ]
        .concat();
        must(&mut tpm, 0x12A, &define, true);
    }
    execute(&mut tpm, &command(0x145, &[0, 1], false));
    storage.records()
});

fn create_primary(tpm: &mut Tpm) -> [u8; 4] {
    let body = [
        &0x4000_0001u32.to_be_bytes()[..],
        &PASSWORD,
        &[0, 4, 0, 0, 0, 0],
        STORAGE_KEY,
        &[0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let response = must(tpm, 0x131, &body, true);
    [response[10], response[11], response[12], response[13]]
}

/// A started TPM with an HMAC session (0x02000000) and a policy session (0x03000001).
fn started(storage: &Shared) -> Tpm {
    let mut tpm = power_on(storage).expect("the TPM's own records load");
    execute(&mut tpm, &STARTUP);
    let null = 0x4000_0007u32.to_be_bytes();
    for kind in [0u8, 1] {
        let body = [
            &null[..],
            &null,
            &[0, 16],
            &[kind; 16],
            &[0, 0, kind, 0, 0x10, 0, 0x0B],
        ]
        .concat();
        must(&mut tpm, 0x176, &body, false);
    }
    tpm
}

/// Power off and on. The TPM stays not started when storage fails.
fn restart(tpm: &mut Tpm) {
    tpm.power_cycle().expect("what was committed loads");
    execute(tpm, &STARTUP);
}

/// On storage that works, the TPM loads and answers again after whatever happened.
fn still_works(tpm: &mut Tpm) {
    restart(tpm);
    must(tpm, 0x17A, &HANDLES, false);
}

/// One command of any bytes.
pub fn one_command(data: &[u8]) {
    let storage = Shared::holding(&RECORDS);
    let mut tpm = started(&storage);
    execute(&mut tpm, data);
    still_works(&mut tpm);
}

/// Commands with right headers. Of each, two bytes say which code, one how it is authorized,
/// one how long its body is; codes out of range are power cycles and storage that fails.
pub fn stream(data: &[u8]) {
    let storage = Shared::holding(&RECORDS);
    let mut tpm = started(&storage);
    let mut rest = data;
    for _ in 0..32 {
        let Some((&[code, how, handles, size], after)) = rest.split_first_chunk() else {
            break;
        };
        let (body, after) = after.split_at(after.len().min(usize::from(size)));
        rest = after;
        match code {
            0xF0..=0xF7 => restart(&mut tpm),
            0xF8..=0xFB => storage
                .with(|memory| memory.fail_after(u64::from(how & 3), StorageError::Unavailable)),
            0xFC..=0xFF => storage.with(Memory::heal),
            _ => {
                let code = 0x11F + u32::from(code % 0x79);
                // Up to three handles come first; the body continues behind the authorization.
                let count = usize::from(handles & 3) * 4;
                let (handles, parameters) = body.split_at(count.min(body.len()));
                let sessions = PASSWORD[4..].repeat(usize::from(how & 3));
                let bytes = if sessions.is_empty() {
                    command(code, body, false)
                } else {
                    let area = [&(sessions.len() as u32).to_be_bytes()[..], &sessions].concat();
                    command(code, &[handles, &area, parameters].concat(), true)
                };
                execute(&mut tpm, &bytes);
            }
        }
    }
    storage.with(Memory::heal);
    still_works(&mut tpm);
}

/// The stored state, damaged: each step of four bytes names a record and what is done to it.
pub fn records(data: &[u8]) {
    let mut records = RECORDS.clone();
    let mut rest = data;
    for _ in 0..8 {
        let Some((&[which, how, at, size], after)) = rest.split_first_chunk() else {
            break;
        };
        let (bytes, after) = after.split_at(after.len().min(usize::from(size)));
        rest = after;
        if records.is_empty() {
            break;
        }
        let index = usize::from(which) % records.len();
        let (id, record) = &mut records[index];
        match how % 5 {
            // Other contents under a right head and checksum: only the parser stands before them.
            0 | 1 if record.len() > 16 => {
                let end = record.len() - 8;
                let start = 8 + usize::from(at) % (end - 8);
                let mut body = record[..start].to_vec();
                body.extend_from_slice(bytes);
                if how % 5 == 1 {
                    body.extend_from_slice(
                        record.get(start + bytes.len()..end).unwrap_or_default(),
                    );
                }
                let sum = hash(HashAlg::Sha256, &[&id.to_be_bytes(), &body]);
                body.extend_from_slice(&sum[..8]);
                *record = RecordBytes::new(body);
            }
            0..=2 => *record = RecordBytes::new(bytes.to_vec()),
            3 => {
                records.remove(index);
            }
            _ => *id = id.wrapping_add(u32::from(at)),
        }
    }
    let storage = Shared::holding(&records);
    let before = storage.records();
    let Ok(mut tpm) = power_on(&storage) else {
        assert!(
            storage.records() == before,
            "a state that was refused stays as it is"
        );
        return;
    };
    execute(&mut tpm, &STARTUP);
    for code in [0x181, 0x17C] {
        execute(&mut tpm, &command(code, &[], false));
    }
    execute(&mut tpm, &command(0x17A, &HANDLES, false));
    for index in 0..4u32 {
        let handle = (0x0150_0000 + index).to_be_bytes();
        execute(&mut tpm, &command(0x169, &handle, false));
        execute(
            &mut tpm,
            &command(
                0x14E,
                &[&handle[..], &handle, &PASSWORD, &[0, 8, 0, 0]].concat(),
                true,
            ),
        );
        execute(
            &mut tpm,
            &command(0x134, &[&handle[..], &handle, &PASSWORD].concat(), true),
        );
    }
    create_primary_quietly(&mut tpm);
    execute(
        &mut tpm,
        &command(0x173, &0x8100_0001u32.to_be_bytes(), false),
    );
    execute(&mut tpm, &command(0x145, &[0, 1], false));
}

fn create_primary_quietly(tpm: &mut Tpm) {
    let owner = 0x4000_0001u32.to_be_bytes();
    let body = [
        &owner[..],
        &PASSWORD,
        &[0, 4, 0, 0, 0, 0],
        STORAGE_KEY,
        &[0; 6],
    ]
    .concat();
    execute(tpm, &command(0x131, &body, true));
}
