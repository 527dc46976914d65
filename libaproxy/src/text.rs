//! Text from a peer, made harmless.

use alloc::string::String;
use core::fmt;
use core::ops::Deref;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// The longest [`Text`], in characters.
pub const MAX_TEXT: usize = 200;

/// One line of at most [`MAX_TEXT`] printable ASCII characters, fit for a log
/// whoever wrote it: anything else became `?`, what was too long ends in `...`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text(String);

impl Text {
    /// Makes a text out of anything.
    pub fn new(text: &str) -> Self {
        const CUT: &str = "...";
        let printable = |c: char| match c {
            ' '..='~' => c,
            _ => '?',
        };
        if text.chars().nth(MAX_TEXT).is_none() {
            return Self(text.chars().map(printable).collect());
        }
        let mut cut: String = text
            .chars()
            .take(MAX_TEXT - CUT.len())
            .map(printable)
            .collect();
        cut.push_str(CUT);
        Self(cut)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Clean;

        impl Visitor<'_> for Clean {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::new(text))
            }
        }

        deserializer.deserialize_str(Clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_text_is_one_printable_short_line() {
        assert_eq!(&*Text::new("refused: 401"), "refused: 401");
        assert_eq!(
            &*Text::new("a\r\n[SVSM] b\x1b[2J\u{e9}\0"),
            "a??[SVSM] b?[2J??"
        );
        assert_eq!(Text::new(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
        let long = Text::new(&"\u{20ac}".repeat(MAX_TEXT + 1));
        assert_eq!(long.len(), MAX_TEXT);
        assert!(long.ends_with("?..."));
    }
}
