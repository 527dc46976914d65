//! What the scenario tests share: payloads of other tools, and a guest that sends MM
//! buffers.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use uefivars::memory::Memory;
use uefivars::mm::Outcome;
use uefivars::storage::Storage;
use uefivars::{Config, Guid, Service, Status, guid, guids};

pub const DB: Guid = guids::IMAGE_SECURITY_DATABASE;
pub const GLOBAL: Guid = guids::GLOBAL;
/// The namespace of shim.
pub const SHIM: Guid = guid!("605dab50-e046-4300-abb6-3dd810dd8b23");
/// Non-volatile, boot services, runtime, time-based authentication.
pub const AT: u32 = 0x27;
pub const APPEND: u32 = 0x40;

pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// A file that `tests/vectors/make.py` has made.
pub fn vector(name: &str) -> Vec<u8> {
    let path = vectors().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// UTF-16LE with a zero at the end.
pub fn name(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// Body of a Get or Set message.
pub fn access(function: u64, guid: Guid, text: &str, attributes: u32, data: &[u8]) -> Vec<u8> {
    let name = name(text);
    let mut body = Vec::new();
    body.extend(function.to_le_bytes());
    body.extend(0xafaf_afaf_afaf_afaf_u64.to_le_bytes());
    body.extend(guid.to_bytes());
    body.extend((data.len() as u64).to_le_bytes());
    body.extend((name.len() as u64).to_le_bytes());
    body.extend(attributes.to_le_bytes());
    body.extend(name);
    body.extend(data);
    body
}

pub fn status(body: &[u8]) -> Status {
    Status(u64::from_le_bytes(body[8..16].try_into().unwrap()))
}

/// A guest before its service.
pub struct Guest<S> {
    pub service: Service<S>,
}

impl Guest<Memory> {
    pub fn new() -> Self {
        Self::with(Memory::default(), Config::default())
    }

    /// In user mode, with the keys of `pk-self.auth`, `kek.auth`.
    pub fn in_user_mode() -> Self {
        let mut guest = Self::new();
        assert_eq!(
            guest.set(GLOBAL, "KEK", AT, &vector("kek.auth")),
            Status::SUCCESS
        );
        assert_eq!(
            guest.set(GLOBAL, "PK", AT, &vector("pk-self.auth")),
            Status::SUCCESS
        );
        guest
    }

    /// What finds the records after a power cut.
    pub fn reload(&self) -> Self {
        Self::with(self.service.storage().power_cycle(), Config::default())
    }
}

impl<S: Storage> Guest<S> {
    pub fn with(storage: S, config: Config) -> Self {
        Self {
            service: Service::new(storage, config).unwrap(),
        }
    }

    pub fn send(&mut self, guid: Guid, body: &[u8]) -> Vec<u8> {
        let mut buffer = guid.to_bytes().to_vec();
        buffer.extend((body.len() as u64).to_le_bytes());
        buffer.extend(body);
        assert_eq!(
            self.service.communicate_buffer(&mut buffer),
            Ok(Outcome::Replied)
        );
        buffer.split_off(24)
    }

    pub fn set(&mut self, guid: Guid, name: &str, attributes: u32, data: &[u8]) -> Status {
        status(&self.send(guids::MM_VARIABLE, &access(3, guid, name, attributes, data)))
    }

    pub fn get(&mut self, guid: Guid, name: &str) -> Result<(u32, Vec<u8>), Status> {
        let body = access(1, guid, name, 0, &[0; 40_000]);
        let reply = self.send(guids::MM_VARIABLE, &body);
        let status = status(&reply);
        if status != Status::SUCCESS {
            return Err(status);
        }
        let size = u64::from_le_bytes(reply[32..40].try_into().unwrap()) as usize;
        let attributes = u32::from_le_bytes(reply[48..52].try_into().unwrap());
        let data = &reply[52 + name.encode_utf16().count() * 2 + 2..][..size];
        Ok((attributes, data.to_vec()))
    }

    pub fn value(&mut self, guid: Guid, name: &str) -> Vec<u8> {
        self.get(guid, name).unwrap().1
    }

    /// All names in the order of enumeration.
    pub fn names(&mut self) -> Vec<(Guid, String)> {
        let mut names: Vec<(Guid, String)> = Vec::new();
        loop {
            let (guid, text) = names.last().cloned().unwrap_or((GLOBAL, String::new()));
            let mut room = name(&text);
            room.resize(1024, 0);
            let mut body = 2_u64.to_le_bytes().to_vec();
            body.extend([0; 8]);
            body.extend(guid.to_bytes());
            body.extend((room.len() as u64).to_le_bytes());
            body.extend(room);
            let reply = self.send(guids::MM_VARIABLE, &body);
            match status(&reply) {
                Status::SUCCESS => {}
                Status::NOT_FOUND => return names,
                other => panic!("{other}"),
            }
            let size = u64::from_le_bytes(reply[32..40].try_into().unwrap()) as usize;
            let units: Vec<u16> = reply[40..40 + size - 2]
                .chunks(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect();
            let guid = Guid::from_bytes(reply[16..32].try_into().unwrap());
            names.push((guid, String::from_utf16(&units).unwrap()));
        }
    }

    pub fn event(&mut self, guid: Guid) {
        self.send(guid, &[0]);
    }
}
