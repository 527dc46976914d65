//! Images, keys, entropy and log capture for the tests here.

use std::cell::RefCell;
use std::io::Read as _;
use std::pin::pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};

use cocoon_tpm_crypto::symcipher::{SymBlockCipherAesKeySize, SymBlockCipherAlg};
use cocoon_tpm_storage::fs::cocoonfs::{AuxFsMetadata, ImageLayout, WriteMkFsInfoHeaderFuture};
use cocoon_tpm_tpm2_interface::TpmiAlgHash;
use cocoon_tpm_utils_common::fixed_vec::FixedVec;
use svsm::block::BlockDevice;
use svsm::block::memory::MemoryDevice;
use svsm::entropy::{Entropy, EntropyError};
use svsm::persistence::nvblkdev::FsDevice;
use svsm::persistence::{
    CocoonVolume, FileId, FormatPolicy, Transaction, Volume, VolumeError, VolumeKey, file_data,
    open_first,
};

pub const MIB: usize = 1 << 20;

/// Size of most images here: small ones are formatted fast.
pub const IMAGE: usize = MIB;

/// What the published tool sets aside for metadata, in bytes, unless told otherwise. It
/// moves the files, which shows in counts.
const TOOL_RESERVE: u64 = 1 << 10;

/// Randomness of the host's operating system.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(buffer))
            .map_err(|_| EntropyError::NoSource)
    }
}

pub fn key() -> VolumeKey {
    VolumeKey::new(&[0x11; 32]).unwrap()
}

pub fn other_key() -> VolumeKey {
    VolumeKey::new(&[0x22; 48]).unwrap()
}

/// A layout from sizes in bytes: allocation block, I/O block, authentication tree
/// node, authenticated data block.
pub fn layout(allocation: usize, io: usize, node: usize, data: usize) -> ImageLayout {
    let log2 = |bytes: usize, unit: usize| (bytes / unit).ilog2() as u8;
    ImageLayout::new(
        log2(allocation, 128),
        log2(io, allocation),
        log2(node, io),
        log2(data, allocation),
        log2(data.max(512), allocation),
        0,
        0,
        TpmiAlgHash::Sha256,
        TpmiAlgHash::Sha256,
        TpmiAlgHash::Sha256,
        TpmiAlgHash::Sha256,
        TpmiAlgHash::Sha256,
        SymBlockCipherAlg::Aes(SymBlockCipherAesKeySize::Aes128),
    )
    .unwrap_or_else(|error| panic!("{error:?}"))
}

/// The layout of the project's images.
pub fn project_layout() -> ImageLayout {
    layout(512, 512, 1024, 512)
}

/// A device of `device_bytes` with a creation header for `image_bytes`.
pub fn creation_header(
    device_bytes: usize,
    block_size: usize,
    image_bytes: u64,
    layout: &ImageLayout,
) -> MemoryDevice {
    let device = MemoryDevice::new(device_bytes, block_size);
    let mut salt = FixedVec::new_with_default(3).unwrap();
    salt.copy_from_slice(&[0xdd, 0xee, 0xff]);
    let mut metadata = AuxFsMetadata::new();
    metadata
        .set_extra_reserve_capacity(Some(TOOL_RESERVE))
        .unwrap_or_else(|_| panic!("a reserve of the metadata"));
    let write = WriteMkFsInfoHeaderFuture::new(
        FsDevice::new(Arc::new(device.clone())),
        layout,
        salt,
        metadata,
        Some(image_bytes),
        false,
    )
    .unwrap_or_else(|(_, error)| panic!("{error:?}"));
    let mut write = pin!(write);
    match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok((_, Ok(())))) => device,
        Poll::Ready(Ok((_, Err(error))) | Err(error)) => panic!("{error:?}"),
        Poll::Pending => panic!("pending"),
    }
}

/// A device with an empty image of the project's layout under `key`.
pub fn formatted(key: &VolumeKey) -> MemoryDevice {
    formatted_as(IMAGE, 512, &project_layout(), key)
}

/// A device of `bytes` in blocks of `block_size` with an empty image.
pub fn formatted_as(
    bytes: usize,
    block_size: usize,
    layout: &ImageLayout,
    key: &VolumeKey,
) -> MemoryDevice {
    let device = creation_header(bytes, block_size, bytes as u64, layout);
    drop(open_device(&device, key).expect("formats"));
    device
}

/// Opens the first of `devices` that can be.
pub fn open(devices: &[&MemoryDevice], key: &VolumeKey) -> Option<CocoonVolume> {
    open_with(devices, key, FormatPolicy::Allow)
}

pub fn open_with(
    devices: &[&MemoryDevice],
    key: &VolumeKey,
    policy: FormatPolicy,
) -> Option<CocoonVolume> {
    let devices: Vec<Arc<dyn BlockDevice>> = devices
        .iter()
        .map(|device| Arc::new((*device).clone()) as Arc<dyn BlockDevice>)
        .collect();
    open_first(&devices, key, &OsEntropy, policy)
}

pub fn open_device(device: &MemoryDevice, key: &VolumeKey) -> Option<CocoonVolume> {
    open(&[device], key)
}

/// Opens a copy of `bytes`, as a reboot would.
pub fn reopen(bytes: Vec<u8>, key: &VolumeKey) -> Option<CocoonVolume> {
    open_device(&MemoryDevice::from_bytes(bytes, 512), key)
}

pub fn write(volume: &dyn Volume, file: FileId, data: &[u8]) -> Result<(), VolumeError> {
    let mut transaction = Transaction::new();
    transaction.write(file, file_data(data)?)?;
    volume.transaction(transaction)
}

pub fn read(volume: &dyn Volume, file: FileId) -> Option<Vec<u8>> {
    match volume.read(file) {
        Ok(data) => Some(data.to_vec()),
        Err(VolumeError::NotFound) => None,
        Err(error) => panic!("{file}: {error}"),
    }
}

/// `len` bytes that differ from those of another `seed`.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .collect()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // As the console does: a prefix from warnings on.
        let prefix = match record.level() {
            log::Level::Error => "ERROR: ",
            log::Level::Warn => "WARNING: ",
            _ => "",
        };
        LINES.with_borrow_mut(|lines| lines.push(format!("{prefix}{}", record.args())));
    }

    fn flush(&self) {}
}

/// What `action` returns, and what it logs.
pub fn logged<T>(action: impl FnOnce() -> T) -> (T, Vec<String>) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Capture).expect("the only logger here");
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.with_borrow_mut(Vec::clear);
    let result = action();
    (result, LINES.with_borrow_mut(std::mem::take))
}
