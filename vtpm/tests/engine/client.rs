//! A TPM on a store in memory that tests can break, and a client that builds commands from
//! bytes. Every answer is checked against an independent implementation of the encodings.

use std::sync::{Arc, Mutex, MutexGuard};

use tpm2_protocol::{data::TpmCc, frame::TpmResponse};
use vtpm::{
    Existing, Origin, PowerOnError, Tpm,
    crypto::{HashAlg, KdfRng, Native},
    environment::{Environment, RandomError},
    storage::{Change, Memory, RecordBytes, RecordId, Storage, StorageError},
};

pub const OWNER: u32 = 0x4000_0001;
pub const NULL: u32 = 0x4000_0007;
pub const LOCKOUT: u32 = 0x4000_000A;
pub const ENDORSEMENT: u32 = 0x4000_000B;
pub const PLATFORM: u32 = 0x4000_000C;

pub const RETRY: u32 = 0x922;

/// A store that outlives the TPM.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Memory>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }
}

impl Storage for Shared {
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError> {
        self.lock().load()
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        self.lock().commit(changes)
    }
    fn settle(&mut self) -> Result<(), StorageError> {
        self.lock().settle()
    }
}

/// Random bytes from a seed, and a clock that tests turn.
pub struct Machine {
    rng: KdfRng,
    now: Arc<Mutex<u64>>,
}

impl Environment for Machine {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.rng.generate(out);
        Ok(())
    }
    fn now_ms(&mut self) -> u64 {
        *self.now.lock().unwrap()
    }
}

pub struct Client {
    pub tpm: Tpm,
    pub store: Shared,
    pub origin: Origin,
    pub now: Arc<Mutex<u64>>,
}

/// Powers a TPM on with the records in `store`.
pub fn power_on(store: &Shared, seed: u8) -> Result<Client, PowerOnError> {
    power_on_with(Existing::Keep, store, seed)
}

/// The same, with the owner's word on what is there.
pub fn power_on_with(existing: Existing, store: &Shared, seed: u8) -> Result<Client, PowerOnError> {
    let now = Arc::new(Mutex::new(0));
    let rng = KdfRng::new(HashAlg::Sha256, &[seed], "test machine", &[]);
    let machine = Machine {
        rng,
        now: now.clone(),
    };
    let storage = Box::new(store.clone());
    let (tpm, origin) = Tpm::power_on_with(existing, Box::new(machine), storage, &Native)?;
    Ok(Client {
        tpm,
        store: store.clone(),
        origin,
        now,
    })
}

/// A TPM that is manufactured and started.
pub fn started() -> Client {
    let mut client = power_on(&Shared::default(), 1).unwrap();
    assert_eq!(client.startup(), 0);
    client
}

fn password(auth: &[u8]) -> Vec<u8> {
    let mut out = vec![0x40, 0, 0, 9, 0, 0, 1];
    out.extend((auth.len() as u16).to_be_bytes());
    out.extend(auth);
    out
}

