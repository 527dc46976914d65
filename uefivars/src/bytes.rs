//! Allocation that can fail: what a guest sends decides sizes, so running out of memory
//! is an answer to the guest and never a panic.

use alloc::vec::Vec;

use crate::Status;

/// Copies a slice.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn copy<T: Copy>(source: &[T]) -> Result<Vec<T>, Status> {
    let mut copy = with_capacity(source.len())?;
    copy.extend_from_slice(source);
    Ok(copy)
}

/// An empty vector with room for `count` items.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn with_capacity<T>(count: usize) -> Result<Vec<T>, Status> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count)
        .map_err(|_| Status::OUT_OF_RESOURCES)?;
    Ok(vec)
}

/// Adds an item.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn push<T>(vec: &mut Vec<T>, item: T) -> Result<(), Status> {
    vec.try_reserve(1).map_err(|_| Status::OUT_OF_RESOURCES)?;
    vec.push(item);
    Ok(())
}

/// Adds a slice.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn extend(vec: &mut Vec<u8>, slice: &[u8]) -> Result<(), Status> {
    vec.try_reserve(slice.len())
        .map_err(|_| Status::OUT_OF_RESOURCES)?;
    vec.extend_from_slice(slice);
    Ok(())
}

/// Little-endian number at `offset`, if it is inside.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Little-endian number at `offset`, if it is inside.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Sixteen bytes at `offset`, if they are inside.
pub fn guid_at(bytes: &[u8], offset: usize) -> Option<uguid::Guid> {
    Some(uguid::Guid::from_bytes(
        *bytes.get(offset..)?.first_chunk()?,
    ))
}
