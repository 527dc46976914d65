//! The power goes at every commit of a stream of commands, before it and right after it: what
//! was answered is there again, nothing that failed left a trace, counters never repeat a
//! value, failed authorizations stay counted, and the TPM always starts.

use std::sync::{Arc, Mutex};

use vtpm::{
    Origin, Tpm,
    crypto::{HashAlg, KdfRng, Native},
    environment::{Environment, RandomError},
    storage::{Change, Memory, RecordBytes, RecordId, Storage, StorageError},
};

const OWNER: [u8; 4] = [0x40, 0, 0, 1];
const DATA: [u8; 4] = [0x01, 0x50, 0, 0];
const COUNTER: [u8; 4] = [0x01, 0x50, 0, 1];
const ORDERLY_COUNTER: [u8; 4] = [0x01, 0x50, 0, 2];
const PROTECTED: [u8; 4] = [0x01, 0x50, 0, 3];

struct Fixed(KdfRng, u64);

impl Environment for Fixed {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.0.generate(out);
        Ok(())
    }
    fn now_ms(&mut self) -> u64 {
        self.1 += 1;
        self.1
    }
}

/// What the storage does when its time has come.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cut {
    /// The commit fails, nothing is written.
    Before,
    /// The commit is done, but nobody hears of it.
    After,
}

#[derive(Clone)]
struct Disk(Arc<Mutex<(Memory, u64, Cut)>>);

impl Disk {
    fn new(memory: Memory, commits: u64, cut: Cut) -> Self {
        Self(Arc::new(Mutex::new((memory, commits, cut))))
    }
    fn memory(&self) -> Memory {
        self.0.lock().unwrap().0.clone()
    }
}

impl Storage for Disk {
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError> {
        self.0.lock().unwrap().0.load()
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        let (memory, left, cut) = &mut *self.0.lock().unwrap();
        if *left == 0 {
            if *cut == Cut::After {
                *cut = Cut::Before;
                memory.commit(changes)?;
            }
            return Err(StorageError::Unavailable);
        }
        *left -= 1;
        memory.commit(changes)
    }
}

fn power_on(disk: &Disk) -> Result<(Tpm, Origin), vtpm::PowerOnError> {
    let environment = Fixed(KdfRng::new(HashAlg::Sha256, b"cut", "cut", &[]), 0);
    Tpm::power_on(Box::new(environment), Box::new(disk.clone()), &Native)
}

fn run(tpm: &mut Tpm, code: u16, body: &[u8], password: Option<&[u8]>) -> (u32, Vec<u8>) {
    let tag = if password.is_some() { 2 } else { 1 };
    let size = (10 + body.len()) as u32;
    let command = [
        &[0x80, tag],
        &size.to_be_bytes()[..],
        &[0, 0],
        &code.to_be_bytes(),
        body,
    ]
    .concat();
    let mut response = Vec::new();
    tpm.execute(0, &command, &mut response);
    let code = u32::from_be_bytes(response[6..10].try_into().unwrap());
    (code, response.split_off(10))
}

/// A command with two handles (or one) and a password.
fn authorized(
    tpm: &mut Tpm,
    code: u16,
    handles: &[[u8; 4]],
    password: &[u8],
    rest: &[u8],
) -> (u32, Vec<u8>) {
    let area = [
        &[0x40, 0, 0, 9, 0, 0, 1, 0][..],
        &[password.len() as u8],
        password,
    ]
    .concat();
    let size = (area.len() as u32).to_be_bytes();
    let body = [&handles.concat(), &size[..], &area, rest].concat();
    run(tpm, code, &body, Some(password))
}

fn startup(tpm: &mut Tpm) -> u32 {
    run(tpm, 0x144, &[0, 0], None).0
}

/// What the world has been told.
#[derive(Default, Clone, Debug)]
struct Told {
    data: Option<u8>,
    /// A write that was not answered: it may have happened.
    perhaps: Option<u8>,
    counter: u64,
    orderly: u64,
    failures: u32,
    indices: usize,
}

fn define(index: [u8; 4], attributes: u32, size: u8, auth: &[u8]) -> Vec<u8> {
    let public = [
        &index[..],
        &[0, 0x0B],
        &attributes.to_be_bytes(),
        &[0, 0, 0, size],
    ]
    .concat();
    [
        &[0, auth.len() as u8][..],
        auth,
        &[0, public.len() as u8],
        &public,
    ]
    .concat()
}

