//! How state becomes bytes: for records and for saved contexts.
//!
//! Always true: what [`Encode::decode`] accepts, `encode` would have written; it takes every
//! field's exact width, refuses numbers out of range, and never allocates more than the
//! input could hold.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    crypto::{Bytes, HashAlg, HashState, HmacState},
    rc::Rc,
    wire::{
        Marshal, Put, Reader, Unmarshal,
        algorithms::{self, SymDef},
        public::{Public, Sensitive},
        structures::NvPublic,
    },
};

/// State that is written to a record or a saved context.
pub trait Encode: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads it back; `None` when the bytes are no such encoding.
    fn decode(reader: &mut Reader<'_>) -> Option<Self>;

    /// The encoding as a buffer that is zeroed when dropped.
    fn encoded(&self) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        self.encode(&mut out);
        Bytes::new(out)
    }

    /// Reads a buffer that holds this and nothing after it.
    fn decoded(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.left().is_empty().then_some(value)
    }
}

macro_rules! through_wire {
    ($($type:ty)*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                self.marshal(out);
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                <$type as Unmarshal>::unmarshal(reader).ok()
            }
        }
    )*};
}
through_wire!(u8 u16 u32 u64 Sensitive NvPublic SymDef);

impl Encode for Public {
    fn encode(&self, out: &mut Vec<u8>) {
        self.marshal(out);
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Self::read(reader, true).ok()
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        reader.yes_no().ok()
    }
}

impl Encode for HashAlg {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.id());
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        algorithms::hash(reader).ok()
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.put(&(bytes.len() as u32));
    out.raw(bytes);
}

fn bytes<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let size = reader.u32().ok()? as usize;
    reader.take(size).ok()
}

impl Encode for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(bytes(reader)?.to_vec())
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self::new(bytes(reader)?.to_vec()))
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        if bool::decode(reader)? {
            Some(Some(T::decode(reader)?))
        } else {
            Some(None)
        }
    }
}

impl<T: Encode + Copy + Default, const N: usize> Encode for [T; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.encode(out));
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut all = [T::default(); N];
        for value in &mut all {
            *value = T::decode(reader)?;
        }
        Some(all)
    }
}

/// A list, for element types that are no bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Encode> Encode for List<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u32).encode(out);
        self.0.iter().for_each(|value| value.encode(out));
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let count = u32::decode(reader)?;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(T::decode(reader)?);
        }
        Some(Self(all))
    }
}

impl<T: Encode> Encode for BTreeMap<u32, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let count = u32::decode(reader)?;
        let mut all = Self::new();
        for _ in 0..count {
            let key = u32::decode(reader)?;
            if all.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            all.insert(key, T::decode(reader)?);
        }
        Some(all)
    }
}

impl<T: Encode> Encode for Arc<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        T::decode(reader).map(Self::new)
    }
}

macro_rules! hash_states {
    ($($type:ident)*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                self.alg().encode(out);
                put_bytes(&self.to_bytes(), out);
            }
            fn decode(reader: &mut Reader<'_>) -> Option<Self> {
                let alg = HashAlg::decode(reader)?;
                Self::from_bytes(alg, bytes(reader)?)
            }
        }
    )*};
}
hash_states!(HashState HmacState);

/// Declares a structure and its encoding: the fields in order.
#[macro_export]
macro_rules! encoded {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$meta])*
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }
        impl $crate::state::encoding::Encode for $name {
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                $($crate::state::encoding::Encode::encode(&self.$field, out);)*
            }
            fn decode(reader: &mut $crate::wire::Reader<'_>) -> Option<Self> {
                Some(Self {
                    $($field: <$type as $crate::state::encoding::Encode>::decode(reader)?,)*
                })
            }
        }
    )*};
}

/// A record or context that should decode and does not.
pub const DAMAGED: Rc = Rc::FAILURE;
