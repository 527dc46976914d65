//! Which block device is used.
//!
//! The devices are looked at in order and the first that can be used is: one whose
//! image authenticates under the key, or one with a creation header, which is
//! formatted where the policy permits it. Every device that is looked at gets one line
//! in the log that says what was decided and why; devices behind the one in use are
//! not looked at. Before that decision nothing is written to a device, except that
//! opening an image that does authenticate finishes what its journal holds.

use alloc::sync::Arc;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use cocoon_tpm_crypto::CryptoError;
use cocoon_tpm_storage::fs::cocoonfs::{
    FormatError, FsMetadata, ImageLayout, OpenFsFuture, ReadFsMetadataFuture,
};
use cocoon_tpm_storage::fs::{NvFsError, NvFsIoError};
use cocoon_tpm_utils_common::alloc::box_try_new;

use super::header::{self, Footprint, HeaderGeometry, JOURNAL_MAGIC, LayoutError};
use super::key::{KeyError, VolumeKey};
use super::nvblkdev::FsDevice;
use super::rng::SeededRng;
use super::sync::SpinSyncTypes;
use super::update_counter;
use super::volume::{CocoonVolume, FsPtr, Rng};
use crate::block::{BlockDevice, BlockError};
use crate::entropy::Entropy;

/// Largest image that a creation header may ask for, in bytes: 1 GiB. Formatting
/// fills an image with random data, and an open one takes memory, about 1 KiB for
/// each MiB.
pub const MAX_FORMAT_BYTES: u64 = 1 << 30;

/// Polls that a future gets before it is given up. One is enough: I/O happens inside
/// `poll`.
const MAX_POLLS: u32 = 1000;

/// Block sizes of a device that make sense here, in bytes.
const BLOCK_SIZES: core::ops::RangeInclusive<usize> = 512..=64 << 10;

/// What to do about a creation header, which anybody can put on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatPolicy {
    /// Format the device and use it.
    Allow,
    /// Skip the device.
    Deny,
}

/// Why a device is skipped. The message goes into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("read-only")]
    ReadOnly,
    #[error("no flush command and no announced write-through, nothing would be durable")]
    Volatile,
    #[error("unusable block size of {0} bytes")]
    BlockSize(usize),
    #[error("blank or no CocoonFs image")]
    NoImage,
    #[error("{device}-byte blocks, the image has {image}-byte I/O blocks")]
    IoBlockSize { device: u64, image: u64 },
    #[error("truncated: the image needs {needed} bytes, the device has {actual}")]
    Truncated { needed: u64, actual: u64 },
    #[error("truncated: the image reaches beyond the {0} bytes of the device")]
    OutOfRange(u64),
    #[error("CocoonFs image does not authenticate under the key")]
    NotAuthenticated,
    #[error("CocoonFs image is damaged or of an unknown kind (format error {0})")]
    Format(isize),
    #[error("I/O error while reading: {0}")]
    Read(BlockError),
    #[error("CocoonFs creation header, formatting is not permitted")]
    FormatDenied,
    #[error("CocoonFs creation header asks for {0}")]
    CreationLayout(#[from] LayoutError),
    #[error("CocoonFs creation header for {needed} bytes, the device has {actual}")]
    CreationTooLarge { needed: u64, actual: u64 },
    #[error("CocoonFs creation header for {0} bytes, the limit is {MAX_FORMAT_BYTES}")]
    CreationOverLimit(u64),
    #[error("formatting failed: {0}")]
    FormatIo(BlockError),
    #[error("formatting failed: the image is too small or too large for its layout")]
    FormatSize,
    #[error("not enough memory")]
    NoMemory,
    #[error("no random numbers")]
    NoRandomness,
    #[error("internal error")]
    Internal,
}

impl From<KeyError> for Refusal {
    fn from(_: KeyError) -> Self {
        Self::NoMemory
    }
}