impl Client {
    /// Sends a whole command; returns the response code and the body.
    pub fn raw(&mut self, command: &[u8]) -> (u32, Vec<u8>) {
        let mut response = Vec::new();
        self.tpm.execute(0, command, &mut response);
        assert!((10..=4096).contains(&response.len()));
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap());
        assert_eq!(size as usize, response.len());
        let rc = u32::from_be_bytes(response[6..10].try_into().unwrap());
        if rc == 0 {
            let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
            let frame = TpmResponse::cast(&response).unwrap();
            let code = TpmCc::try_from(code).unwrap();
            frame
                .validate(code)
                .unwrap_or_else(|error| panic!("{code:?}: {error} in {response:02x?}"));
        } else {
            assert_eq!(response.len(), 10);
        }
        (rc, response.split_off(10))
    }

    /// A command without sessions.
    pub fn plain(&mut self, code: u32, body: &[u8]) -> (u32, Vec<u8>) {
        let mut command = vec![0x80, 0x01];
        command.extend((10 + body.len() as u32).to_be_bytes());
        command.extend(code.to_be_bytes());
        command.extend(body);
        self.raw(&command)
    }

    /// A command with passwords for its first handles; the answer's parameters.
    pub fn authorized(
        &mut self,
        code: u32,
        handles: &[u32],
        passwords: &[&[u8]],
        params: &[u8],
    ) -> (u32, Vec<u8>) {
        let area: Vec<u8> = passwords.iter().flat_map(|auth| password(auth)).collect();
        let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
        command.extend(code.to_be_bytes());
        handles
            .iter()
            .for_each(|handle| command.extend(handle.to_be_bytes()));
        command.extend((area.len() as u32).to_be_bytes());
        command.extend(area);
        command.extend(params);
        let size = command.len() as u32;
        command[2..6].copy_from_slice(&size.to_be_bytes());
        self.raw(&command)
    }

    pub fn startup(&mut self) -> u32 {
        self.plain(0x144, &[0, 0]).0
    }

    pub fn shutdown(&mut self, state: bool) -> u32 {
        self.plain(0x145, &[0, u8::from(state)]).0
    }

    /// Power lost without warning, and a fresh start.
    pub fn cut_power(&mut self) {
        self.tpm.power_cycle().unwrap();
        assert_eq!(self.startup(), 0);
    }

    pub fn define(&mut self, index: u32, attributes: u32, size: u16, auth: &[u8]) -> u32 {
        let mut params = (auth.len() as u16).to_be_bytes().to_vec();
        params.extend(auth);
        params.extend([0, 14]);
        params.extend(index.to_be_bytes());
        params.extend([0, 0x0B]);
        params.extend(attributes.to_be_bytes());
        params.extend([0, 0]);
        params.extend(size.to_be_bytes());
        self.authorized(0x12A, &[OWNER], &[b""], &params).0
    }

    pub fn write(&mut self, index: u32, data: &[u8]) -> u32 {
        let mut params = (data.len() as u16).to_be_bytes().to_vec();
        params.extend(data);
        params.extend([0, 0]);
        self.authorized(0x137, &[OWNER, index], &[b""], &params).0
    }

    pub fn increment(&mut self, index: u32) -> u32 {
        self.authorized(0x134, &[OWNER, index], &[b""], &[]).0
    }

    /// Reads `size` bytes with owner authorization.
    pub fn read(&mut self, index: u32, size: u16) -> Result<Vec<u8>, u32> {
        self.read_as(OWNER, b"", index, size)
    }

    pub fn read_as(
        &mut self,
        auth: u32,
        password: &[u8],
        index: u32,
        size: u16,
    ) -> Result<Vec<u8>, u32> {
        let mut params = size.to_be_bytes().to_vec();
        params.extend([0, 0]);
        match self.authorized(0x14E, &[auth, index], &[password], &params) {
            (0, body) => Ok(body[6..6 + usize::from(size)].to_vec()),
            (rc, _) => Err(rc),
        }
    }

    pub fn counter(&mut self, index: u32) -> u64 {
        u64::from_be_bytes(self.read(index, 8).unwrap().try_into().unwrap())
    }

    pub fn property(&mut self, tag: u32) -> u32 {
        let mut body = vec![0, 0, 0, 6];
        body.extend(tag.to_be_bytes());
        body.extend([0, 0, 0, 1]);
        let (rc, answer) = self.plain(0x17A, &body);
        assert_eq!(rc, 0);
        assert_eq!(answer[9..13], tag.to_be_bytes());
        u32::from_be_bytes(answer[13..17].try_into().unwrap())
    }
}

/// Attributes: owner and authorization read and write.
pub const OPEN: u32 = 0x0006_0006;
/// Attributes: the same as [`OPEN`], a counter.
pub const COUNTER: u32 = OPEN | 0x10;
/// Attribute: kept in RAM between shutdowns.
pub const ORDERLY: u32 = 1 << 26;
