//! What an authenticated server encrypts to the SVSM.

use super::names::VolumeName;
use super::secret::{Identity, SecretBytes, SessionKey};
use crate::frame::MessageError;
use crate::text::Text;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest plaintext, in bytes.
pub const MAX_RELEASE: usize = 16 * 1024;

/// What the server knows of a volume's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Nothing was ever stored on it: it may be formatted.
    New,
    /// It has contents: an empty one in its place is a fraud.
    Formatted,
}

/// How closely the server follows a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ledger {
    /// Not at all: no reports are made.
    Off,
    /// One report when the volume was opened.
    Boot,
    /// One more for every commit, while the SVSM goes on.
    Commit,
    /// One more for every commit, and nothing that follows from the commit is answered
    /// before the report is acknowledged.
    Strict,
}

/// The plaintext of an authenticated answer. Nothing in it may be used before the
/// server's signature was verified with the name of the volume that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The volume's root key, at least 32 bytes.
    pub secret: SecretBytes,
    /// The volume it belongs to.
    pub volume: VolumeName,
    /// Generation of the secret: grows when the owner exchanges it.
    pub generation: u64,
    /// What the server knows of the contents.
    pub state: VolumeState,
    /// The volume's identity, once one was reported.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// The last epoch that was reported; 0 before the first.
    pub epoch: u64,
    /// The last update counter that was reported.
    pub counter: u64,
    /// Which reports the server wants.
    pub ledger: Ledger,
    /// What authenticates them.
    pub session_key: SessionKey,
}

impl Release {
    /// Parses a plaintext. Unknown members are ignored.
    pub fn parse(json: &[u8]) -> Result<Self, MessageError> {
        if json.len() > MAX_RELEASE {
            return Err(MessageError::TooLong(json.len() as u64));
        }
        serde_json::from_slice(json)
            .map_err(|error| MessageError::Invalid(Text::new(&error.to_string())))
    }

    /// The plaintext. The buffer wipes itself; what it grew out of does not, which a
    /// server has to live with.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, MessageError> {
        let json = serde_json::to_vec(self)
            .map(Zeroizing::new)
            .map_err(|error| MessageError::Invalid(Text::new(&error.to_string())))?;
        if json.len() > MAX_RELEASE {
            return Err(MessageError::TooLong(json.len() as u64));
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    fn release(len: usize) -> Release {
        Release {
            secret: vec![7; len].into(),
            volume: VolumeName::new("default/sample/test").unwrap(),
            generation: 1,
            state: VolumeState::New,
            identity: None,
            epoch: 0,
            counter: u64::MAX,
            ledger: Ledger::Commit,
            session_key: SessionKey::new([9; 32]),
        }
    }

    #[test]
    fn plaintext_survives_the_wire() {
        let new = release(32);
        assert_eq!(Release::parse(&new.to_json().unwrap()).unwrap(), new);
        let formatted = Release {
            state: VolumeState::Formatted,
            identity: Some(Identity([3; 32])),
            ..release(64)
        };
        let json = formatted.to_json().unwrap();
        assert_eq!(Release::parse(&json).unwrap(), formatted);
    }

    #[test]
    fn plaintext_is_bounded() {
        assert!(release(MAX_RELEASE).to_json().is_err());
        let json = vec![b' '; MAX_RELEASE + 1];
        assert_eq!(
            Release::parse(&json).unwrap_err(),
            MessageError::TooLong(MAX_RELEASE as u64 + 1)
        );
    }

    #[test]
    fn every_member_is_needed_and_typed() {
        let json = String::from_utf8(release(32).to_json().unwrap().to_vec()).unwrap();
        let parses = |json: &str| Release::parse(json.as_bytes()).is_ok();
        assert!(parses(&json));
        assert!(parses(&json.replacen('{', r#"{"later":[1,{}],"#, 1)));
        for (from, to) in [
            ("\"secret\"", "\"secrets\""),
            ("default/sample/test", "default/../test"),
            ("\"generation\":1", "\"generation\":-1"),
            ("\"generation\":1", "\"generation\":1.5"),
            ("\"new\"", "\"old\""),
            ("\"epoch\":0", "\"epoch\":\"0\""),
            ("\"epoch\":0", "\"epoch\":0,\"epoch\":0"),
            ("18446744073709551615", "18446744073709551616"),
            ("\"commit\"", "\"always\""),
            ("\"session_key\"", "\"key\""),
            ("\"identity\":null", "\"identity\":\"AAAA\""),
        ] {
            assert!(json.contains(from), "{from}");
            assert!(!parses(&json.replacen(from, to, 1)), "{from} -> {to}");
        }
        assert!(!parses(&format!("{json} x")));
    }

    #[test]
    fn plaintext_is_not_shown() {
        let shown = format!("{:?}", release(32));
        assert!(
            !shown.contains("7, 7") && !shown.contains("9, 9"),
            "{shown}"
        );
    }
}
