//! What `show` prints: the records, and what a TPM made of them says about itself.

use std::fmt::Write as _;

use vtpm::{
    PowerOnError, Tpm,
    crypto::Native,
    records::id,
    server::HostEnvironment,
    storage::{Change, Memory, Storage as _},
};

use crate::place::Records;

/// The text, or why no TPM starts from the records.
pub fn listing(records: &Records) -> Result<String, PowerOnError> {
    // A copy in memory: looking changes nothing.
    let mut memory = Memory::new();
    let changes: Vec<_> = records
        .iter()
        .map(|(id, bytes)| Change::Put(*id, bytes.clone()))
        .collect();
    memory.commit(&changes)?;
    let (mut tpm, origin) = Tpm::power_on(
        Box::new(HostEnvironment::default()),
        Box::new(memory),
        &Native,
    )?;
    let mut text = String::new();
    let mut total = 0;
    for (id, bytes) in records {
        total += bytes.len();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{id:08x} {:>6} bytes  {}", bytes.len(), what(*id));
    }
    let _ = writeln!(text, "{} records, {total} bytes, {origin:?}", records.len());
    let _ = writeln!(text, "endorsement key {}", hex::encode(tpm.ek_public()));
    let mut response = Vec::new();
    tpm.execute(
        0,
        &[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0],
        &mut response,
    );
    for (range, name) in [
        (0x0100_0000, "NV index"),
        (0x8100_0000, "persistent object"),
    ] {
        for handle in handles(&mut tpm, range) {
            let _ = writeln!(text, "{name} {handle:#010x}{}", size(&mut tpm, handle));
        }
    }
    Ok(text)
}

fn what(record: u32) -> &'static str {
    match record {
        id::MARKER => "marker: how far the manufacture got",
        id::SEEDS => "primary seeds and proofs (secret)",
        id::EK_PUBLIC => "public area of the endorsement key",
        id::OWNERS => "hierarchies: authorization values and policies (secret)",
        id::BOOTS => "boot counters, orderly state, clock epoch",
        id::DA => "dictionary-attack protection",
        id::SETTINGS => "PCR allocation, audited commands, other settings",
        id::ORDERLY => "clock and orderly data",
        id::STATE_CLEAR => "saved by Shutdown(STATE): state-clear data",
        id::STATE_RESET => "saved by Shutdown(STATE): state-reset data",
        _ => match record >> 24 {
            0x01 => "NV index (secret)",
            0x81 => "persistent object (secret)",
            _ => "unknown",
        },
    }
}

fn ask(tpm: &mut Tpm, code: u32, body: &[u8]) -> Option<Vec<u8>> {
    let size = u32::try_from(10 + body.len()).ok()?;
    let command = [
        &[0x80, 1],
        &size.to_be_bytes()[..],
        &code.to_be_bytes(),
        body,
    ]
    .concat();
    let mut response = Vec::new();
    tpm.execute(0, &command, &mut response);
    (response.get(6..10) == Some(&[0; 4])).then(|| response.split_off(10))
}

fn handles(tpm: &mut Tpm, range: u32) -> Vec<u32> {
    let body = [
        &1u32.to_be_bytes()[..],
        &range.to_be_bytes(),
        &254u32.to_be_bytes(),
    ]
    .concat();
    // moreData, capability, count; then the handles.
    let answer = ask(tpm, 0x17A, &body).unwrap_or_default();
    let list = answer.get(9..).unwrap_or_default().as_chunks::<4>().0;
    list.iter()
        .map(|handle| u32::from_be_bytes(*handle))
        .collect()
}

/// The size of an NV index, from its public area's last field.
fn size(tpm: &mut Tpm, handle: u32) -> String {
    if handle >> 24 != 1 {
        return String::new();
    }
    let public = ask(tpm, 0x169, &handle.to_be_bytes()).unwrap_or_default();
    let area = usize::from(
        public
            .first_chunk()
            .map_or(0, |size| u16::from_be_bytes(*size)),
    );
    match public.get(area..area + 2) {
        Some(&[high, low]) => format!(", {} bytes", u16::from_be_bytes([high, low])),
        _ => String::new(),
    }
}
