//! The commands of the variable policy protocol (edk2, VarCheckPolicyMmi.h).
//!
//! A body is signature `VCPC`, revision, command, 32 bits each, result, 64 bits, and what
//! the command takes.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use uguid::Guid;

use crate::name::Name;
use crate::policy::{ENTRY_HEADER, Policies};
use crate::storage::Storage;
use crate::variable::Key;
use crate::{Service, Status};

const SIGNATURE: [u8; 4] = *b"VCPC";
const REVISION: u32 = 1;

const DISABLE: u32 = 1;
const IS_ENABLED: u32 = 2;
const REGISTER: u32 = 3;
const DUMP: u32 = 4;
const LOCK: u32 = 5;
const GET_INFO: u32 = 6;
const GET_LOCK_VAR_STATE_INFO: u32 = 7;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    revision: U32,
    command: U32,
    result: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Dump {
    page: U32,
    total_size: U32,
    page_size: U32,
    has_more: u8,
}

/// The name that is asked about follows, and room for the one in the answer.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Info {
    guid: [u8; 16],
    name_size: U32,
    output_name_size: U32,
    entry: [u8; ENTRY_HEADER],
}

const _: () = assert!(size_of::<Header>() == 20);
const _: () = assert!(size_of::<Dump>() == 13);
const _: () = assert!(size_of::<Info>() == 68);

/// Carries out the command in `body`. False where there is no room for a result.
pub fn handle<S: Storage>(service: &mut Service<S>, body: &mut [u8]) -> bool {
    let Ok((header, payload)) = Header::mut_from_prefix(body) else {
        return false;
    };
    let result = if header.signature != SIGNATURE || header.revision.get() != REVISION {
        Err(Status::INVALID_PARAMETER)
    } else {
        command(service, header.command.get(), payload)
    };
    header.result = result.err().unwrap_or(Status::SUCCESS).0.into();
    true
}

fn command<S: Storage>(
    service: &mut Service<S>,
    command: u32,
    payload: &mut [u8],
) -> Result<(), Status> {
    match command {
        IS_ENABLED => {
            *payload.first_mut().ok_or(Status::BAD_BUFFER_SIZE)? = 1;
            Ok(())
        }
        REGISTER => service.policies().register(payload),
        DUMP => dump(service.policies(), payload),
        LOCK => {
            service.policies().lock();
            Ok(())
        }
        GET_INFO | GET_LOCK_VAR_STATE_INFO => info(
            service.policies_ref(),
            command == GET_LOCK_VAR_STATE_INFO,
            payload,
        ),
        // Nothing switches enforcement off.
        DISABLE => Err(Status::UNSUPPORTED),
        _ => Err(Status::UNSUPPORTED),
    }
}

/// Page 0 tells the size of the whole; the pages after it are as large as there is room.
fn dump(policies: &mut Policies, payload: &mut [u8]) -> Result<(), Status> {
    let (reply, room) = Dump::mut_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let total = policies.dump_size();
    let page = reply.page.get() as usize;
    if page == 0 {
        policies.begin_dump();
        reply.total_size = number(total)?.into();
        reply.page_size = 0.into();
        reply.has_more = u8::from(total > 0);
        return Ok(());
    }
    if room.is_empty() {
        return Err(Status::BAD_BUFFER_SIZE);
    }
    let start = (page - 1)
        .checked_mul(room.len())
        .filter(|start| *start < total)
        .ok_or(Status::INVALID_PARAMETER)?;
    let copied = policies.dump(start, room)?;
    reply.total_size = number(total)?.into();
    reply.page_size = number(copied)?.into();
    reply.has_more = u8::from(start + copied < total);
    Ok(())
}

/// The policy that decides about a variable, or what its lock depends on.
fn info(policies: &Policies, state: bool, payload: &mut [u8]) -> Result<(), Status> {
    let (info, rest) = Info::mut_from_prefix(payload).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    let (name, room) = rest
        .split_at_mut_checked(info.name_size.get() as usize)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let room = room
        .get_mut(..info.output_name_size.get() as usize)
        .ok_or(Status::BAD_BUFFER_SIZE)?;
    let key = Key {
        guid: Guid::from_bytes(info.guid),
        name: Name::from_terminated(name)?,
    };
    let policy = policies.of(&key).ok_or(Status::NOT_FOUND)?;
    info.entry.fill(0);
    let name = if state {
        let (header, name) = policy.state().ok_or(Status::NOT_FOUND)?;
        let header = header.as_bytes();
        info.entry[..header.len()].copy_from_slice(header);
        name
    } else {
        info.entry.copy_from_slice(policy.header().as_bytes());
        policy.name()
    };
    info.output_name_size = number(name.len())?.into();
    room.get_mut(..name.len())
        .ok_or(Status::BUFFER_TOO_SMALL)?
        .copy_from_slice(name);
    Ok(())
}

fn number(n: usize) -> Result<u32, Status> {
    u32::try_from(n).map_err(|_| Status::BAD_BUFFER_SIZE)
}
