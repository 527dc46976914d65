//! What the answer to each command is made of, and what of it must be equal on both sides.

use vtpm::crypto::HashAlg;

use crate::step::{ENGINE, Pair, REFERENCE, Step, split_blob};

/// A part of an answer.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// So many bytes, equal.
    Exact(usize),
    /// So many bytes, whatever they are.
    Any(usize),
    /// A TPM2B, equal if both sides were asked the same about the same, else as long.
    Same,
    /// A TPM2B as long.
    Size,
    /// A TPM2B with a random number in it, in DER: a byte longer or shorter.
    About,
    /// A TPM2B whose length is the implementation's own.
    Own,
    /// TPM2B_NAME: the same hash, and equal if asked the same.
    Name,
    /// A name of the same kind, that other names go into.
    QualifiedName,
    /// TPM2B_PUBLIC: equal up to `unique`, which is as long; and equal if asked the same.
    Public,
    /// TPM2B_CREATION_DATA: equal up to the names in it.
    Creation,
    /// TPM2B_ECC_POINT: coordinates as long; equal if asked the same.
    Point,
    /// TPM2B_ECC_POINT of something random: coordinates as long.
    AnyPoint,
    /// A ticket: tag and hierarchy equal, a digest as long.
    Ticket,
    /// TPM2B_ATTEST
    Attest,
    /// TPMT_SIGNATURE: scheme and hash equal, numbers as long.
    Signature,
    /// TPMT_SIGNATURE by a scheme that has one signature for each digest: equal if asked the
    /// same.
    SameSignature,
    /// All the rest, equal if both sides were asked the same.
    Rest,
    /// TPMS_CLOCK_INFO
    Clock,
}

use Field::*;

fn layout(code: u32) -> &'static [Field] {
    match code {
        0x131 => &[Public, Creation, Size, Ticket, Name],
        0x153 => &[Size, Public, Creation, Size, Ticket],
        0x191 => &[Size, Public, Name],
        0x157 | 0x167 => &[Name],
        0x173 => &[Public, Name, QualifiedName],
        0x176 => &[Size],
        0x162 => &[Exact(8), Exact(4), Exact(4), Own],
        0x150 | 0x156 => &[Size],
        0x14B => &[Size, Size, Size],
        0x152 | 0x168 => &[Size, Size],
        0x147 | 0x14E | 0x155 | 0x159 | 0x15E | 0x189 => &[Same],
        0x164 | 0x193 => &[Same, Same],
        0x174 | 0x17B => &[Size],
        0x163 => &[AnyPoint, AnyPoint],
        0x154 => &[Point],
        0x18D => &[Point, Point],
        0x178 | 0x17E | 0x13C | 0x185 | 0x12B => &[Rest],
        0x17C => &[Own, Exact(4)],
        0x17D | 0x13E => &[Same, Ticket],
        0x15D => &[SameSignature],
        0x177 => &[Ticket],
        0x160 | 0x151 => &[Size, Ticket],
        0x158 | 0x14A | 0x148 | 0x14C | 0x14D | 0x184 => &[Attest, Signature],
        0x133 => &[Attest, Signature],
        0x197 => &[About, Size, Signature],
        0x18B => &[AnyPoint, AnyPoint, AnyPoint, Exact(2)],
        0x18E => &[AnyPoint, Exact(2)],
        0x181 => &[Any(8), Clock],
        0x169 => &[Same, Name],
        0x142 => &[Rest],
        _ => &[],
    }
}

/// The first difference between two successful answers in the clear.
pub fn compare(step: &Step, answers: Pair<&[u8]>) -> Option<String> {
    let mut at = answers.map(Cursor);
    let same = Sameness {
        asked: step.code != 0x173
            && step.plain_parameters(ENGINE) == step.plain_parameters(REFERENCE),
        all: step.is_same(),
    };
    for (number, field) in layout(step.code).iter().enumerate() {
        if let Err(what) = field.compare(&mut at, same) {
            return Some(format!("field {number}: {what}"));
        }
    }
    let [engine, reference] = at.map(|cursor| cursor.0.len());
    (engine != 0 || reference != 0)
        .then(|| format!("{engine} bytes left over instead of {reference}"))
}

/// What is left of an answer.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], String> {
        let (found, rest) = self.0.split_at_checked(size).ok_or("too short")?;
        self.0 = rest;
        Ok(found)
    }

    fn number(&mut self) -> Result<u16, String> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn blob(&mut self) -> Result<&'a [u8], String> {
        let (found, rest) = split_blob(self.0).ok_or("too short")?;
        self.0 = rest;
        Ok(found)
    }
}

type Ends<'a, 'b> = &'b mut Pair<Cursor<'a>>;

fn exact(ends: Ends<'_, '_>, size: usize, name: &str) -> Result<(), String> {
    let [a, b] = ends;
    let (a, b) = (a.take(size)?, b.take(size)?);
    if a == b {
        Ok(())
    } else {
        Err(format!("another {name}"))
    }
}

fn any(ends: Ends<'_, '_>, size: usize) -> Result<(), String> {
    for end in ends {
        end.take(size)?;
    }
    Ok(())
}