/// The stream; ends at the first answer that says that storage failed.
fn stream(tpm: &mut Tpm, told: &mut Told) -> bool {
    let indices = [
        define(DATA, 0x0006_0006, 8, b""),
        define(COUNTER, 0x0006_0016, 8, b""),
        define(ORDERLY_COUNTER, 0x0406_0016, 8, b""),
        // Protected from guessing: no TPMA_NV_NO_DA.
        define(PROTECTED, 0x0004_0004, 8, b"right"),
    ];
    for index in &indices[told.indices..] {
        let (code, _) = authorized(tpm, 0x12A, &[OWNER], b"", index);
        match code {
            0 => told.indices += 1,
            // Defined by a command that was never answered.
            0x14C => told.indices += 1,
            _ => return cut(code),
        }
    }
    for round in 0..4u8 {
        let (code, _) = authorized(
            tpm,
            0x137,
            &[OWNER, DATA],
            b"",
            &[&[0, 8][..], &[round; 8], &[0, 0]].concat(),
        );
        if code != 0 {
            told.perhaps = Some(round);
            return cut(code);
        }
        (told.data, told.perhaps) = (Some(round), None);
        for (index, last) in [
            (COUNTER, &mut told.counter),
            (ORDERLY_COUNTER, &mut told.orderly),
        ] {
            let (code, _) = authorized(tpm, 0x134, &[OWNER, index], b"", &[]);
            if code != 0 {
                return cut(code);
            }
            let (code, answer) = authorized(tpm, 0x14E, &[OWNER, index], b"", &[0, 8, 0, 0]);
            assert_eq!(code, 0);
            let value = u64::from_be_bytes(answer[6..14].try_into().unwrap());
            assert!(
                value > *last,
                "a counter repeated a value: {value} after {last}"
            );
            *last = value;
        }
        // A wrong guess; the first use in a session is asked to try again.
        for _ in 0..2 {
            let (code, _) = authorized(
                tpm,
                0x137,
                &[PROTECTED, PROTECTED],
                b"wrong",
                &[0, 1, 0, 0, 0],
            );
            match code {
                0x98E => {
                    told.failures += 1;
                    break;
                }
                0x922 => {}
                0x921 => return false,
                _ => return cut(code),
            }
        }
    }
    false
}

fn cut(code: u32) -> bool {
    assert!(
        matches!(code, 0x923 | 0x920 | 0x14B),
        "storage failed, but the answer was {code:#x}"
    );
    true
}

fn failures(tpm: &mut Tpm) -> u32 {
    // TPM_PT_LOCKOUT_COUNTER
    let (code, answer) = run(tpm, 0x17A, &[0, 0, 0, 6, 0, 0, 2, 0x0E, 0, 0, 0, 1], None);
    assert_eq!(code, 0);
    u32::from_be_bytes(answer[13..17].try_into().unwrap())
}

fn check(tpm: &mut Tpm, told: &Told) {
    if let Some(data) = told.data {
        let (code, answer) = authorized(tpm, 0x14E, &[OWNER, DATA], b"", &[0, 8, 0, 0]);
        assert_eq!(code, 0);
        assert!(
            answer[6..14] == [data; 8]
                || told.perhaps.is_some_and(|data| answer[6..14] == [data; 8])
        );
    }
    assert!(
        failures(tpm) >= told.failures,
        "a failed authorization was forgotten"
    );
}

#[test]
fn power_cuts_at_every_commit_lose_nothing_that_was_answered() {
    let disk = Disk::new(Memory::new(), u64::MAX, Cut::Before);
    let (tpm, origin) = power_on(&disk).unwrap();
    assert_eq!(origin, Origin::Manufactured);
    let key = tpm.ek_public().to_vec();
    drop(tpm);
    let fresh = disk.memory();
    let mut cuts = 0;
    for how in [Cut::Before, Cut::After] {
        for commits in 0.. {
            let disk = Disk::new(fresh.clone(), commits, how);
            let (mut tpm, _) = power_on(&disk).unwrap();
            let mut told = Told::default();
            let code = startup(&mut tpm);
            let interrupted = if code == 0 {
                stream(&mut tpm, &mut told)
            } else {
                cut(code)
            };
            drop(tpm);
            // The power is back, the storage works.
            let disk = Disk::new(disk.memory(), u64::MAX, Cut::Before);
            let (mut tpm, origin) = power_on(&disk).unwrap();
            assert_eq!(origin, Origin::Loaded, "made anew by accident");
            assert_eq!(tpm.ek_public(), key);
            assert_eq!(startup(&mut tpm), 0);
            check(&mut tpm, &told);
            assert!(!stream(&mut tpm, &mut told));
            check(&mut tpm, &told);
            cuts += 1;
            if !interrupted {
                break;
            }
        }
    }
    assert!(cuts > 30, "only {cuts} cuts");
    println!("tpm.power_cuts {cuts}");
}

#[test]
fn a_manufacture_that_was_cut_is_done_again_and_never_half_used() {
    for how in [Cut::Before, Cut::After] {
        for commits in 0.. {
            let disk = Disk::new(Memory::new(), commits, how);
            let whole = power_on(&disk).is_ok();
            let disk = Disk::new(disk.memory(), u64::MAX, Cut::Before);
            let (mut tpm, origin) = power_on(&disk).unwrap();
            assert_eq!(startup(&mut tpm), 0);
            if whole {
                assert_eq!(origin, Origin::Loaded);
                break;
            }
            assert!(commits < 10);
        }
    }
}