/// Opens the first of `devices` that can be used, as the module's text says.
///
/// `None` where none can; the log says why. `entropy` must last as long as the volume.
pub fn open_first(
    devices: &[Arc<dyn BlockDevice>],
    key: &VolumeKey,
    entropy: &'static dyn Entropy,
    policy: FormatPolicy,
) -> Option<CocoonVolume> {
    for (index, device) in devices.iter().enumerate() {
        match open(index, device, key, entropy, policy) {
            Ok(volume) => {
                log::info!("persistent CocoonFs storage opened successfully");
                return Some(volume);
            }
            Err(Refusal::NoImage) => {
                log::info!("block device {index}: {}, skipped", Refusal::NoImage);
            }
            Err(refusal) => log::warn!("block device {index}: {refusal}, skipped"),
        }
    }
    if devices.is_empty() {
        log::warn!("no block device, there is no persistent storage");
    } else {
        log::warn!("no block device can be used, there is no persistent storage");
    }
    None
}

fn open(
    index: usize,
    device: &Arc<dyn BlockDevice>,
    key: &VolumeKey,
    entropy: &'static dyn Entropy,
    policy: FormatPolicy,
) -> Result<CocoonVolume, Refusal> {
    let geometry = device.geometry();
    if !geometry.block_size.is_power_of_two() || !BLOCK_SIZES.contains(&geometry.block_size) {
        return Err(Refusal::BlockSize(geometry.block_size));
    }
    if geometry.read_only {
        return Err(Refusal::ReadOnly);
    }
    if !geometry.needs_flush && !geometry.write_through {
        return Err(Refusal::Volatile);
    }
    let (mut fs_device, control) =
        FsDevice::for_opening(device.clone()).map_err(|_| Refusal::NoMemory)?;
    let metadata = match read_metadata(fs_device)? {
        (returned, Ok(metadata)) => {
            fs_device = returned;
            metadata
        }
        (returned, Err(error)) => return Err(metadata_refusal(device, &returned, error)),
    };
    let formatting = match &metadata {
        FsMetadata::Formatted(_) => {
            check_image_size(&fs_device, &metadata, geometry.bytes())?;
            false
        }
        FsMetadata::MkFsInfo(_) => {
            check_creation_header(&fs_device, &metadata, geometry.bytes(), policy)?;
            log::info!("block device {index}: CocoonFs creation header, formatting it");
            true
        }
    };
    let layout = metadata.get_config().clone();
    let salt = metadata.get_salt().to_vec();
    let header =
        HeaderGeometry::new(&layout, salt.len()).ok_or(Refusal::OutOfRange(geometry.bytes()))?;
    control
        .watch(header.update_counter_at, header.watched_bytes())
        .map_err(|_| Refusal::NoMemory)?;
    let (fs, rng) = open_fs(fs_device, metadata, key, entropy).map_err(|error| match error {
        OpenError::Refused(refusal) => refusal,
        OpenError::Fs(error, cause) => open_refusal(error, cause, formatting, geometry.bytes()),
    })?;
    // The journal may have had the last word on the header.
    let watched = control.take_watched().ok_or(Refusal::Internal)?;
    let (needed, counter) = opened_header(&watched, &header, key, &layout, &salt)?;
    if needed > geometry.bytes() {
        return Err(Refusal::Truncated {
            needed,
            actual: geometry.bytes(),
        });
    }
    if !formatting {
        log::info!("block device {index}: CocoonFs image authenticates under the key, used");
    }
    if geometry.write_through && !geometry.needs_flush {
        log::warn!("block device {index}: no flush command, its write-through is relied on");
    }
    control.end_read_ahead();
    let footprint = Footprint::new(&layout, &header, needed);
    Ok(CocoonVolume::new(fs, control, rng, footprint, counter))
}

/// Drives a future to its end; `None` where it does not come to one.
fn drive<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