fn sized(ends: Ends<'_, '_>, equal: bool, name: &str) -> Result<(), String> {
    let [a, b] = ends;
    let (a, b) = (a.blob()?, b.blob()?);
    if a.len() != b.len() {
        Err(format!(
            "{name} of {} bytes instead of {}",
            a.len(),
            b.len()
        ))
    } else if equal && a != b {
        Err(format!("another {name}"))
    } else {
        Ok(())
    }
}

/// A number that both sides have, equal.
fn number(ends: Ends<'_, '_>, name: &str) -> Result<u16, String> {
    let [a, b] = ends;
    let (a, b) = (a.number()?, b.number()?);
    if a == b {
        Ok(a)
    } else {
        Err(format!("{name} {a:#x} instead of {b:#x}"))
    }
}

/// Contents of a TPM2B on both sides.
fn inner<'a>(ends: Ends<'a, '_>) -> Result<Pair<Cursor<'a>>, String> {
    let [a, b] = ends;
    Ok([Cursor(a.blob()?), Cursor(b.blob()?)])
}

fn at_end(ends: &Pair<Cursor<'_>>, name: &str) -> Result<(), String> {
    if ends.iter().all(|end| end.0.is_empty()) {
        Ok(())
    } else {
        Err(format!("{name}: something left over"))
    }
}

/// How alike the commands were.
#[derive(Clone, Copy)]
struct Sameness {
    /// The parameters are equal.
    asked: bool,
    /// And so is what they are about.
    all: bool,
}

impl Field {
    fn compare(self, ends: Ends<'_, '_>, sameness: Sameness) -> Result<(), String> {
        let same = sameness.all;
        match self {
            Exact(size) => exact(ends, size, "value"),
            Any(size) => any(ends, size),
            Same => sized(ends, same, "buffer"),
            Size => sized(ends, false, "buffer"),
            About => {
                let [a, b] = ends;
                let (a, b) = (a.blob()?.len(), b.blob()?.len());
                if a.abs_diff(b) < 2 {
                    Ok(())
                } else {
                    Err(format!("buffer of {a} bytes instead of {b}"))
                }
            }
            Own => {
                for end in ends {
                    end.blob()?;
                }
                Ok(())
            }
            Name => name(ends, same),
            QualifiedName => name(ends, false),
            Public => public(ends, sameness),
            Creation => creation(ends, same),
            Point => point(ends, same),
            AnyPoint => point(ends, false),
            Ticket => {
                exact(ends, 6, "tag or hierarchy of a ticket")?;
                sized(ends, false, "digest of a ticket")
            }
            Attest => attest(ends, same),
            Signature => signature(ends, false),
            SameSignature => signature(ends, same),
            Rest => {
                let [a, b] = ends;
                let (a, b) = (core::mem::take(&mut a.0), core::mem::take(&mut b.0));
                if a.len() != b.len() {
                    Err(format!("{} bytes instead of {}", a.len(), b.len()))
                } else if same && a != b {
                    Err("another value".into())
                } else {
                    Ok(())
                }
            }
            Clock => clock(ends, true),
        }
    }
}

/// TPMS_CLOCK_INFO: milliseconds that are some minutes apart at most, the numbers of resets and
/// restarts unless they are obscured, and whether the clock is safe.
fn clock(ends: Ends<'_, '_>, counters: bool) -> Result<(), String> {
    let mut values = [0u64; 2];
    for (value, end) in values.iter_mut().zip(&mut *ends) {
        *value = u64::from_be_bytes(end.take(8)?.try_into().unwrap_or_default());
    }
    let apart = values[ENGINE].abs_diff(values[REFERENCE]);
    if apart > 600_000 {
        let ahead = if values[ENGINE] > values[REFERENCE] {
            "engine"
        } else {
            "reference"
        };
        return Err(format!("the {ahead}'s clock is {apart} ms ahead"));
    }
    if counters {
        exact(ends, 4, "resetCount")?;
        exact(ends, 4, "restartCount")?;
    } else {
        any(ends, 8)?;
    }
    // A clock becomes safe every 4096 ms, and one of them may be some milliseconds ahead.
    if values[ENGINE] / 4096 == values[REFERENCE] / 4096 {
        exact(ends, 1, "safe")
    } else {
        any(ends, 1)
    }
}

fn name(ends: Ends<'_, '_>, same: bool) -> Result<(), String> {
    if let [a, b] = &ends
        && a.0.get(..4) != b.0.get(..4)
    {
        return Err("another kind of name".into());
    }
    sized(ends, same, "name")
}

fn public(ends: Ends<'_, '_>, same: Sameness) -> Result<(), String> {
    let mut ends = inner(ends)?;
    let kind = number(&mut ends, "type")?;
    number(&mut ends, "nameAlg")?;
    exact(&mut ends, 4, "attributes")?;
    sized(&mut ends, same.asked, "authPolicy")?;
    // Parameters are equal: what is left without `unique`, whose length is found from behind.
    let uniques = if kind == 0x23 { 2 } else { 1 };
    let fixed = match kind {
        0x01 | 0x23 | 0x08 | 0x25 => parameters(ends[REFERENCE].0, kind).ok_or("no parameters")?,
        other => return Err(format!("type {other:#x}")),
    };
    exact(&mut ends, fixed, "parameters")?;
    for _ in 0..uniques {
        sized(&mut ends, same.all, "unique")?;
    }
    at_end(&ends, "public area")
}

