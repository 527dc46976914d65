//! The differences that are meant. Documentation/VTPM.md lists them, too.

use vtpm::table;

use crate::{
    authorize::Auth,
    fields,
    sides::Exchange,
    step::{ENGINE, Step, split_blob},
};

/// A difference with its reason.
pub struct Rule {
    /// What differs, and the clause of the specification that allows it.
    pub why: &'static str,
    /// Is this that difference?
    pub applies: fn(&Step, &Exchange, &str) -> bool,
}

/// All of them.
pub const EXPLAINED: &[Rule] = &[
    Rule {
        why: "IncrementalSelfTest lists the tests that are still to be done (Part 3, 10.3): here none ever is",
        applies: |step, exchange, _| step.code == 0x142 && codes(exchange) == (0, 0),
    },
    Rule {
        why: "an algorithm or curve that only the reference has (Part 1, 11.4: which are there is the implementation's choice)",
        applies: |step, exchange, _| absent(step, exchange),
    },
    Rule {
        why: "RSA_Encrypt and RSA_Decrypt of data that does not fit is TPM_RC_VALUE (Part 3, 14.2 and 14.3)",
        applies: |step, exchange, _| {
            matches!(step.code, 0x159 | 0x174) && codes(exchange) == (VALUE, FAILURE)
        },
    },
    Rule {
        why: "an RSA key too small for its hash's OAEP is TPM_RC_VALUE (Part 1, B.4)",
        applies: |step, exchange, _| {
            let (ours, theirs) = codes(exchange);
            matches!(step.code, 0x147 | 0x168 | 0x14B | 0x152 | 0x156)
                && ours & 0x8BF == VALUE
                && theirs == FAILURE
        },
    },
    Rule {
        why: "ClockSet is durable when it answers (Part 3, 29.2); the reference loses the clock with the power",
        applies: |step, exchange, what| {
            let set_back = step.code == 0x128 && codes(exchange) == (0x1C4, 0);
            set_back || codes(exchange) == (0, 0) && what.contains("the engine's clock is")
        },
    },
    Rule {
        why: "there is one algorithm set (Part 3, 21.5: its meaning is the vendor's), which SetAlgorithmSet does not change",
        applies: |step, _, what| step.code == 0x17A && what.starts_with("property 0x20c=0x0 "),
    },
    Rule {
        why: "signatureR of ECDAA with or without leading zeros (Part 2, 11.3.3: a number)",
        applies: |_, exchange, what| {
            codes(exchange) == (0, 0) && what.contains("signatureR of 66 bytes instead of 65")
        },
    },
    Rule {
        why: "TPM_ALG_ECMQV, which neither has, is TPM_RC_SCHEME in ZGen_2Phase (Part 3, 14.7)",
        applies: |step, exchange, _| step.code == 0x18D && codes(exchange) == (0x3D2, FAILURE),
    },
    Rule {
        why: "a persistent object's transient slot cannot be named (Part 1, 30.3: slots of the TPM's own use)",
        applies: |step, exchange, _| {
            let handles: Vec<u32> = step
                .handles
                .iter()
                .map(|handle| handle.handle[ENGINE])
                .collect();
            let missing = exchange.actual.code().wrapping_sub(0x910) as usize;
            let named = handles
                .get(missing)
                .is_some_and(|handle| handle >> 24 == 0x80);
            named && handles[..missing].iter().any(|handle| handle >> 24 == 0x81)
        },
    },
    Rule {
        why: "the first use of a protected entity is recorded (TPM_RC_RETRY; Part 1, 19.8) also when the power was lost during a lockout",
        applies: |step, exchange, _| step.after_lockout && exchange.actual.code() == RETRY,
    },
    Rule {
        why: "a bound session and an object without private part stop the reference for good (TPM_RC_FAILURE, Part 1, 12.3: for faults of its own)",
        applies: |step, exchange, _| {
            let bound = step
                .auths
                .iter()
                .filter_map(Auth::session)
                .any(|used| used.bound);
            bound && exchange.actual.code() != 0 && exchange.expected.code() == FAILURE
        },
    },
    Rule {
        why: "RSA exponents below 65537 and even ones (Part 2, 12.2.3.5: a prime; others than 65537 are optional) are refused first",
        applies: |step, exchange, _| {
            matches!(step.code, 0x167 | 0x156)
                && exchange.actual.code() == 0x2C4
                && rsa_exponent(exchange).is_some_and(|e| e < 0x1_0001 || e % 2 == 0)
        },
    },
];

const VALUE: u32 = 0x084;
const RETRY: u32 = 0x922;
const FAILURE: u32 = 0x101;

fn codes(exchange: &Exchange) -> (u32, u32) {
    (exchange.actual.code(), exchange.expected.code())
}

/// Does the engine say that it does not have the algorithm, and is it one that it does not have?
fn absent(step: &Step, exchange: &Exchange) -> bool {
    // Without the numbers of parameters.
    match exchange.actual.code() & 0x8BF {
        // TPM_RC_CURVE and TPM_RC_SYMMETRIC name what is missing.
        0x0A6 => holds(exchange, CURVES),
        0x096 => holds(exchange, CIPHERS),
        0x084 if step.code == 0x142 => holds(exchange, CIPHERS) || holds(exchange, &[0x3F]),
        _ => false,
    }
}

/// NIST P-192, P-224, BN P-638, SM2 P-256
const CURVES: &[u16] = &[0x01, 0x02, 0x11, 0x20];
/// TDES, SM4, Camellia
const CIPHERS: &[u16] = &[0x03, 0x13, 0x26];

/// The parameters as the engine got them, but for what is encrypted.
fn parameters(exchange: &Exchange) -> Option<&[u8]> {
    let sent = &exchange.sent[ENGINE];
    let code = sent.get(6..10)?.try_into().map(u32::from_be_bytes).ok()?;
    let handles = table::find(code)?.handles.len();
    let rest = sent.get(10 + 4 * handles..)?;
    if sent[..2] == [0x80, 0x01] {
        return Some(rest);
    }
    let (size, rest) = rest.split_first_chunk()?;
    rest.get(u32::from_be_bytes(*size) as usize..)
}

/// Is one of these numbers in the parameters?
fn holds(exchange: &Exchange, numbers: &[u16]) -> bool {
    let number = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    parameters(exchange)
        .is_some_and(|bytes| bytes.windows(2).any(|pair| numbers.contains(&number(pair))))
}

/// The exponent in the second parameter, a public area of an RSA key.
fn rsa_exponent(exchange: &Exchange) -> Option<u32> {
    let (_, rest) = split_blob(parameters(exchange)?)?;
    let (public, _) = split_blob(rest)?;
    let (_, rest) = split_blob(public.get(8..)?)?;
    let size = fields::parameters(rest, u16::from_be_bytes([public[0], public[1]]))?;
    let exponent = rest.get(size.checked_sub(4)?..size)?;
    exponent
        .try_into()
        .map(u32::from_be_bytes)
        .ok()
        .filter(|_| public[..2] == [0, 1])
}
