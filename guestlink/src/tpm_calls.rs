//! TPM commands to the SVSM's vTPM, by the vTPM protocol (AMD 58019, chapter 8).

use std::io::{Read, Write};

use crate::client::{Link, LinkError, Region};

const PROTOCOL: u32 = 2;
const QUERY: u32 = 0;
const COMMAND: u32 = 1;
/// The platform command that sends a TPM command.
const SEND_COMMAND: u32 = 8;
const PAGE: usize = 4096;
const REQUEST_HEADER: usize = 9;
/// Where the page is, as far as the SVSM is told.
const BASE: u64 = 0x10_0000;

/// Longest command in bytes.
pub const MAX_COMMAND: usize = PAGE - REQUEST_HEADER;

/// Whether there is a vTPM that takes commands.
///
/// # Errors
/// [`LinkError`]; without the protocol [`LinkError::Failed`].
pub fn takes_commands<S: Read + Write>(link: &mut Link<S>) -> Result<bool, LinkError> {
    let mut none = Region {
        base: BASE,
        bytes: Vec::new(),
    };
    let [commands, ..] = link.call(PROTOCOL, QUERY, [0; 4], &mut none)?.success()?;
    Ok(commands & (1 << SEND_COMMAND) != 0)
}

/// Sends a command of at most [`MAX_COMMAND`] bytes at locality 0; the response. An error
/// of the TPM is a response, too.
///
/// # Errors
/// [`LinkError`].
pub fn execute<S: Read + Write>(link: &mut Link<S>, command: &[u8]) -> Result<Vec<u8>, LinkError> {
    let mut bytes = [
        &SEND_COMMAND.to_le_bytes()[..],
        &[0],
        &(command.len() as u32).to_le_bytes(),
        command,
    ]
    .concat();
    if bytes.len() > PAGE {
        return Err(LinkError::Malformed("the command is longer than its page"));
    }
    bytes.resize(PAGE, 0);
    let mut page = Region { base: BASE, bytes };
    link.call(PROTOCOL, COMMAND, [BASE, 0, 0, 0], &mut page)?
        .success()?;
    let response = page.bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = u32::from_le_bytes(*length);
        rest.get(..usize::try_from(length).ok()?)
    });
    Ok(response
        .ok_or(LinkError::Malformed("the response is longer than its page"))?
        .to_vec())
}
