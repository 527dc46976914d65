//! UEFI variables from the guest's side: messages of the MM variable protocol (edk2,
//! SmmVariableCommon.h) over the SVSM's UEFI MM protocol.

use std::io::{Read, Write};

use uefivars::{Attributes, Guid, Status, guids};

use crate::client::{Link, LinkError, Region};

/// Where the memory of the calls is, as far as the SVSM is told.
const BASE: u64 = 0x10_0000;

const UEFI_MM: u32 = 4;
const REQUEST: u32 = 1;

const GET_VARIABLE: u64 = 1;
const GET_NEXT_VARIABLE_NAME: u64 = 2;
const SET_VARIABLE: u64 = 3;

/// Largest buffer, and what stands before a body and before a function's own fields.
const MAX_BUFFER: usize = uefivars::mm::MAX_BUFFER;
const HEADER: usize = uefivars::mm::HEADER;
const FUNCTION: usize = 16;
/// What stands before the name in a message of Get and Set, and in one of GetNext.
const ACCESS: usize = 36;
const NEXT: usize = 24;

/// Room for a value when it is read.
const VALUE_ROOM: usize = MAX_BUFFER - HEADER - FUNCTION - ACCESS - NAME_ROOM;
/// Room for a name when the next one is asked for.
const NAME_ROOM: usize = uefivars::name::MAX_BYTES;

/// Most variables that are listed; more than a service has room for.
const MAX_VARIABLES: usize = 4096;

/// A variable as a guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names say it")]
pub struct Variable {
    pub guid: Guid,
    pub name: String,
    pub attributes: Attributes,
    pub data: Vec<u8>,
}

/// Why a variable was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// The call was not answered, or not served.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The service did not do it.
    #[error("{what}: {status}")]
    Status {
        /// Name of the variable.
        what: String,
        /// What it says instead.
        status: Status,
    },
    /// More than a buffer takes.
    #[error("{0} bytes are more than an MM buffer takes")]
    TooLong(usize),
    /// Something that names no variable.
    #[error("a name has 1 to {most} characters and no zero", most = NAME_ROOM / 2 - 1)]
    Name,
    /// An answer that makes no sense.
    #[error("the service's reply makes no sense: {0}")]
    Reply(&'static str),
}

type Result<T> = core::result::Result<T, VariableError>;

/// What answers MM communications.
pub trait Communicate {
    /// Sends `buffer`, header and body, and puts what is in it afterwards in its place.
    ///
    /// # Errors
    /// [`VariableError::Link`].
    fn communicate(&mut self, buffer: &mut Vec<u8>) -> Result<()>;
}

impl<S: Read + Write> Communicate for Link<S> {
    fn communicate(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        let mut region = Region {
            base: BASE,
            bytes: core::mem::take(buffer),
        };
        let registers = [region.base, region.bytes.len() as u64, 0, 0];
        let outcome = self.call(UEFI_MM, REQUEST, registers, &mut region)?;
        *buffer = region.bytes;
        outcome.success()?;
        Ok(())
    }
}

/// Sends a function of the variable protocol; its own fields are replaced by the reply's.
fn function(service: &mut impl Communicate, number: u64, fields: &mut [u8]) -> Result<Status> {
    let length = FUNCTION + fields.len();
    if HEADER + length > MAX_BUFFER {
        return Err(VariableError::TooLong(fields.len()));
    }
    let mut buffer = [
        &guids::MM_VARIABLE.to_bytes()[..],
        &(length as u64).to_le_bytes(),
        &number.to_le_bytes(),
        &[0; 8],
        fields,
    ]
    .concat();
    service.communicate(&mut buffer)?;
    if buffer.len() != HEADER + length {
        return Err(VariableError::Reply("another size than the request has"));
    }
    fields.copy_from_slice(&buffer[HEADER + FUNCTION..]);
    Ok(Status(u64_at(&buffer, HEADER + 8)?))
}

/// The value of a variable.
///
/// # Errors
/// [`VariableError`].
pub fn get(service: &mut impl Communicate, guid: Guid, name: &str) -> Result<Variable> {
    let units = encode(name)?;
    let mut fields = access(guid, VALUE_ROOM, &units, 0, &[]);
    fields.resize(ACCESS + units.len() + VALUE_ROOM, 0);
    let status = function(service, GET_VARIABLE, &mut fields)?;
    succeeded(name, status)?;
    let data = usize::try_from(u64_at(&fields, 16)?)
        .ok()
        .and_then(|size| fields.get(ACCESS + units.len()..)?.get(..size))
        .ok_or(VariableError::Reply("longer than its room"))?;
    Ok(Variable {
        guid,
        name: name.to_owned(),
        attributes: Attributes(u32_at(&fields, 32)?),
        data: data.to_vec(),
    })
}

/// Writes a variable; without data that is its removal.
///
/// # Errors
/// [`VariableError`].
pub fn set(
    service: &mut impl Communicate,
    guid: Guid,
    name: &str,
    attributes: u32,
    data: &[u8],
) -> Result<()> {
    let units = encode(name)?;
    let mut fields = access(guid, data.len(), &units, attributes, data);
    let status = function(service, SET_VARIABLE, &mut fields)?;
    succeeded(name, status)
}

