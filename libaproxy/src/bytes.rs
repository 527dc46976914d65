//! Byte strings inside JSON: base64, standard alphabet, padded (RFC 4648, section 4).

use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use core::ops::Deref;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Bytes that travel as standard padded base64. The URL-safe alphabet and missing
/// padding are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

impl Base64 {
    /// The bytes as they travel.
    pub fn to_text(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl Deref for Base64 {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Base64 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Base64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Base64 {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Base64 {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decode;

        impl Visitor<'_> for Decode {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of standard padded base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                STANDARD
                    .decode(text)
                    .map(Base64)
                    .map_err(|_| E::custom("not standard padded base64"))
            }
        }

        deserializer.deserialize_str(Decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_standard_padded_alphabet_is_accepted() {
        let parse = |json: &str| serde_json::from_str::<Base64>(json).map(|b| b.0);
        assert_eq!(parse(r#""AP+/""#).unwrap(), [0x00, 0xff, 0xbf]);
        assert_eq!(parse(r#""AQI=""#).unwrap(), [1, 2]);
        assert!(parse(r#""""#).unwrap().is_empty());
        for bad in [
            r#""AP-_""#,
            r#""AQI""#,
            r#""AQI==""#,
            r#""AQJ=""#,
            r#"" AQI=""#,
            r#""AQ\n""#,
            "null",
            "[1,2]",
            "7",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
