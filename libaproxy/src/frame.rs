//! Framing: 8 bytes with the length of the JSON, little-endian, then the JSON, with
//! nothing between or behind.
//!
//! A receiver reads [`HEADER_LEN`] bytes, gives them to [`payload_len`], and only
//! then makes room for that many bytes and hands them to [`decode`].

use crate::text::Text;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Length of the header in front of every message, in bytes.
pub const HEADER_LEN: usize = 8;

/// The longest JSON text either side sends or accepts, in bytes. The longest one
/// seen so far is 4 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The announced or the own length is beyond [`MAX_MESSAGE`].
    #[error("message of {0} bytes, the limit is {MAX_MESSAGE}")]
    TooLong(u64),
    /// The JSON does not parse or is another message than expected.
    #[error("invalid message: {0}")]
    Invalid(Text),
}

/// The length that a header announces, if it is acceptable.
pub fn payload_len(header: [u8; HEADER_LEN]) -> Result<usize, MessageError> {
    let announced = u64::from_le_bytes(header);
    match usize::try_from(announced) {
        Ok(len) if len <= MAX_MESSAGE => Ok(len),
        _ => Err(MessageError::TooLong(announced)),
    }
}

/// Parses the JSON of one message.
pub fn decode<M: DeserializeOwned>(json: &[u8]) -> Result<M, MessageError> {
    if json.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(json.len() as u64));
    }
    serde_json::from_slice(json).map_err(invalid)
}

/// Header and JSON of one message, ready to be sent.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, MessageError> {
    let json = serde_json::to_vec(message).map_err(invalid)?;
    if json.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(json.len() as u64));
    }
    let mut framed = Vec::with_capacity(HEADER_LEN + json.len());
    framed.extend_from_slice(&(json.len() as u64).to_le_bytes());
    framed.extend_from_slice(&json);
    Ok(framed)
}

/// The parser quotes its input, which is why its words pass through [`Text`].
fn invalid(error: serde_json::Error) -> MessageError {
    MessageError::Invalid(Text::new(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    #[test]
    fn length_beyond_the_limit_is_refused() {
        assert_eq!(payload_len((MAX_MESSAGE as u64).to_le_bytes()), Ok(65536));
        for length in [65537, 1 << 32, 1 << 63, u64::MAX] {
            assert_eq!(
                payload_len(length.to_le_bytes()),
                Err(MessageError::TooLong(length))
            );
        }
        let json = vec![b' '; MAX_MESSAGE + 1];
        assert_eq!(decode::<u8>(&json), Err(MessageError::TooLong(65537)));
    }

    #[test]
    fn own_messages_keep_to_the_limit() {
        let quotes = 2;
        assert!(encode(&"x".repeat(MAX_MESSAGE - quotes)).is_ok());
        assert_eq!(
            encode(&"x".repeat(MAX_MESSAGE)),
            Err(MessageError::TooLong(65538))
        );
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(decode::<u8>(b" 7 "), Ok(7));
        assert!(decode::<u8>(b"7 8").is_err());
        assert!(decode::<u8>(b"").is_err());
    }

    #[test]
    fn errors_quote_the_peer_harmlessly() {
        let json = format!("{:?}", String::from("\u{1b}[31m").repeat(1000));
        let MessageError::Invalid(text) = decode::<u8>(json.as_bytes()).unwrap_err() else {
            panic!();
        };
        assert!(text.len() <= crate::MAX_TEXT && text.bytes().all(|b| (0x20..0x7f).contains(&b)));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let json = "[".repeat(MAX_MESSAGE);
        assert!(decode::<serde_json::Value>(json.as_bytes()).is_err());
    }
}
