//! The differences that are meant. Documentation/VTPM.md lists them, too.

use vtpm::table;

use crate::{
    authorize::Auth,
    fields,
    sides::Exchange,
    step::{ENGINE, REFERENCE, Step, split_blob},
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
        applies: |_, exchange, _| absent(exchange),
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
            // To what the clock showed some milliseconds ago it may be set on one side only.
            let small = parameters(exchange).is_some_and(|time| time.first() != Some(&0xFF));
            let set_back = step.code == 0x128
                && (codes(exchange) == (0x1C4, 0) || small && codes(exchange) == (0, 0x1C4));
            set_back || codes(exchange) == (0, 0) && what.contains("the engine's clock is")
        },
    },
    Rule {
        why: "there is one algorithm set (Part 3, 26.3: its meaning is the vendor's), which SetAlgorithmSet does not change",
        applies: |step, _, what| step.code == 0x17A && what.starts_with("property 0x20c=0x0 "),
    },
    Rule {
        why: "signatureR of ECDAA with or without leading zeros (Part 2, 11.3.2: a number)",
        applies: |_, exchange, what| {
            let shorter = [("32", "31"), ("48", "47"), ("66", "65")];
            codes(exchange) == (0, 0)
                && shorter.iter().any(|(ours, theirs)| {
                    what.contains(&format!("signatureR of {ours} bytes instead of {theirs}"))
                })
        },
    },
    Rule {
        why: "TPM_ALG_ECMQV, which the reference names and cannot compute, is TPM_RC_SCHEME (Part 2, 11.2.5.4: which schemes are there is the implementation's choice)",
        applies: |_, exchange, _| {
            exchange.actual.code() & 0x8BF == SCHEME && named(exchange).scheme == Some(ECMQV)
        },
    },
    Rule {
        why: "a private part that is not the public part's is TPM_RC_BINDING in Import (Part 3, 13.3)",
        applies: |step, exchange, _| {
            let changed = step.mutation.is_some() || step.damage.is_some();
            step.code == 0x156 && changed && codes(exchange) == (0x0A5, 0)
        },
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
        applies: |_, exchange, _| exchange.past.started_locked && exchange.actual.code() == RETRY,
    },
    Rule {
        why: "what must not be undone takes a shutdown back: commitments (Part 1, C.5), and audited commands (Part 1, 35)",
        applies: |step, exchange, what| {
            let (ours, theirs) = codes(exchange);
            let refused = step.code == 0x144 && ours == 0x1C4 && theirs != 0x1C4;
            refused && exchange.past.must_not_be_undone
                || exchange.past.taken_back && what.ends_with("another safe")
        },
    },
    Rule {
        why: "the reference's clear lets contexts of st-clear objects from before an earlier restart load again, and later ones not",
        applies: |step, exchange, _| {
            let st_clear =
                parameters(exchange).is_some_and(|p| p.get(8..12) == Some(&[0x80, 0, 0, 2]));
            step.code == 0x161 && exchange.past.cleared && st_clear
        },
    },
    Rule {
        why: "lockoutAuth stays disabled for lockoutRecovery seconds (Part 1, 19.8.5), which the reference may miscount after a restart",
        applies: |step, exchange, _| {
            let lockout = step
                .handles
                .first()
                .is_some_and(|h| h.handle[ENGINE] == LOCKOUT);
            lockout && step.lockout_before && exchange.actual.code() == 0x921
        },
    },
    Rule {
        why: "a damaged size makes bytes that differ, nonces, HMACs and secrets, into attributes and sizes",
        applies: |step, exchange, _| {
            let (ours, theirs) = codes(exchange);
            let about_session = |code| code & 0x8C0 == 0x880 && code & 0x700 != 0;
            let about_size = |code| matches!(code & 0x8BF, SIZE | INSUFFICIENT);
            let format = about_session(ours) && about_session(theirs)
                || about_size(ours) && about_size(theirs) && ours & 0xF40 == theirs & 0xF40;
            let damaged = step.damage.is_some() || step.mutation.is_some();
            damaged && format && exchange.sent[ENGINE] != exchange.sent[REFERENCE]
        },
    },
    Rule {
        why: "PolicyCounterTimer compares a time, which differs by milliseconds (Part 3, 23.10)",
        applies: |step, exchange, _| {
            // Time and clock are the first 16 bytes of TPMS_TIME_INFO.
            let about_time = parameters(exchange)
                .and_then(|bytes| word(after(bytes, 1)?, 0))
                .is_some_and(|offset| offset < 16);
            let apart = matches!(codes(exchange), (0, 0x126) | (0x126, 0));
            step.code == 0x16D && about_time && apart
        },
    },
    Rule {
        why: "a bound session and an object without private part stop the reference for good (TPM_RC_FAILURE, Part 1, 12.4: for faults of its own)",
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
            matches!(step.code, 0x157 | 0x167 | 0x156)
                && exchange.actual.code() == 0x2C4
                && rsa_exponent(exchange).is_some_and(|e| e < 0x1_0001 || e % 2 == 0)
        },
    },
];

