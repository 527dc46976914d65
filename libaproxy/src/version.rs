//! Protocol versions.

use crate::frame::{self, MessageError};
use core::fmt;
use serde::{Deserialize, Serialize};

/// A protocol version; on the wire an array of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The version of [`crate::v0_1`].
    pub const V0_1_0: Self = Self(0, 1, 0);

    /// The version of [`crate::v0_2`].
    pub const V0_2_0: Self = Self(0, 2, 0);

    /// Refuses every version this crate has no messages for.
    pub fn supported(self) -> Result<Self, UnsupportedVersion> {
        match self {
            Self::V0_1_0 | Self::V0_2_0 => Ok(self),
            _ => Err(UnsupportedVersion(self)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A version nobody here speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol version {0} is not supported, only 0.1.0 and 0.2.0 are")]
pub struct UnsupportedVersion(pub Version);

/// The version that a first request asks for, whatever else is in the request.
///
/// The proxy's first look at a connection: it decides which module's messages the
/// rest is parsed with.
pub fn requested_version(json: &[u8]) -> Result<Version, MessageError> {
    #[derive(Deserialize)]
    struct Head {
        version: Version,
    }
    frame::decode::<Head>(json).map(|head| head.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn other_versions_are_refused_by_name() {
        assert_eq!(Version::V0_1_0.supported(), Ok(Version(0, 1, 0)));
        assert_eq!(Version::V0_2_0.supported(), Ok(Version(0, 2, 0)));
        for other in [Version(0, 1, 1), Version(0, 2, 1), Version(1, 0, 0)] {
            assert!(other.supported().is_err());
        }
        assert_eq!(
            Version(0, 3, 0).supported().unwrap_err().to_string(),
            "protocol version 0.3.0 is not supported, only 0.1.0 and 0.2.0 are"
        );
    }

    #[test]
    fn version_is_read_before_anything_else_is_understood() {
        let json = br#"{"tee":{"new":"shape"},"version":[0,2,0],"curves":["P-384"]}"#;
        assert_eq!(requested_version(json).unwrap(), Version(0, 2, 0));
        for bad in [
            &b"{}"[..],
            br#"{"version":[0,1]}"#,
            br#"{"version":[0,1,0,0]}"#,
            br#"{"version":"0.1.0"}"#,
            br#"{"version":[0,-1,0]}"#,
            br#"{"version":[0,4294967296,0]}"#,
        ] {
            assert!(requested_version(bad).is_err());
        }
    }
}
