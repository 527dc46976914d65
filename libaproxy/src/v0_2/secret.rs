//! Bytes that must not be left lying about.

use super::names::Parse;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use core::fmt;
use core::ops::Deref;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

/// Length of a session key in bytes.
pub const SESSION_KEY_LEN: usize = 32;

/// A volume's identity: 32 random bytes that the SVSM chose when it made the volume. Not
/// a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 32]);

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = STANDARD.encode(self.0);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("32 bytes in base64", |text: &str| {
            let bytes = STANDARD.decode(text).ok();
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map(Self)
                .ok_or("not 32 bytes in standard padded base64")
        }))
    }
}

/// Secret bytes that travel as standard padded base64 inside something encrypted. Wiped
/// when dropped, never shown.
///
/// Only a string without escapes is read: the parser would otherwise leave a copy behind
/// that nobody wipes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Zeroizing<Vec<u8>>);

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&**self)))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Borrowed(&STANDARD)).map(Self)
    }
}

/// The same as unpadded base64url, for use with `#[serde(with = "...")]`.
pub(super) mod base64url {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(&**bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretBytes, D::Error> {
        deserializer
            .deserialize_str(Borrowed(&URL_SAFE_NO_PAD))
            .map(SecretBytes)
    }
}

/// The key that authenticates reports and acknowledgements of one boot.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(pub Zeroizing<[u8; SESSION_KEY_LEN]>);

impl SessionKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; SESSION_KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(redacted)")
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(*self.0)))
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_str(Borrowed(&STANDARD))?;
        let mut key = Zeroizing::new([0; SESSION_KEY_LEN]);
        if bytes.len() != SESSION_KEY_LEN {
            return Err(D::Error::custom("the session key is not 32 bytes long"));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }
}

/// Decodes base64 that the parser has not copied.
struct Borrowed(&'static GeneralPurpose);

impl<'de> Visitor<'de> for Borrowed {
    type Value = Zeroizing<Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 without escapes")
    }

    // The words of the error must not quote the secret.
    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::custom("a secret with escapes in its base64"))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        // All the room at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(alloc::vec![0; base64::decoded_len_estimate(text.len())]);
        let len = self
            .0
            .decode_slice(text, &mut bytes)
            .map_err(|_| E::custom("a secret that is not base64 of the expected kind"))?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn secret_is_neither_shown_nor_quoted() {
        let secret = SecretBytes::from(alloc::vec![0xab; 4]);
        assert_eq!(format!("{secret:?}"), "SecretBytes(redacted)");
        let key = SessionKey::new([0xab; 32]);
        assert_eq!(format!("{key:?}"), "SessionKey(redacted)");
        for bad in [r#""c2Vjcm\u0056""#, r#""c2Vjc-_V0""#, r#""c2Vjcm""#] {
            let error = serde_json::from_str::<SecretBytes>(bad).unwrap_err();
            assert!(!format!("{error}").contains("c2V"), "{error}");
        }
    }

    #[test]
    fn bytes_survive_the_wire() {
        for len in [0, 1, 2, 3, 32, 1000] {
            let secret = SecretBytes::from(alloc::vec![0x9b; len]);
            let json = serde_json::to_string(&secret).unwrap();
            assert_eq!(serde_json::from_str::<SecretBytes>(&json).unwrap(), secret);
        }
    }

    #[test]
    fn session_key_and_identity_have_one_length() {
        for len in [0, 31, 33] {
            let json = format!("{:?}", STANDARD.encode(alloc::vec![1u8; len]));
            assert!(serde_json::from_str::<SessionKey>(&json).is_err());
            assert!(serde_json::from_str::<Identity>(&json).is_err());
        }
        let json = format!("{:?}", STANDARD.encode([1u8; 32]));
        let key = serde_json::from_str::<SessionKey>(&json).unwrap();
        assert_eq!(key, SessionKey::new([1; 32]));
        let identity = serde_json::from_str::<Identity>(&json).unwrap();
        assert_eq!(identity, Identity([1; 32]));
        assert_eq!(serde_json::to_string(&identity).unwrap(), json);
    }
}