#[inline(never)]
fn read_metadata(device: FsDevice) -> Result<(FsDevice, Result<FsMetadata, NvFsError>), Refusal> {
    let future = match ReadFsMetadataFuture::new(device) {
        Ok(future) => future,
        Err((device, error)) => return Ok((device, Err(error))),
    };
    match drive(future) {
        Some(Ok(result)) => Ok(result),
        Some(Err(NvFsError::MemoryAllocationFailure)) => Err(Refusal::NoMemory),
        Some(Err(_)) | None => Err(Refusal::Internal),
    }
}

/// What a failure to read the metadata of `device` means.
fn metadata_refusal(
    device: &Arc<dyn BlockDevice>,
    fs_device: &FsDevice,
    error: NvFsError,
) -> Refusal {
    if error == NvFsError::from(FormatError::InvalidImageHeader) {
        Refusal::NoImage
    } else if error == NvFsError::from(FormatError::IoBlockSizeNotSupportedByDevice) {
        io_block_size_refusal(device)
    } else {
        open_refusal(
            error,
            fs_device.take_last_error(),
            false,
            device.geometry().bytes(),
        )
    }
}

/// Finds the I/O block size of an image that `device` has too large blocks for.
fn io_block_size_refusal(device: &Arc<dyn BlockDevice>) -> Refusal {
    let inspected = FsDevice::for_inspection(device.clone());
    let header = match read_metadata(inspected) {
        Ok((_, Ok(metadata))) => {
            HeaderGeometry::new(metadata.get_config(), metadata.get_salt().len())
        }
        Ok((_, Err(_))) | Err(_) => None,
    };
    match header {
        Some(header) => Refusal::IoBlockSize {
            device: device.geometry().block_size as u64,
            image: header.io_block_bytes,
        },
        None => Refusal::BlockSize(device.geometry().block_size),
    }
}

/// Refuses an image that reaches beyond the end of its device. The header that says so
/// may be in the middle of an update that the journal completes; then opening the
/// image comes first.
fn check_image_size(
    device: &FsDevice,
    metadata: &FsMetadata,
    device_bytes: u64,
) -> Result<(), Refusal> {
    let header = HeaderGeometry::new(metadata.get_config(), metadata.get_salt().len())
        .ok_or(Refusal::OutOfRange(device_bytes))?;
    let needed = image_bytes(device, &header)?;
    if needed > device_bytes && !journal_is_active(device, &header)? {
        return Err(Refusal::Truncated {
            needed,
            actual: device_bytes,
        });
    }
    Ok(())
}

fn image_bytes(device: &FsDevice, header: &HeaderGeometry) -> Result<u64, Refusal> {
    let mut field = [0; 8];
    device
        .read_bytes(header.image_size_at, &mut field)
        .map_err(Refusal::Read)?;
    Ok(header.image_bytes(field))
}

/// What the mutable header of the image that was just opened says, as CocoonFs has
/// authenticated it: its size in bytes and its update counter. A second look at the
/// device would be a chance for the host to show another header.
fn opened_header(
    watched: &[u8],
    header: &HeaderGeometry,
    key: &VolumeKey,
    layout: &ImageLayout,
    salt: &[u8],
) -> Result<(u64, u128), Refusal> {
    let counter = watched.get(..header.update_counter_bytes);
    let size = watched.last_chunk();
    let (Some(counter), Some(size)) = (counter, size) else {
        return Err(Refusal::Internal);
    };
    let counter =
        update_counter::decrypt(key, layout, salt, counter).map_err(|error| match error {
            CryptoError::MemoryAllocationFailure => Refusal::NoMemory,
            _ => Refusal::Internal,
        })?;
    Ok((header.image_bytes(*size), counter))
}

fn journal_is_active(device: &FsDevice, header: &HeaderGeometry) -> Result<bool, Refusal> {
    let mut magic = [0; 8];
    match device.read_bytes(header.journal_at, &mut magic) {
        Ok(()) => Ok(&magic == JOURNAL_MAGIC),
        Err(BlockError::OutOfRange) => Ok(false),
        Err(error) => Err(Refusal::Read(error)),
    }
}

