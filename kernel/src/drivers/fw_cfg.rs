//! QEMU's firmware configuration device, by its ports (QEMU documentation,
//! "QEMU Firmware Configuration (fw_cfg) Device").
//!
//! What it holds is the host's word and nothing more.

use crate::platform::PortIo;
use alloc::vec::Vec;

const SELECTOR_PORT: u16 = 0x510;
const DATA_PORT: u16 = 0x511;

const KEY_SIGNATURE: u16 = 0x0000;
const KEY_FILE_DIRECTORY: u16 = 0x0019;

const SIGNATURE: [u8; 4] = *b"QEMU";

/// Most files that are looked at; QEMU's own limit is lower.
const MAX_FILES: u32 = 512;

/// One entry of the file directory, all numbers big endian: size, selector, 16
/// reserved bits, name with a zero at its end.
const ENTRY_SIZE: usize = 64;
const NAME_OFFSET: usize = 8;

/// The device.
pub struct FwCfg<'a> {
    ports: &'a dyn PortIo,
}

/// Why a file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FwCfgError {
    /// More than the caller wants.
    #[error("fw_cfg file of {0} bytes is too long")]
    TooLong(u32),
    /// No memory for the contents.
    #[error("no memory for a fw_cfg file")]
    NoMemory,
}

impl<'a> FwCfg<'a> {
    /// Finds the device, if there is one.
    pub fn open(ports: &'a dyn PortIo) -> Option<Self> {
        let device = Self { ports };
        device.select(KEY_SIGNATURE);
        (device.take::<4>() == SIGNATURE).then_some(device)
    }

    /// Contents of the file `name`, at most `limit` bytes; none when there is no
    /// such file.
    pub fn read_file(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FwCfgError> {
        let Some((selector, size)) = self.find(name) else {
            return Ok(None);
        };
        let length = size as usize;
        if length > limit {
            return Err(FwCfgError::TooLong(size));
        }
        let mut contents = Vec::new();
        contents
            .try_reserve_exact(length)
            .map_err(|_| FwCfgError::NoMemory)?;
        self.select(selector);
        contents.extend((0..length).map(|_| self.ports.read8(DATA_PORT)));
        Ok(Some(contents))
    }

    /// Selector and size of a file.
    fn find(&self, name: &str) -> Option<(u16, u32)> {
        self.select(KEY_FILE_DIRECTORY);
        let count = u32::from_be_bytes(self.take()).min(MAX_FILES);
        for _ in 0..count {
            let entry: [u8; ENTRY_SIZE] = self.take();
            let [s0, s1, s2, s3, k0, k1, ..] = entry;
            let field = &entry[NAME_OFFSET..];
            let end = field.iter().position(|&byte| byte == 0)?;
            if &field[..end] == name.as_bytes() {
                return Some((
                    u16::from_be_bytes([k0, k1]),
                    u32::from_be_bytes([s0, s1, s2, s3]),
                ));
            }
        }
        None
    }

    fn select(&self, key: u16) {
        self.ports.write16(SELECTOR_PORT, key);
    }

    fn take<const N: usize>(&self) -> [u8; N] {
        core::array::from_fn(|_| self.ports.read8(DATA_PORT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spin::Mutex;

    /// A device with the given bytes behind each selector.
    struct Fake {
        items: Vec<(u16, Vec<u8>)>,
        position: Mutex<(u16, usize)>,
    }

    impl Fake {
        fn new(directory: Vec<u8>, file: &[u8]) -> Self {
            Self {
                items: alloc::vec![
                    (KEY_SIGNATURE, SIGNATURE.to_vec()),
                    (KEY_FILE_DIRECTORY, directory),
                    (0x20, file.to_vec()),
                ],
                position: Mutex::new((0, 0)),
            }
        }
    }

    impl PortIo for Fake {
        fn read8(&self, port: u16) -> u8 {
            assert_eq!(port, DATA_PORT);
            let mut position = self.position.lock();
            position.1 += 1;
            self.items
                .iter()
                .find(|(key, _)| *key == position.0)
                .and_then(|(_, data)| data.get(position.1 - 1))
                .copied()
                .unwrap_or(0)
        }

        fn write8(&self, _port: u16, _value: u8) {}

        fn write16(&self, port: u16, value: u16) {
            assert_eq!(port, SELECTOR_PORT);
            *self.position.lock() = (value, 0);
        }

        fn write32(&self, _port: u16, _value: u32) {}
    }

    fn entry(name: &str, selector: u16, size: u32) -> Vec<u8> {
        let mut entry = alloc::vec![0; ENTRY_SIZE];
        entry[..4].copy_from_slice(&size.to_be_bytes());
        entry[4..6].copy_from_slice(&selector.to_be_bytes());
        entry[NAME_OFFSET..NAME_OFFSET + name.len()].copy_from_slice(name.as_bytes());
        entry
    }

    fn directory(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
        [count.to_be_bytes().to_vec(), entries.concat()].concat()
    }

    #[test]
    fn file_is_found_and_read() {
        let entries = [entry("etc/other", 0x21, 9), entry("opt/a", 0x20, 5)];
        let fake = Fake::new(directory(2, &entries), b"hello");
        let device = FwCfg::open(&fake).unwrap();
        assert_eq!(device.read_file("opt/a", 16), Ok(Some(b"hello".to_vec())));
        assert_eq!(device.read_file("opt/b", 16), Ok(None));
    }

    #[test]
    fn lying_directory_ends() {
        let fake = Fake::new(directory(u32::MAX, &[entry("x", 1, 1)]), b"");
        assert_eq!(FwCfg::open(&fake).unwrap().read_file("opt/a", 16), Ok(None));
        let unended = alloc::vec![0xff; 4 + ENTRY_SIZE];
        let fake = Fake::new(unended, b"");
        assert_eq!(FwCfg::open(&fake).unwrap().read_file("opt/a", 16), Ok(None));
    }

    #[test]
    fn huge_file_is_refused() {
        let fake = Fake::new(directory(1, &[entry("opt/a", 0x20, u32::MAX)]), b"");
        assert_eq!(
            FwCfg::open(&fake).unwrap().read_file("opt/a", 96),
            Err(FwCfgError::TooLong(u32::MAX))
        );
    }
}
