//! Comparing distinguished names.
//!
//! RFC 5280, section 7.1, wants names compared without regard to case, to spaces at the
//! ends and runs of spaces inside, and to the kind of string. This is that comparison for
//! the characters that are in use: only ASCII letters lose their case.

use der::Tag;

use super::AuthError;
use super::asn1::whole;

/// Whether two names, each a whole `Name` in DER, are the same.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a == b || same_parts(a, b).unwrap_or(false)
}

/// Checks that this is a name, and that its strings hold what they say.
pub fn check(name: &[u8]) -> Result<(), AuthError> {
    for part in whole(name)?.inside(Tag::Sequence)? {
        for attribute in part?.inside(Tag::Set)? {
            let mut attribute = attribute?.inside(Tag::Sequence)?;
            attribute.element()?.oid()?;
            let value = attribute.element()?;
            attribute.end()?;
            let broken = match value.tag {
                Tag::Utf8String => core::str::from_utf8(value.value).is_err(),
                Tag::BmpString => !value.value.len().is_multiple_of(2),
                Tag::BitString => value.value.first().is_none_or(|unused| *unused > 7),
                Tag::PrintableString
                | Tag::Ia5String
                | Tag::TeletexString
                | Tag::NumericString
                | Tag::Sequence => false,
                _ => true,
            };
            if broken {
                return Err(AuthError::Malformed);
            }
        }
    }
    Ok(())
}

fn same_parts(a: &[u8], b: &[u8]) -> Result<bool, AuthError> {
    let mut a = whole(a)?.inside(Tag::Sequence)?;
    let mut b = whole(b)?.inside(Tag::Sequence)?;
    while !a.is_finished() && !b.is_finished() {
        let mut a = a.element()?.inside(Tag::Set)?;
        let mut b = b.element()?.inside(Tag::Set)?;
        while !a.is_finished() && !b.is_finished() {
            let mut a = a.element()?.inside(Tag::Sequence)?;
            let mut b = b.element()?.inside(Tag::Sequence)?;
            let same_type = a.element()?.oid()? == b.element()?.oid()?;
            let (value_a, value_b) = (a.element()?, b.element()?);
            a.end()?;
            b.end()?;
            let same_value = match (Text::of(value_a.tag), Text::of(value_b.tag)) {
                (Some(kind_a), Some(kind_b)) => {
                    canonical(kind_a, value_a.value).eq(canonical(kind_b, value_b.value))
                }
                _ => value_a.raw == value_b.raw,
            };
            if !same_type || !same_value {
                return Ok(false);
            }
        }
        if !a.is_finished() || !b.is_finished() {
            return Ok(false);
        }
    }
    Ok(a.is_finished() && b.is_finished())
}

/// How characters of a string are stored.
#[derive(Clone, Copy)]
enum Text {
    Utf8,
    Latin1,
    Bmp,
}

impl Text {
    fn of(tag: Tag) -> Option<Self> {
        match tag {
            Tag::Utf8String => Some(Self::Utf8),
            Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => Some(Self::Latin1),
            Tag::BmpString => Some(Self::Bmp),
            _ => None,
        }
    }

    fn characters(self, bytes: &[u8]) -> impl Iterator<Item = u32> + Clone {
        let (utf8, latin1, bmp) = match self {
            Self::Utf8 => match core::str::from_utf8(bytes) {
                Ok(text) => (text, &[][..], &[][..]),
                Err(_) => ("", bytes, &[][..]),
            },
            Self::Latin1 => ("", bytes, &[][..]),
            Self::Bmp => ("", &[][..], bytes.as_chunks::<2>().0),
        };
        utf8.chars()
            .map(u32::from)
            .chain(latin1.iter().map(|byte| u32::from(*byte)))
            .chain(bmp.iter().map(|unit| u32::from(u16::from_be_bytes(*unit))))
    }
}

fn canonical(kind: Text, bytes: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = kind
        .characters(bytes)
        .skip_while(|c| is_space(*c))
        .peekable();
    core::iter::from_fn(move || {
        let c = rest.next()?;
        if !is_space(c) {
            return Some(lower(c));
        }
        while rest.next_if(|c| is_space(*c)).is_some() {}
        rest.peek().map(|_| u32::from(b' '))
    })
}

fn is_space(c: u32) -> bool {
    c == u32::from(b' ') || (9..=13).contains(&c)
}

fn lower(c: u32) -> u32 {
    u8::try_from(c).map_or(c, |byte| u32::from(byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn name(tag: u8, text: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, inside: &[u8]| {
            let mut out = alloc::vec![tag, inside.len() as u8];
            out.extend_from_slice(inside);
            out
        };
        let mut attribute = wrap(6, &[0x55, 4, 3]);
        attribute.extend(wrap(tag, text));
        wrap(0x30, &wrap(0x31, &wrap(0x30, &attribute)))
    }

    #[test]
    fn case_spaces_and_kind_of_string_make_no_difference() {
        let utf8 = name(0x0c, b"Test Key");
        for (tag, text) in [
            (0x0c, &b"test KEY"[..]),
            (0x13, b"Test Key"),
            (0x16, b" Test   Key  "),
            (0x1e, b"\0T\0e\0s\0t\0 \0K\0e\0y"),
        ] {
            assert!(same(&utf8, &name(tag, text)), "{tag:#x}");
        }
        for (tag, text) in [
            (0x0c, &b"Test Kex"[..]),
            (0x0c, b"TestKey"),
            (0x0c, b"Test Key 2"),
            (0x04, b"Test Key"),
        ] {
            assert!(!same(&utf8, &name(tag, text)), "{tag:#x}");
        }
        assert!(!same(&utf8, &[0x30, 0]));
        assert!(!same(&[0x30, 0], &utf8));
    }
}