/// Refuses a creation header that may not, cannot or should not be followed.
fn check_creation_header(
    device: &FsDevice,
    metadata: &FsMetadata,
    device_bytes: u64,
    policy: FormatPolicy,
) -> Result<(), Refusal> {
    if policy == FormatPolicy::Deny {
        return Err(Refusal::FormatDenied);
    }
    let layout: &ImageLayout = metadata.get_config();
    header::check_creation_layout(layout)?;
    let mut start = [0; 128];
    device.read_bytes(0, &mut start).map_err(Refusal::Read)?;
    match header::creation_header_image_bytes(&start, layout) {
        Some(needed) if needed > device_bytes => Err(Refusal::CreationTooLarge {
            needed,
            actual: device_bytes,
        }),
        Some(needed) if needed > MAX_FORMAT_BYTES => Err(Refusal::CreationOverLimit(needed)),
        // A formatting that was interrupted was accepted when it began.
        Some(_) | None => Ok(()),
    }
}

enum OpenError {
    Refused(Refusal),
    /// What CocoonFs says, and what the device last said.
    Fs(NvFsError, Option<BlockError>),
}

/// Opens the image that `metadata` was read from, or formats the device where it was
/// a creation header.
#[inline(never)]
fn open_fs(
    device: FsDevice,
    metadata: FsMetadata,
    key: &VolumeKey,
    entropy: &'static dyn Entropy,
) -> Result<(FsPtr, Rng), OpenError> {
    let fs_error = |error| OpenError::Fs(error, None);
    let rng: Rng = box_try_new(SeededRng::new(entropy).map_err(|error| fs_error(error.into()))?)
        .map_err(|error| fs_error(error.into()))?;
    let key = key
        .copy()
        .map_err(|error| OpenError::Refused(error.into()))?;
    // With trimming off, formatting fills free space with random data, and which
    // blocks are in use stays unknown to the host.
    let trimming = false;
    let future =
        OpenFsFuture::<SpinSyncTypes, FsDevice>::new(device, Some(metadata), key, trimming, rng)
            .map_err(|(_, _, _, error)| fs_error(error))?;
    let future = box_try_new(future).map_err(|error| fs_error(error.into()))?;
    match drive(alloc::boxed::Box::into_pin(future)) {
        Some(Ok((rng, Ok(fs)))) => Ok((fs, rng)),
        Some(Ok((_, Err((device, _key, error))))) => {
            Err(OpenError::Fs(error, device.take_last_error()))
        }
        Some(Err(error)) => Err(fs_error(error)),
        None => Err(OpenError::Refused(Refusal::Internal)),
    }
}

/// What a failure of CocoonFs means. `cause` is what the device last failed with.
fn open_refusal(
    error: NvFsError,
    cause: Option<BlockError>,
    formatting: bool,
    device_bytes: u64,
) -> Refusal {
    let io = |cause: BlockError| {
        if formatting {
            Refusal::FormatIo(cause)
        } else {
            Refusal::Read(cause)
        }
    };
    match error {
        NvFsError::AuthenticationFailure => Refusal::NotAuthenticated,
        NvFsError::IoError(NvFsIoError::RegionOutOfRange) if !formatting => {
            Refusal::OutOfRange(device_bytes)
        }
        NvFsError::IoError(_) => io(cause.unwrap_or(BlockError::Io)),
        NvFsError::FsFormatError(code) => Refusal::Format(code),
        NvFsError::MemoryAllocationFailure => Refusal::NoMemory,
        NvFsError::CryptoError(CryptoError::RngFailure) => Refusal::NoRandomness,
        NvFsError::NoSpace | NvFsError::DimensionsNotSupported if formatting => Refusal::FormatSize,
        // An open that needs memory beyond what an address can name.
        NvFsError::DimensionsNotSupported => Refusal::NoMemory,
        _ => Refusal::Internal,
    }
}
