//! Compares answers to `TPM2_GetCapability`: the same lists, but for what the implementations
//! have by themselves.

use vtpm::crypto::HashAlg;

/// The first difference between two answers.
pub fn compare(engine: &[u8], reference: &[u8]) -> Option<String> {
    let kind = reference.get(1..5);
    if engine.get(1..5) != kind {
        return Some("another capability".into());
    }
    match kind {
        // Algorithms and curves: the engine has fewer, those with the same attributes.
        Some([0, 0, 0, 0]) => subset(engine, reference, 6),
        Some([0, 0, 0, 8]) => subset(engine, reference, 2),
        // Policies that hang on names are the side's own.
        Some([0, 0, 0, 9]) => policies(engine, reference),
        Some([0, 0, 0, 6]) => properties(engine, reference),
        _ => (engine != reference).then(|| "another list".into()),
    }
}

fn entries(bytes: &[u8], size: usize) -> Vec<&[u8]> {
    bytes.get(9..).unwrap_or_default().chunks(size).collect()
}

/// Every entry of the engine's that lies in the range of the reference's list is in it. (The
/// list may have been cut by the count that was asked for.)
fn subset(engine: &[u8], reference: &[u8], size: usize) -> Option<String> {
    let (ours, theirs) = (entries(engine, size), entries(reference, size));
    let last = *theirs.last()?;
    ours.iter()
        .filter(|entry| entry[..2] <= last[..2])
        .find(|entry| !theirs.contains(entry))
        .map(|entry| {
            format!(
                "an entry {} that the reference does not have",
                hex::encode(entry)
            )
        })
}

/// Handles and hashes of a TPML_TAGGED_POLICY.
fn policies(engine: &[u8], reference: &[u8]) -> Option<String> {
    let list = |bytes: &[u8]| {
        let mut rest = bytes.get(9..)?;
        let mut out = vec![bytes.get(5..9)?.to_vec()];
        while let Some((entry, after)) = rest.split_at_checked(6) {
            out.push(entry.to_vec());
            let alg = HashAlg::from_id(u16::from_be_bytes([entry[4], entry[5]]));
            rest = after.get(alg.map_or(0, HashAlg::size)..)?;
        }
        Some(out)
    };
    (list(engine) != list(reference)).then(|| "other policies".into())
}

/// Properties that are the implementation's own (Part 2, 6.13).
const OWN: &[u32] = &[
    // TPM_PT_DAY_OF_YEAR, TPM_PT_YEAR: of the specification
    0x103, 0x104, // TPM_PT_FIRMWARE_VERSION_1 and _2
    0x10B, 0x10C, // TPM_PT_HR_PERSISTENT_AVAIL, TPM_PT_NV_COUNTERS_AVAIL: free room
    0x209, 0x20B,
];

fn properties(engine: &[u8], reference: &[u8]) -> Option<String> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
    let parse = |bytes| -> Vec<(u32, u32)> {
        entries(bytes, 8)
            .into_iter()
            .filter(|entry| entry.len() == 8)
            .map(|entry| (number(&entry[..4]), number(&entry[4..])))
            .collect()
    };
    let (ours, theirs) = (parse(engine), parse(reference));
    if ours.len() != theirs.len() {
        return Some(format!(
            "{} properties instead of {}",
            ours.len(),
            theirs.len()
        ));
    }
    ours.iter()
        .zip(&theirs)
        .find(|(ours, theirs)| ours != theirs && !(ours.0 == theirs.0 && OWN.contains(&ours.0)))
        .map(|(ours, theirs)| {
            format!(
                "property {:#x}={:#x} instead of {:#x}={:#x}",
                ours.0, ours.1, theirs.0, theirs.1
            )
        })
}