/// All variables, in the service's order.
///
/// # Errors
/// [`VariableError`].
pub fn list(service: &mut impl Communicate) -> Result<Vec<Variable>> {
    let mut found: Vec<Variable> = Vec::new();
    let mut guid = [0; 16];
    let mut name = vec![0; NAME_ROOM];
    while found.len() < MAX_VARIABLES {
        let mut fields = [&guid[..], &(NAME_ROOM as u64).to_le_bytes(), &name].concat();
        let status = function(service, GET_NEXT_VARIABLE_NAME, &mut fields)?;
        if status == Status::NOT_FOUND {
            return Ok(found);
        }
        succeeded("the next variable", status)?;
        guid.copy_from_slice(&fields[..16]);
        name.copy_from_slice(&fields[NEXT..]);
        let text = decode(&name)?;
        found.push(get(service, Guid::from_bytes(guid), &text)?);
    }
    Err(VariableError::Reply("an enumeration without an end"))
}

fn succeeded(what: &str, status: Status) -> Result<()> {
    if status == Status::SUCCESS {
        return Ok(());
    }
    Err(VariableError::Status {
        what: what.into(),
        status,
    })
}

fn access(guid: Guid, size: usize, name: &[u8], attributes: u32, data: &[u8]) -> Vec<u8> {
    [
        &guid.to_bytes()[..],
        &(size as u64).to_le_bytes(),
        &(name.len() as u64).to_le_bytes(),
        &attributes.to_le_bytes(),
        name,
        data,
    ]
    .concat()
}

/// UTF-16LE with its closing zero.
fn encode(name: &str) -> Result<Vec<u8>> {
    let units: Vec<u8> = name
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    if name.contains('\0') || units.len() <= 2 || units.len() > NAME_ROOM {
        return Err(VariableError::Name);
    }
    Ok(units)
}

fn decode(name: &[u8]) -> Result<String> {
    let units: Vec<u16> = name
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).map_err(|_| VariableError::Reply("a name that is not UTF-16"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let number = number.ok_or(VariableError::Reply("too short"))?;
    Ok(u64::from_le_bytes(*number))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let number = number.ok_or(VariableError::Reply("too short"))?;
    Ok(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uefivars::memory::Memory;
    use uefivars::{Config, Service};

    impl Communicate for Service<Memory> {
        fn communicate(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
            self.communicate_buffer(buffer)
                .map(drop)
                .map_err(|_| LinkError::Failed(0x8000_0005).into())
        }
    }

    const OURS: Guid = uefivars::guid!("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");

    fn service() -> Service<Memory> {
        Service::new(Memory::default(), Config::default()).unwrap()
    }

    #[test]
    fn a_variable_is_read_back_as_it_was_written() {
        let mut service = service();
        for data in [vec![1], b"value".to_vec(), vec![7; 0x8000]] {
            set(&mut service, OURS, "Größe", 7, &data).unwrap();
            let variable = get(&mut service, OURS, "Größe").unwrap();
            assert_eq!(variable.data, data);
            assert_eq!(variable.attributes, Attributes(7));
        }
        set(&mut service, OURS, "Größe", 7, &[]).unwrap();
        let error = get(&mut service, OURS, "Größe").unwrap_err();
        assert_eq!(error.to_string(), "Größe: EFI_NOT_FOUND");
    }

    #[test]
    fn the_list_has_every_variable() {
        let mut service = service();
        let before = list(&mut service).unwrap().len();
        for number in 0..20 {
            set(&mut service, OURS, &format!("V{number}"), 7, &[number]).unwrap();
        }
        let all = list(&mut service).unwrap();
        assert_eq!(all.len(), before + 20);
        let ours: Vec<_> = all.iter().filter(|v| v.guid == OURS).collect();
        assert_eq!(ours.len(), 20);
        assert_eq!((ours[3].name.as_str(), &ours[3].data[..]), ("V3", &[3][..]));
    }

    #[test]
    fn names_and_values_that_do_not_fit_are_not_sent() {
        let mut service = service();
        assert!(set(&mut service, OURS, "", 7, b"x").is_err());
        assert!(set(&mut service, OURS, "a\0b", 7, b"x").is_err());
        assert!(set(&mut service, OURS, &"x".repeat(512), 7, b"x").is_err());
        assert!(set(&mut service, OURS, "a", 7, &[0; MAX_BUFFER]).is_err());
        assert!(set(&mut service, OURS, &"x".repeat(511), 7, b"x").is_ok());
    }

    /// Answers with what does not belong to the question.
    struct Liar(fn(&mut Vec<u8>));

    impl Communicate for Liar {
        fn communicate(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
            (self.0)(buffer);
            Ok(())
        }
    }

    #[test]
    fn replies_that_make_no_sense_are_errors() {
        for lie in [
            (|b| b.clear()) as fn(&mut Vec<u8>),
            |b| b.truncate(30),
            |b| b.push(0),
            // A value longer than the room for it.
            |b| b[HEADER + FUNCTION + 16..][..8].fill(0xff),
            |b| b[HEADER + FUNCTION + 16..][..8].copy_from_slice(&65536_u64.to_le_bytes()),
        ] {
            assert!(get(&mut Liar(lie), OURS, "a").is_err());
        }
        // Every name is the same one, for ever; its value is empty.
        let endless = Liar(|b| {
            if b[HEADER] == 2 {
                b[HEADER + FUNCTION + NEXT] = b'a';
            } else {
                b[HEADER + FUNCTION + 16..][..8].fill(0);
            }
        });
        let error = list(&mut { endless }).unwrap_err();
        assert!(error.to_string().contains("without an end"));
    }
}
