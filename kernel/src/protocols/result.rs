//! Result codes (58019, section 3.3, table 2).

use super::memory::InvalidAddress;
use crate::services::Busy;

/// The call was served.
pub const SUCCESS: u64 = 0;

/// Why a call was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum CallError {
    UnsupportedProtocol,
    UnsupportedCall,
    InvalidAddress,
    InvalidParameter,
    InvalidRequest,
    Busy,
}

impl CallError {
    /// The number in RAX.
    pub const fn code(self) -> u64 {
        match self {
            Self::UnsupportedProtocol => 0x8000_0001,
            Self::UnsupportedCall => 0x8000_0002,
            Self::InvalidAddress => 0x8000_0003,
            Self::InvalidParameter => 0x8000_0005,
            Self::InvalidRequest => 0x8000_0006,
            Self::Busy => 0x8000_0007,
        }
    }
}

impl From<InvalidAddress> for CallError {
    fn from(_: InvalidAddress) -> Self {
        Self::InvalidAddress
    }
}

impl From<Busy> for CallError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}
