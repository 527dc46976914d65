//! The functions of the variable protocol (edk2, SmmVariableCommon.h).
//!
//! A body is function and status, 64 bits each, and what the function takes:
//! Get and Set: `EFI_GUID`, data size u64, name size u64, attributes u32, name, data;
//! GetNext and Lock: `EFI_GUID`, name size u64, name.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use uguid::Guid;

use super::{HEADER, MAX_BUFFER};
use crate::name::Name;
use crate::storage::Storage;
use crate::variable::Key;
use crate::{Attributes, Service, Status};

const GET_VARIABLE: u64 = 1;
const GET_NEXT_VARIABLE_NAME: u64 = 2;
const SET_VARIABLE: u64 = 3;
const QUERY_VARIABLE_INFO: u64 = 4;
const READY_TO_BOOT: u64 = 5;
const EXIT_BOOT_SERVICES: u64 = 6;
const LOCK_VARIABLE: u64 = 8;
const GET_PAYLOAD_SIZE: u64 = 11;

const FUNCTION_HEADER: usize = 16;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Access {
    guid: [u8; 16],
    data_size: U64,
    name_size: U64,
    attributes: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NextName {
    guid: [u8; 16],
    name_size: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct QueryInfo {
    maximum_storage: U64,
    remaining_storage: U64,
    maximum_variable: U64,
    attributes: U32,
}

const _: () = assert!(size_of::<Access>() == 36);
const _: () = assert!(size_of::<NextName>() == 24);
const _: () = assert!(size_of::<QueryInfo>() == 28);

/// Carries out the function in `body`. False where there is no room for a status.
pub fn handle<S: Storage>(service: &mut Service<S>, body: &mut [u8]) -> bool {
    let Some((header, payload)) = body.split_first_chunk_mut::<FUNCTION_HEADER>() else {
        return false;
    };
    let (function, status) = header.split_at_mut(8);
    let result = match u64::from_le_bytes(function.try_into().unwrap_or_default()) {
        GET_VARIABLE => get(service, payload),
        GET_NEXT_VARIABLE_NAME => next(service, payload),
        SET_VARIABLE => set(service, payload),
        QUERY_VARIABLE_INFO => query_info(service, payload),
        READY_TO_BOOT => {
            service.ready_to_boot();
            Ok(())
        }
        EXIT_BOOT_SERVICES => {
            service.exit_boot_services();
            Ok(())
        }
        LOCK_VARIABLE => lock(service, payload),
        GET_PAYLOAD_SIZE => payload_size(payload),
        _ => Err(Status::UNSUPPORTED),
    };
    let answer = result.err().unwrap_or(Status::SUCCESS);
    status.copy_from_slice(&answer.0.to_le_bytes());
    true
}

/// A size that a guest states, as far as it can be one of something in memory.
fn size(field: U64) -> Result<usize, Status> {
    usize::try_from(field.get()).map_err(|_| Status::BAD_BUFFER_SIZE)
}

fn get<S: Storage>(service: &Service<S>, payload: &mut [u8]) -> Result<(), Status> {
    let (access, rest) = Access::mut_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let (name, room) = rest
        .split_at_mut_checked(size(access.name_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let key = Key {
        guid: Guid::from_bytes(access.guid),
        name: Name::from_terminated(name)?,
    };
    let variable = service.get(&key)?;
    let room = room
        .get_mut(..size(access.data_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    access.data_size = (variable.data.len() as u64).into();
    access.attributes = variable.attributes.0.into();
    match room.get_mut(..variable.data.len()) {
        Some(room) => {
            room.copy_from_slice(&variable.data);
            Ok(())
        }
        None => Err(Status::BUFFER_TOO_SMALL),
    }
}

fn next<S: Storage>(service: &Service<S>, payload: &mut [u8]) -> Result<(), Status> {
    let (header, room) = NextName::mut_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let room = room
        .get_mut(..size(header.name_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    // The name ends at the first zero; what follows it is room for the reply.
    let end = room
        .as_chunks::<2>()
        .0
        .iter()
        .position(|unit| *unit == [0, 0])
        .ok_or(Status::INVALID_PARAMETER)?;
    let key = match &room[..end * 2] {
        [] => None,
        name => Some(Key {
            guid: Guid::from_bytes(header.guid),
            name: Name::from_bytes(name)?,
        }),
    };
    let found = &service.next(key.as_ref())?.key;
    header.guid = found.guid.to_bytes();
    header.name_size = (found.name.size() as u64).into();
    // As much of the name as there is room for, as QEMU does it.
    let name = found.name.le_bytes().chain([0, 0]);
    let copied = room
        .iter_mut()
        .zip(name)
        .map(|(to, from)| *to = from)
        .count();
    if copied == found.name.size() {
        Ok(())
    } else {
        Err(Status::BUFFER_TOO_SMALL)
    }
}

fn set<S: Storage>(service: &mut Service<S>, payload: &[u8]) -> Result<(), Status> {
    let (access, rest) = Access::ref_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let (name, rest) = rest
        .split_at_checked(size(access.name_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let data = rest
        .get(..size(access.data_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let key = Key {
        guid: Guid::from_bytes(access.guid),
        name: Name::from_terminated(name)?,
    };
    service.set(key, Attributes(access.attributes.get()), data)
}

fn query_info<S: Storage>(service: &Service<S>, payload: &mut [u8]) -> Result<(), Status> {
    let (reply, _) = QueryInfo::mut_from_prefix(payload).map_err(|_| Status::BUFFER_TOO_SMALL)?;
    let info = service.query_info(Attributes(reply.attributes.get()))?;
    *reply = QueryInfo {
        maximum_storage: info.maximum_storage.into(),
        remaining_storage: info.remaining_storage.into(),
        maximum_variable: info.maximum_variable.into(),
        attributes: 0.into(),
    };
    Ok(())
}

fn lock<S: Storage>(service: &mut Service<S>, payload: &[u8]) -> Result<(), Status> {
    let (header, rest) = NextName::ref_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let name = rest
        .get(..size(header.name_size)?)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let key = Key {
        guid: Guid::from_bytes(header.guid),
        name: Name::from_terminated(name)?,
    };
    if service.is_after_end_of_dxe() {
        return Err(Status::ACCESS_DENIED);
    }
    service.policies().lock_variable(&key)
}

fn payload_size(payload: &mut [u8]) -> Result<(), Status> {
    let (reply, _) = U64::mut_from_prefix(payload).map_err(|_| Status::BUFFER_TOO_SMALL)?;
    *reply = ((MAX_BUFFER - HEADER - FUNCTION_HEADER) as u64).into();
    Ok(())
}
