//! The control channel: requests and their answers (swtpm_ioctls(3); all numbers big-endian).
//!
//! Always true: every request gets an answer of the size its number has, beginning with a
//! result; a request that asks for what is not offered gets [`BAD_ORDINAL`].

use std::vec::Vec;

use super::{Device, info};

/// A request's number.
pub(super) type Number = u32;

const GET_CAPABILITY: Number = 0x01;
const INIT: Number = 0x02;
const SHUTDOWN: Number = 0x03;
const GET_ESTABLISHED: Number = 0x04;
const SET_LOCALITY: Number = 0x05;
const HASH_START: Number = 0x06;
const HASH_DATA: Number = 0x07;
const HASH_END: Number = 0x08;
const CANCEL: Number = 0x09;
const RESET_ESTABLISHED: Number = 0x0B;
const STOP: Number = 0x0E;
const GET_CONFIG: Number = 0x0F;
pub(super) const SET_DATAFD: Number = 0x10;
const SET_BUFFERSIZE: Number = 0x11;
const GET_INFO: Number = 0x12;

/// What `GET_CAPABILITY` reports: initialise, shut down, established flag, locality, hash
/// sequence, cancel, reset of the flag, stop, configuration, data descriptor, buffer size, info.
/// Not there: saved volatile state and state blobs, which only migration needs.
const CAPABILITIES: u32 = 1
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 7
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 14;

const SUCCESS: u32 = 0;
const FAIL: u32 = 9;
const BAD_ORDINAL: u32 = 10;
const BAD_LOCALITY: u32 = 61;

/// Largest command and response; the buffer size is fixed to it.
pub(super) const BUFFER: u32 = 4096;
const INIT_DELETE_VOLATILE: u32 = 1;

/// What a request asks of the server itself, besides the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The device came up.
    PoweredOn,
    /// End the server after the answer.
    End,
}

/// What the channel remembers between requests.
pub(super) struct Control {
    pub(super) locality: u8,
    pub(super) allow_locality_4: bool,
}

/// How many bytes the whole request needs, from those that are there: more than there are
/// when it is not complete.
pub(super) fn size(request: &[u8]) -> usize {
    let Some(number) = word(request, 0) else {
        return 4;
    };
    match number {
        INIT | SET_BUFFERSIZE => 8,
        GET_INFO => 20,
        SET_LOCALITY | RESET_ESTABLISHED => 5,
        HASH_DATA => match word(request, 4) {
            Some(length) => 8 + length.min(BUFFER) as usize,
            None => 8,
        },
        _ => 4,
    }
}

/// The number of a request.
pub(super) fn number(request: &[u8]) -> Option<Number> {
    word(request, 0)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_be_bytes(*word))
}

fn answer(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Runs a request; `descriptor` says whether `SET_DATAFD` came with one.
pub(super) fn handle(
    control: &mut Control,
    device: &mut dyn Device,
    request: &[u8],
    descriptor: bool,
) -> (Vec<u8>, Effect) {
    let mut effect = Effect::None;
    let done = |ok: bool| if ok { SUCCESS } else { FAIL };
    let on = device.is_on();
    let reply = match number(request) {
        Some(GET_CAPABILITY) => answer(&[SUCCESS, CAPABILITIES]),
        Some(INIT) => {
            let flags = word(request, 4).unwrap_or(0);
            match device.init(flags & INIT_DELETE_VOLATILE != 0) {
                Ok(()) => {
                    control.locality = 0;
                    effect = Effect::PoweredOn;
                    answer(&[SUCCESS])
                }
                Err(error) => {
                    log::error!("INIT: {error}");
                    answer(&[FAIL])
                }
            }
        }
        Some(SHUTDOWN) => {
            effect = Effect::End;
            answer(&[done(device.stop().is_ok())])
        }
        Some(STOP) => answer(&[done(device.stop().is_ok())]),
        // A byte and three of padding follow the result.
        Some(GET_ESTABLISHED) => match device.established() {
            Ok(flag) if on => answer(&[SUCCESS, u32::from(flag) << 24]),
            _ => answer(&[FAIL, 0]),
        },
        Some(SET_LOCALITY) => match request.get(4) {
            Some(&locality) if locality < 4 || (locality == 4 && control.allow_locality_4) => {
                control.locality = locality;
                answer(&[SUCCESS])
            }
            _ => answer(&[BAD_LOCALITY]),
        },
        Some(HASH_START) => answer(&[done(on && device.hash_start().is_ok())]),
        Some(HASH_DATA) => {
            let length = word(request, 4).unwrap_or(0);
            let data = request.get(8..).unwrap_or_default();
            let whole = length <= BUFFER && data.len() == length as usize;
            answer(&[done(on && whole && device.hash_data(data).is_ok())])
        }
        Some(HASH_END) => answer(&[done(on && device.hash_end().is_ok())]),
        // Commands run to their end before the next request is read: nothing to cancel.
        Some(CANCEL) => answer(&[done(on)]),
        Some(RESET_ESTABLISHED) => {
            let locality = request.get(4).copied().unwrap_or(0);
            match device.reset_established(locality) {
                Ok(true) if on => answer(&[SUCCESS]),
                Ok(false) if on => answer(&[BAD_LOCALITY]),
                _ => answer(&[FAIL]),
            }
        }
        Some(GET_CONFIG) => answer(&[SUCCESS, 0]),
        Some(SET_DATAFD) => answer(&[done(descriptor)]),
        // A TPM that is on keeps its size; all sizes asked for end up at the only one.
        Some(SET_BUFFERSIZE) => {
            let wanted = word(request, 4).unwrap_or(0);
            let result = if on && wanted != 0 { FAIL } else { SUCCESS };
            answer(&[result, BUFFER, BUFFER, BUFFER])
        }
        Some(GET_INFO) => {
            let flags = u64::from(word(request, 4).unwrap_or(0)) << 32
                | u64::from(word(request, 8).unwrap_or(0));
            let offset = word(request, 12).unwrap_or(0) as usize;
            match info::json(device, flags).filter(|_| on) {
                Some(json) => {
                    let bytes = [json.as_bytes(), &[0]].concat();
                    let part = bytes.get(offset..).unwrap_or_default();
                    // The texts have some hundred bytes.
                    let mut reply = answer(&[SUCCESS, bytes.len() as u32, part.len() as u32]);
                    reply.extend_from_slice(part);
                    reply
                }
                None => answer(&[FAIL, 0, 0]),
            }
        }
        _ => answer(&[BAD_ORDINAL]),
    };
    (reply, effect)
}
