//! EFI_STATUS values, as they travel in the body of an MM communication.

use core::fmt;

/// A status code (UEFI 2.11, appendix D). An error has bit 63 set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u64);

const ERROR: u64 = 1 << 63;

impl Status {
    pub const SUCCESS: Self = Self(0);
    pub const INVALID_PARAMETER: Self = Self(ERROR | 2);
    pub const UNSUPPORTED: Self = Self(ERROR | 3);
    pub const BAD_BUFFER_SIZE: Self = Self(ERROR | 4);
    pub const BUFFER_TOO_SMALL: Self = Self(ERROR | 5);
    pub const DEVICE_ERROR: Self = Self(ERROR | 7);
    pub const WRITE_PROTECTED: Self = Self(ERROR | 8);
    pub const OUT_OF_RESOURCES: Self = Self(ERROR | 9);
    pub const NOT_FOUND: Self = Self(ERROR | 14);
    pub const ACCESS_DENIED: Self = Self(ERROR | 15);
    pub const TIMEOUT: Self = Self(ERROR | 18);
    pub const ALREADY_STARTED: Self = Self(ERROR | 20);
    pub const SECURITY_VIOLATION: Self = Self(ERROR | 26);

    /// Whether the value says that something failed.
    pub const fn is_error(self) -> bool {
        self.0 & ERROR != 0
    }

    /// The name in the specification, if this is a status the service uses.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "EFI_SUCCESS",
            Self::INVALID_PARAMETER => "EFI_INVALID_PARAMETER",
            Self::UNSUPPORTED => "EFI_UNSUPPORTED",
            Self::BAD_BUFFER_SIZE => "EFI_BAD_BUFFER_SIZE",
            Self::BUFFER_TOO_SMALL => "EFI_BUFFER_TOO_SMALL",
            Self::DEVICE_ERROR => "EFI_DEVICE_ERROR",
            Self::WRITE_PROTECTED => "EFI_WRITE_PROTECTED",
            Self::OUT_OF_RESOURCES => "EFI_OUT_OF_RESOURCES",
            Self::NOT_FOUND => "EFI_NOT_FOUND",
            Self::ACCESS_DENIED => "EFI_ACCESS_DENIED",
            Self::TIMEOUT => "EFI_TIMEOUT",
            Self::ALREADY_STARTED => "EFI_ALREADY_STARTED",
            Self::SECURITY_VIOLATION => "EFI_SECURITY_VIOLATION",
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "EFI_STATUS {:#018x}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Status {}
