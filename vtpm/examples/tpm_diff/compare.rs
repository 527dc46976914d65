//! What must be equal in two answers, and the differences that have a reason.

use crate::{
    command::{ENGINE, REFERENCE, Step},
    sides::Exchange,
};

pub enum Difference {
    None,
    Explained,
    Unexplained(String),
}

/// A difference that is meant: command code (0 for any), codes of engine and reference
/// (`None` for any), and why.
type Reason = (u32, Option<u32>, Option<u32>, &'static str);

/// The list; Documentation/VTPM.md repeats it with the clauses of the specification.
pub const EXPLAINED: &[Reason] = &[
    // Part 3, 10.3: the list is of tests that are still to be done; here none ever is.
    (
        0x142,
        Some(0),
        Some(0),
        "IncrementalSelfTest: nothing is left to test",
    ),
];

pub fn compare(step: &Step, exchange: &Exchange) -> Difference {
    let (actual, expected) = (exchange.actual.code(), exchange.expected.code());
    let what = if actual != expected {
        format!("code {actual:#05x} instead of {expected:#05x}")
    } else if actual != 0 {
        return Difference::None;
    } else if let Some(field) = fields(step, exchange) {
        field
    } else {
        return Difference::None;
    };
    let known = EXPLAINED.iter().any(|(code, ours, theirs, _)| {
        (*code == 0 || *code == step.code)
            && ours.is_none_or(|ours| ours == actual)
            && theirs.is_none_or(|theirs| theirs == expected)
    });
    if known {
        Difference::Explained
    } else {
        Difference::Unexplained(what)
    }
}

/// Compares two successes.
fn fields(step: &Step, exchange: &Exchange) -> Option<String> {
    let code = step.code;
    let (actual, expected) = (
        exchange.actual.parameters(code),
        exchange.expected.parameters(code),
    );
    let (handle, other) = (exchange.actual.handle(code), exchange.expected.handle(code));
    if handle.map(|handle| handle >> 24) != other.map(|handle| handle >> 24) {
        return Some("another kind of handle".into());
    }
    let (sessions, others) = (
        exchange.actual.sessions(code),
        exchange.expected.sessions(code),
    );
    if sessions.len() != others.len() {
        return Some(format!(
            "sessions of {} bytes instead of {}",
            sessions.len(),
            others.len()
        ));
    }
    match code {
        // Contexts, credentials and capabilities have the implementation's own sizes.
        0x162 | 0x168 => return None,
        0x17A => return capability(step, actual, expected),
        _ => {}
    }
    if actual.len() != expected.len() {
        return Some(format!(
            "{} bytes instead of {}",
            actual.len(),
            expected.len()
        ));
    }
    let same = exchange.sent[ENGINE] == exchange.sent[REFERENCE] && step.is_same();
    let fixed = match code {
        // What an object is, up to its unique part.
        0x131 | 0x153 | 0x191 => {
            return attributes_of(code, actual).and_then(|a| {
                let b = attributes_of(code, expected)?;
                (a != b).then(|| "another public area".to_string())
            });
        }
        // The start of an attestation: magic and type.
        0x158 | 0x148 | 0x14C | 0x184 | 0x133 => 8,
        // Name and data of a public index; a PCR's value; digests of policies whose names
        // are fixed; results of hashing and of symmetric keys.
        0x169 | 0x14E | 0x17E | 0x178 | 0x164 | 0x193 | 0x155 if same => actual.len(),
        0x13C if same => actual.len(),
        0x17D | 0x13E if same => {
            let size = usize::from(u16::from_be_bytes([actual[0], actual[1]]));
            2 + size
        }
        _ => 0,
    };
    (actual[..fixed.min(actual.len())] != expected[..fixed.min(expected.len())])
        .then(|| "other contents".to_string())
}

/// Type, name algorithm, attributes and policy of the public area in a response.
fn attributes_of(code: u32, parameters: &[u8]) -> Option<Vec<u8>> {
    let skip = |bytes: &[u8]| {
        let size = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
        Some(bytes.get(2 + size..)?.to_vec())
    };
    let rest = if code == 0x131 {
        parameters.to_vec()
    } else {
        skip(parameters)?
    };
    Some(rest.get(..12)?.to_vec())
}

/// Lists of handles, PCRs and authorizations must be equal; algorithms, commands and
/// properties are the implementation's own, and only their kind is compared.
fn capability(step: &Step, actual: &[u8], expected: &[u8]) -> Option<String> {
    let kind = expected.get(1..5);
    if actual.get(1..5) != kind {
        return Some("another capability".into());
    }
    match kind {
        Some([0, 0, 0, 1 | 5 | 7 | 9]) if step.damage.is_none() && actual != expected => {
            Some("another list".into())
        }
        _ => None,
    }
}