const LOCKOUT: u32 = 0x4000_000A;
const VALUE: u32 = 0x084;
const SIZE: u32 = 0x095;
const INSUFFICIENT: u32 = 0x09A;
const SCHEME: u32 = 0x092;
const SYMMETRIC: u32 = 0x096;
const CURVE: u32 = 0x0A6;
const RETRY: u32 = 0x922;
const FAILURE: u32 = 0x101;

fn codes(exchange: &Exchange) -> (u32, u32) {
    (exchange.actual.code(), exchange.expected.code())
}

/// Does the engine say that it does not have the algorithm, and is it one that it does not have?
fn absent(exchange: &Exchange) -> bool {
    let named = named(exchange);
    let one_of = |id: Option<u16>, absent: &[u16]| id.is_some_and(|id| absent.contains(&id));
    // Without the numbers of parameters.
    match exchange.actual.code() & 0x8BF {
        CURVE => one_of(named.curve, CURVES),
        SYMMETRIC => one_of(named.cipher, CIPHERS),
        VALUE => named
            .tested
            .iter()
            .any(|id| CIPHERS.contains(id) || *id == CMAC),
        _ => false,
    }
}

/// NIST P-192, P-224, BN P-638, SM2 P-256
const CURVES: &[u16] = &[0x01, 0x02, 0x11, 0x20];
/// TDES, SM4, Camellia
const CIPHERS: &[u16] = &[0x03, 0x13, 0x26];
const CMAC: u16 = 0x3F;
const ECMQV: u16 = 0x1D;

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

/// The algorithms that a command names.
#[derive(Default)]
struct Named {
    cipher: Option<u16>,
    scheme: Option<u16>,
    curve: Option<u16>,
    /// TPML_ALG of IncrementalSelfTest.
    tested: Vec<u16>,
}

fn named(exchange: &Exchange) -> Named {
    parameters(exchange)
        .and_then(|bytes| named_in(exchange.code(), bytes))
        .unwrap_or_default()
}

fn named_in(code: u32, bytes: &[u8]) -> Option<Named> {
    let mut named = Named::default();
    match code {
        // ECC_Parameters, EC_Ephemeral
        0x178 | 0x18E => named.curve = Some(word(bytes, 0)?),
        // IncrementalSelfTest
        0x142 => named.tested = bytes.get(4..)?.chunks_exact(2).map(be_word).collect(),
        // StartAuthSession: nonce, salt, kind
        0x176 => named.cipher = Some(word(after(bytes, 2)?, 1)?),
        // Duplicate: key of the inner wrapping
        0x14B => named.cipher = Some(word(after(bytes, 1)?, 0)?),
        // ZGen_2Phase: two points
        0x18D => named.scheme = Some(word(after(bytes, 2)?, 0)?),
        // TestParms
        0x18A => return in_parameters(word(bytes, 0)?, bytes.get(2..)?),
        // Create, CreatePrimary, Load, LoadExternal, Import, CreateLoaded
        0x153 | 0x131 | 0x157 | 0x167 | 0x156 | 0x191 => {
            let (kind, parameters) = public_area(bytes)?;
            return in_parameters(kind, parameters);
        }
        _ => return None,
    }
    Some(named)
}

/// Of TPMU_PUBLIC_PARMS.
fn in_parameters(kind: u16, bytes: &[u8]) -> Option<Named> {
    let mut named = Named {
        cipher: word(bytes, 0).filter(|_| kind != 0x08),
        ..Named::default()
    };
    if kind == 0x23 {
        let scheme = if named.cipher == Some(0x10) { 2 } else { 6 };
        named.scheme = word(bytes, scheme);
        let curve = match named.scheme? {
            0x10 => 2,
            0x1A => 6,
            _ => 4,
        };
        named.curve = word(bytes, scheme + curve);
    }
    Some(named)
}

fn be_word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(be_word)
}

/// What follows `count` TPM2Bs.
fn after(bytes: &[u8], count: usize) -> Option<&[u8]> {
    (0..count).try_fold(bytes, |bytes, _| split_blob(bytes).map(|(_, rest)| rest))
}

/// The exponent in the second parameter, a public area of an RSA key.
fn rsa_exponent(exchange: &Exchange) -> Option<u32> {
    let (kind, bytes) = public_area(parameters(exchange)?)?;
    let size = fields::parameters(bytes, kind)?;
    let exponent = bytes.get(size.checked_sub(4)?..size)?;
    exponent
        .try_into()
        .map(u32::from_be_bytes)
        .ok()
        .filter(|_| kind == 0x01)
}

/// Type of the second parameter, a public area, and what follows its policy.
fn public_area(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (public, _) = split_blob(after(bytes, 1)?)?;
    let (_, rest) = split_blob(public.get(8..)?)?;
    Some((word(public, 0)?, rest))
}
