//! Walking through DER.

use der::asn1::AnyRef;
use der::{Decode, Header, Reader, SliceReader, Tag, TagNumber, Tagged};

use super::AuthError;

/// One element: tag, contents, and all of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: Tag,
    pub value: &'a [u8],
    pub raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// The contents, if this is a `tag`.
    pub fn expect(self, tag: Tag) -> Result<&'a [u8], AuthError> {
        if self.tag == tag {
            Ok(self.value)
        } else {
            Err(AuthError::Malformed)
        }
    }

    /// The elements inside, if this is a `tag`.
    pub fn inside(self, tag: Tag) -> Result<Elements<'a>, AuthError> {
        Elements::new(self.expect(tag)?)
    }

    /// The contents of an OBJECT IDENTIFIER, to be compared with
    /// [`ObjectIdentifier::as_bytes`](der::asn1::ObjectIdentifier::as_bytes).
    pub fn oid(self) -> Result<&'a [u8], AuthError> {
        let oid = self.expect(Tag::ObjectIdentifier)?;
        // Base 128 with a flag for "more follows": the last byte has none, and no number
        // begins with a zero digit.
        let ends = oid.last().is_some_and(|last| last & 0x80 == 0);
        let mut begins = true;
        for byte in oid {
            if begins && *byte == 0x80 {
                return Err(AuthError::Malformed);
            }
            begins = byte & 0x80 == 0;
        }
        if ends {
            Ok(oid)
        } else {
            Err(AuthError::Malformed)
        }
    }

    /// The contents of an INTEGER: at least one byte, and not more than it needs.
    pub fn integer(self) -> Result<&'a [u8], AuthError> {
        match self.expect(Tag::Integer)? {
            [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(AuthError::Malformed),
            integer => Ok(integer),
        }
    }

    /// The bytes of a BIT STRING of whole bytes.
    pub fn bits(self) -> Result<&'a [u8], AuthError> {
        match self.expect(Tag::BitString)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(AuthError::Malformed),
        }
    }
}

/// The elements in a run of DER.
pub struct Elements<'a>(SliceReader<'a>);

impl<'a> Elements<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, AuthError> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// The next element, which has to be there.
    pub fn element(&mut self) -> Result<Element<'a>, AuthError> {
        let raw = self.0.tlv_bytes()?;
        let any = AnyRef::from_der(raw)?;
        Ok(Element {
            tag: any.tag(),
            value: any.value(),
            raw,
        })
    }

    /// The next element, if it has this tag.
    pub fn optional(&mut self, tag: Tag) -> Result<Option<Element<'a>>, AuthError> {
        if self.is_finished() || Header::peek(&self.0)?.tag() != tag {
            return Ok(None);
        }
        self.element().map(Some)
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Refuses what comes after the last element that was asked for.
    pub fn end(self) -> Result<(), AuthError> {
        if self.is_finished() {
            Ok(())
        } else {
            Err(AuthError::Malformed)
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, AuthError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.is_finished()).then(|| self.element())
    }
}

/// The element that is all of `bytes`.
pub fn whole(bytes: &[u8]) -> Result<Element<'_>, AuthError> {
    let mut elements = Elements::new(bytes)?;
    let element = elements.element()?;
    if elements.is_finished() {
        Ok(element)
    } else {
        Err(AuthError::TrailingBytes)
    }
}

/// Context-specific tag, constructed.
pub fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// Context-specific tag, primitive.
pub fn context_primitive(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: false,
        number: TagNumber(number),
    }
}

/// The algorithm of an AlgorithmIdentifier, and its parameters.
pub fn algorithm(element: Element<'_>) -> Result<(&[u8], Option<Element<'_>>), AuthError> {
    let mut inside = element.inside(Tag::Sequence)?;
    let oid = inside.element()?.oid()?;
    let parameters = if inside.is_finished() {
        None
    } else {
        Some(inside.element()?)
    };
    inside.end()?;
    Ok((oid, parameters))
}
