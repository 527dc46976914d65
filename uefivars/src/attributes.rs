//! Variable attributes (UEFI 2.11, section 8.2.1).

use core::fmt;

use crate::Status;

/// The attribute bits of a variable or of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Kept across boots.
    pub const NON_VOLATILE: Self = Self(0x01);
    /// Visible before ExitBootServices.
    pub const BOOTSERVICE_ACCESS: Self = Self(0x02);
    /// Visible after it too.
    pub const RUNTIME_ACCESS: Self = Self(0x04);
    /// One of the HwErrRec#### variables.
    pub const HARDWARE_ERROR_RECORD: Self = Self(0x08);
    /// The authentication by counter that the specification has withdrawn.
    pub const AUTHENTICATED_WRITE_ACCESS: Self = Self(0x10);
    /// Writes carry an `EFI_VARIABLE_AUTHENTICATION_2`.
    pub const TIME_BASED_AUTHENTICATED_WRITE_ACCESS: Self = Self(0x20);
    /// Of a request only: add to what is there.
    pub const APPEND_WRITE: Self = Self(0x40);
    /// Authentication by `EFI_VARIABLE_AUTHENTICATION_3`, optional and not offered here.
    pub const ENHANCED_AUTHENTICATED_ACCESS: Self = Self(0x80);

    /// What each of PK, KEK and the signature databases must have.
    pub const SECURE_BOOT: Self = Self(0x27);
    /// What the status variables of the global namespace have.
    pub const STATUS: Self = Self(0x06);

    const STORED: u32 = 0x2f;

    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    pub const fn non_volatile(self) -> bool {
        self.has(Self::NON_VOLATILE)
    }

    pub const fn runtime(self) -> bool {
        self.has(Self::RUNTIME_ACCESS)
    }

    pub const fn authenticated(self) -> bool {
        self.has(Self::TIME_BASED_AUTHENTICATED_WRITE_ACCESS)
    }

    pub const fn append(self) -> bool {
        self.has(Self::APPEND_WRITE)
    }

    /// Whether nobody may access a variable with these attributes; a request with such
    /// attributes is a deletion.
    pub const fn no_access(self) -> bool {
        self.0 & (Self::BOOTSERVICE_ACCESS.0 | Self::RUNTIME_ACCESS.0) == 0
    }

    /// The same without the bit that only a request has.
    pub const fn without_append(self) -> Self {
        Self(self.0 & !Self::APPEND_WRITE.0)
    }

    /// Whether a variable may have these attributes, `APPEND_WRITE` aside.
    ///
    /// # Errors
    /// `EFI_UNSUPPORTED` for the two ways of authentication that are not offered,
    /// `EFI_INVALID_PARAMETER` for unknown bits and combinations without a meaning.
    pub const fn check(self) -> Result<(), Status> {
        let bits = self.without_append();
        if self.has(Self::AUTHENTICATED_WRITE_ACCESS)
            || self.has(Self::ENHANCED_AUTHENTICATED_ACCESS)
        {
            return Err(Status::UNSUPPORTED);
        }
        if bits.0 & !Self::STORED != 0
            || !bits.has(Self::BOOTSERVICE_ACCESS)
            || (bits.has(Self::HARDWARE_ERROR_RECORD) && bits.0 & 0x07 != 0x07)
        {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(())
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u32, &str); 8] = [
            (0x01, "NV"),
            (0x02, "BS"),
            (0x04, "RT"),
            (0x08, "HR"),
            (0x10, "AW"),
            (0x20, "AT"),
            (0x40, "APPEND"),
            (0x80, "EA"),
        ];
        let mut separator = "";
        for (bit, name) in NAMES {
            if self.0 & bit != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        let unknown = self.0 & !0xff;
        if unknown != 0 || self.0 == 0 {
            write!(f, "{separator}{unknown:#x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meaningless_combinations_are_refused() {
        for good in [0x02, 0x03, 0x06, 0x07, 0x0f, 0x22, 0x23, 0x27, 0x42, 0x67] {
            assert_eq!(Attributes(good).check(), Ok(()), "{good:#x}");
        }
        for bad in [
            0x00,
            0x01,
            0x04,
            0x05,
            0x08,
            0x0a,
            0x0e,
            0x100,
            0x107,
            0x8000_0007,
        ] {
            assert_eq!(
                Attributes(bad).check(),
                Err(Status::INVALID_PARAMETER),
                "{bad:#x}"
            );
        }
        for withdrawn in [0x10, 0x17, 0x37, 0x80, 0x87] {
            assert_eq!(Attributes(withdrawn).check(), Err(Status::UNSUPPORTED));
        }
    }
}
