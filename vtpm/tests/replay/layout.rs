//! The fields of commands and responses, as far as the recorded streams need them.

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A TPM2B whose contents may differ
    Blob,
    /// A TPM2B whose contents and size may differ
    Opaque,
    /// TPMT_TK_*
    Ticket,
    /// TPMT_SIGNATURE
    Signature,
    /// TPMS_CONTEXT
    Context,
    /// Whatever is left
    Rest,
}

use Field::*;

/// Handles in the command's handle area.
pub fn command_handles(code: u32) -> usize {
    match code {
        0x143..=0x146
        | 0x161
        | 0x165
        | 0x167
        | 0x17A
        | 0x17B
        | 0x17C
        | 0x17D
        | 0x17E
        | 0x181
        | 0x186
        | 0x178
        | 0x18A
        | 0x18E => 0,
        0x120
        | 0x122
        | 0x134
        | 0x135
        | 0x136
        | 0x137
        | 0x138
        | 0x147
        | 0x148
        | 0x14A
        | 0x14C..=0x152
        | 0x160
        | 0x176
        | 0x184
        | 0x192 => 2,
        0x149 => 3,
        _ => 1,
    }
}

/// Whether the response has a handle.
pub fn response_handle(code: u32) -> bool {
    matches!(
        code,
        0x131 | 0x157 | 0x15B | 0x161 | 0x167 | 0x176 | 0x186 | 0x191
    )
}

/// Fields of the response's parameters.
pub fn response(code: u32) -> &'static [Field] {
    match code {
        0x131 => &[Blob, Blob, Blob, Ticket, Blob],
        0x153 => &[Blob, Blob, Blob, Blob, Ticket],
        0x157 | 0x167 => &[Blob],
        0x162 => &[Context],
        0x173 => &[Blob, Blob, Blob],
        // The encrypted credential's padding is the implementation's.
        0x168 => &[Opaque, Blob],
        0x158 => &[Blob, Signature],
        0x15D => &[Signature],
        0x176 | 0x147 | 0x14E | 0x159 | 0x15E | 0x17B | 0x189 => &[Blob],
        0x17D | 0x13E => &[Blob, Ticket],
        0x169 => &[Blob, Blob],
        _ => &[Rest],
    }
}

/// The front of a response's parameters that depends on nothing random when the command does
/// not: all of it, the digest before a ticket, or nothing.
pub fn deterministic(code: u32, parameters: &[u8]) -> &[u8] {
    match code {
        0x17E | 0x189 | 0x14E | 0x169 | 0x178 | 0x15E | 0x159 => parameters,
        0x17D | 0x13E => split(Blob, parameters)
            .map(|found| found.0)
            .unwrap_or_default(),
        _ => &[],
    }
}

/// A big-endian number at the front, and the rest.
pub fn u16_at(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// A big-endian number at the front, and the rest.
pub fn u32_at(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// The contents of a TPM2B at the front, and the rest.
pub fn blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = u16_at(bytes)?;
    rest.split_at_checked(usize::from(size))
}

/// The field at the front with its size prefix, and the rest.
pub fn split(field: Field, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let after_blob = |start: usize| {
        let (contents, _) = blob(bytes.get(start..)?)?;
        Some(start + 2 + contents.len())
    };
    let size = match field {
        Blob | Opaque => after_blob(0)?,
        Ticket => after_blob(6)?,
        Context => after_blob(16)?,
        Signature => {
            let (scheme, _) = u16_at(bytes)?;
            let first = after_blob(4)?;
            // RSASSA and RSAPSS are one TPM2B, the elliptic-curve schemes two.
            if matches!(scheme, 0x0014 | 0x0016) {
                first
            } else {
                after_blob(first)?
            }
        }
        Rest => bytes.len(),
    };
    bytes.split_at_checked(size)
}