/// Bytes of the parameters of a public area.
pub fn parameters(bytes: &[u8], kind: u16) -> Option<usize> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let found = u16::from_be_bytes([*bytes.get(*at)?, *bytes.get(*at + 1)?]);
        *at += 2;
        Some(found)
    };
    match kind {
        0x08 => match number(&mut at)? {
            0x05 => at += 2,
            0x0A => at += 4,
            _ => {}
        },
        0x25 => at += 6,
        _ => {
            match number(&mut at)? {
                0x10 => {}
                0x0A => at += 2,
                _ => at += 4,
            }
            match number(&mut at)? {
                0x10 | 0x15 => {}
                0x1A => at += 4,
                _ => at += 2,
            }
            if kind == 0x01 {
                at += 6;
            } else {
                at += 2;
                if number(&mut at)? != 0x10 {
                    at += 2;
                }
            }
        }
    }
    Some(at)
}

fn creation(ends: Ends<'_, '_>, same: bool) -> Result<(), String> {
    let mut ends = inner(ends)?;
    selection(&mut ends)?;
    sized(&mut ends, true, "pcrDigest")?;
    exact(&mut ends, 1, "locality")?;
    number(&mut ends, "parentNameAlg")?;
    name(&mut ends, same)?;
    name(&mut ends, same)?;
    sized(&mut ends, true, "outsideInfo")?;
    at_end(&ends, "creation data")
}

/// TPML_PCR_SELECTION
fn selection(ends: Ends<'_, '_>) -> Result<(), String> {
    number(ends, "count")?;
    for _ in 0..number(ends, "count")? {
        number(ends, "hash of a selection")?;
        let size = usize::from(ends[REFERENCE].0.first().copied().unwrap_or(0));
        exact(ends, 1 + size, "selection")?;
    }
    Ok(())
}

fn point(ends: Ends<'_, '_>, same: bool) -> Result<(), String> {
    let mut ends = inner(ends)?;
    if ends.iter().all(|end| end.0.is_empty()) {
        return Ok(());
    }
    sized(&mut ends, same, "x")?;
    sized(&mut ends, same, "y")?;
    at_end(&ends, "point")
}

fn attest(ends: Ends<'_, '_>, same: bool) -> Result<(), String> {
    let mut ends = inner(ends)?;
    let ends = &mut ends;
    exact(ends, 4, "magic")?;
    let kind = number(ends, "type")?;
    // qualifiedSigner
    name(ends, false)?;
    sized(ends, true, "extraData")?;
    // Clock, counters of boots and firmware version: obscured with a secret of each TPM unless
    // the endorsement or platform hierarchy signs (Part 1, 36.7).
    clock(ends, false)?;
    any(ends, 8)?;
    match kind {
        0x8014 => {
            name(ends, same)?;
            number(ends, "offset")?;
            sized(ends, same, "nvContents")?;
        }
        0x801C => {
            name(ends, same)?;
            sized(ends, same, "nvDigest")?;
        }
        0x8015 => {
            exact(ends, 8, "auditCounter")?;
            number(ends, "digestAlg")?;
            sized(ends, false, "auditDigest")?;
            sized(ends, true, "commandDigest")?;
        }
        0x8016 => {
            exact(ends, 1, "exclusiveSession")?;
            sized(ends, false, "sessionDigest")?;
        }
        0x8017 => {
            name(ends, same)?;
            name(ends, false)?;
        }
        0x8018 => {
            selection(ends)?;
            sized(ends, true, "pcrDigest")?;
        }
        0x8019 => {
            any(ends, 8)?;
            clock(ends, true)?;
            any(ends, 8)?;
        }
        0x801A => {
            name(ends, same)?;
            sized(ends, false, "creationHash")?;
        }
        other => return Err(format!("attestation {other:#x}")),
    }
    at_end(ends, "attestation")
}

fn signature(ends: Ends<'_, '_>, same: bool) -> Result<(), String> {
    match number(ends, "signature scheme")? {
        0x10 => Ok(()),
        5 => {
            let alg = number(ends, "hash of the HMAC")?;
            let size = HashAlg::from_id(alg).map_or(0, HashAlg::size);
            if same {
                exact(ends, size, "HMAC")
            } else {
                any(ends, size)
            }
        }
        scheme @ (0x14 | 0x16) => {
            number(ends, "hash of the signature")?;
            sized(ends, same && scheme == 0x14, "signature")
        }
        0x18 | 0x1A | 0x1C => {
            number(ends, "hash of the signature")?;
            sized(ends, false, "signatureR")?;
            sized(ends, false, "signatureS")
        }
        other => Err(format!("scheme {other:#x}")),
    }
}
