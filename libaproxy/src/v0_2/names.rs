//! Names that travel: curves, challenges, volumes. A value of a type in here is well
//! formed.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The longest challenge, in characters.
pub const MAX_NONCE: usize = 128;

/// The most curves a list may name, known ones and others.
pub const MAX_CURVES: usize = 16;

/// The longest name of a volume, in characters.
pub const MAX_VOLUME_NAME: usize = 192;

/// Why a string is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a challenge.
    #[error("the nonce is not base64 of 1 to {MAX_NONCE} characters")]
    Nonce,
    /// Not the name of a volume.
    #[error(
        "the volume name is not repository/type/tag in letters, digits, '_', '-' and '.', \
         at most {MAX_VOLUME_NAME} characters"
    )]
    Volume,
}

/// A curve, by its name in JOSE (RFC 7518, section 6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// All curves in the order in which an SVSM prefers them.
    pub const PREFERENCE: [Self; 3] = [Self::P384, Self::P521, Self::P256];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of a coordinate in bytes.
    pub const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The curve of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::PREFERENCE
            .into_iter()
            .find(|curve| curve.name() == name)
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Curve {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Curve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("the name of a curve", |name: &str| {
            Self::from_name(name).ok_or("unknown curve")
        }))
    }
}

/// Curves on offer. Names nobody here knows are skipped, and so are repetitions; more
/// than [`MAX_CURVES`] entries are an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curves(Vec<Curve>);

impl Curves {
    /// A list to send.
    pub fn new(curves: impl IntoIterator<Item = Curve>) -> Self {
        let mut list = Vec::new();
        for curve in curves {
            if !list.contains(&curve) {
                list.push(curve);
            }
        }
        Self(list)
    }

    /// The one an SVSM takes: the first of its own [preference](Curve::PREFERENCE) that
    /// is on offer, whatever the order of the list.
    pub fn preferred(&self) -> Option<Curve> {
        Curve::PREFERENCE
            .into_iter()
            .find(|curve| self.0.contains(curve))
    }
}

impl Deref for Curves {
    type Target = [Curve];

    fn deref(&self) -> &[Curve] {
        &self.0
    }
}

impl Serialize for Curves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Curves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A name, known or not; nothing of an unknown one is kept.
        struct Entry(Option<Curve>);

        impl<'de> Deserialize<'de> for Entry {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse("the name of a curve", |name: &str| {
                    Ok::<_, core::convert::Infallible>(Self(Curve::from_name(name)))
                }))
            }
        }

        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Curves;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_CURVES} names of curves")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Curves, A::Error> {
                let mut list = Vec::new();
                let mut seen = 0;
                while let Some(Entry(curve)) = seq.next_element()? {
                    seen += 1;
                    if seen > MAX_CURVES {
                        return Err(A::Error::custom("more than 16 curves"));
                    }
                    list.extend(curve);
                }
                Ok(Curves::new(list))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// A server's challenge, in exactly the characters it was sent in: 1 to [`MAX_NONCE`]
/// of the base64 alphabets and `=`. They need no escaping in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(String);

impl Nonce {
    /// Checks length and characters.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b);
        if text.is_empty() || text.len() > MAX_NONCE || !text.bytes().all(good) {
            return Err(NameError::Nonce);
        }
        Ok(Self(text.into()))
    }
}

/// The name of a volume at the server: `repository/type/tag`, the path of its resource.
/// Each part begins with something else than `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// Checks form and length.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        let part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(good);
        let three = text.split('/').count() == 3;
        if text.len() > MAX_VOLUME_NAME || !three || !text.split('/').all(part) {
            return Err(NameError::Volume);
        }
        Ok(Self(text.into()))
    }
}

/// What a checked string has in common with a string.
macro_rules! checked_string {
    ($name:ident, $what:literal) => {
        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse($what, Self::new))
            }
        }
    };
}

checked_string!(Nonce, "a nonce");
checked_string!(VolumeName, "the name of a volume");

/// Makes a value out of a string: what is expected, and how.
pub(super) struct Parse<F>(pub &'static str, pub F);

impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Parse<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<R: Error>(self, text: &str) -> Result<T, R> {
        (self.1)(text).map_err(R::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn own_order_decides_on_the_curve() {
        let offered = |json| serde_json::from_str::<Curves>(json).unwrap().preferred();
        assert_eq!(offered(r#"["P-256","P-521","P-384"]"#), Some(Curve::P384));
        assert_eq!(offered(r#"["P-256","P-521"]"#), Some(Curve::P521));
        assert_eq!(offered(r#"["secp256k1","P-256"]"#), Some(Curve::P256));
        assert_eq!(offered(r#"["X25519","p-256",""]"#), None);
        assert_eq!(offered("[]"), None);
    }

    #[test]
    fn list_of_curves_is_bounded() {
        let list = |count| {
            let json = format!("[{}]", alloc::vec!["\"P-384\""; count].join(","));
            serde_json::from_str::<Curves>(&json)
        };
        assert_eq!(&*list(MAX_CURVES).unwrap(), [Curve::P384]);
        assert!(list(MAX_CURVES + 1).is_err());
        assert!(serde_json::from_str::<Curves>("[1]").is_err());
        assert!(serde_json::from_str::<Curves>(r#""P-384""#).is_err());
    }

    #[test]
    fn nonce_that_needs_escaping_is_refused() {
        for good in ["A", "bm9uY2U=", "a-_+/=", &"x".repeat(MAX_NONCE)] {
            assert!(Nonce::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\"b",
            "a\\b",
            "a\nb",
            "\u{e9}",
            "a\0",
            &"x".repeat(MAX_NONCE + 1),
        ] {
            assert_eq!(Nonce::new(bad), Err(NameError::Nonce), "{bad}");
        }
    }

    #[test]
    fn volume_name_is_three_path_segments() {
        for good in ["default/sample/test", "a/b/c.d", "A_1/-/0"] {
            assert!(VolumeName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a/b",
            "a/b/c/d",
            "a//c",
            "/a/b",
            "a/b/",
            "a/../c",
            "a/.b/c",
            "a/b c/d",
            "a/b%2f/c",
            "a/b/\u{e9}",
            &format!("a/b/{}", "x".repeat(MAX_VOLUME_NAME)),
        ] {
            assert_eq!(VolumeName::new(bad), Err(NameError::Volume), "{bad}");
        }
    }
}
