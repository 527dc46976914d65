//! What the UEFI specification says about variables that it names.

use uguid::Guid;

use crate::guids;
use crate::record::RecordError;
use crate::siglist;
use crate::variable::{Key, Variable};
use crate::{Attributes, Status};

/// The variables that decide what may boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureBootVariable {
    Pk,
    Kek,
    /// db, dbx, dbt or dbr.
    Database,
}

impl SecureBootVariable {
    /// Which one `key` is, if it is one.
    pub fn of(key: &Key) -> Option<Self> {
        if key.guid == guids::GLOBAL {
            if key.name.is("PK") {
                return Some(Self::Pk);
            }
            if key.name.is("KEK") {
                return Some(Self::Kek);
            }
        }
        (key.guid == guids::IMAGE_SECURITY_DATABASE
            && ["db", "dbx", "dbt", "dbr"]
                .iter()
                .any(|name| key.name.is(name)))
        .then_some(Self::Database)
    }
}

/// Name and namespace of the variable in which the service keeps audit and deployed mode.
pub const MODE: &str = "PlatformMode";

/// A variable that only tells what is, and that nobody writes.
pub fn is_status(key: &Key) -> bool {
    const GLOBAL: [&str; 5] = [
        "SecureBoot",
        "SetupMode",
        "SignatureSupport",
        "VendorKeys",
        "VendorKeysNv",
    ];
    (key.guid == guids::GLOBAL && GLOBAL.iter().any(|name| key.name.is(name)))
        || key.is(guids::CUSTOM_MODE, "CustomMode")
}

/// A variable that the firmware sets before it starts code of others, and that is
/// read-only from then on.
pub fn is_firmware_only(key: &Key) -> bool {
    const GLOBAL: [&str; 9] = [
        "PKDefault",
        "KEKDefault",
        "dbDefault",
        "dbxDefault",
        "dbtDefault",
        "dbrDefault",
        "devdbDefault",
        "CryptoIndicationsSupported",
        "CryptoIndicationsActivated",
    ];
    key.guid == guids::GLOBAL && GLOBAL.iter().any(|name| key.name.is(name))
}

pub fn is_secure_boot_enable(key: &Key) -> bool {
    key.is(guids::SECURE_BOOT_ENABLE, "SecureBootEnable")
}

/// Audit or deployed mode as guests see it.
pub fn is_mode_switch(key: &Key) -> bool {
    key.guid == guids::GLOBAL && (key.name.is("AuditMode") || key.name.is("DeployedMode"))
}

/// Sizes that a value can have.
#[derive(Clone, Copy)]
enum Size {
    Any,
    Bytes(usize),
    /// A list of 16-bit numbers.
    Words,
}

const NV: Attributes = Attributes(0x07);
const VOLATILE: Attributes = Attributes(0x06);

/// The globally defined variables (UEFI 2.11, section 3.3, table 3.1): name, with # for a
/// hexadecimal digit, attributes and size.
const GLOBALS: &[(&str, Attributes, Size)] = &[
    ("AuditMode", VOLATILE, Size::Bytes(1)),
    ("Boot####", NV, Size::Any),
    ("BootCurrent", VOLATILE, Size::Bytes(2)),
    ("BootNext", NV, Size::Bytes(2)),
    ("BootOptionSupport", VOLATILE, Size::Bytes(4)),
    ("BootOrder", NV, Size::Words),
    ("ConIn", NV, Size::Any),
    ("ConInDev", VOLATILE, Size::Any),
    ("ConOut", NV, Size::Any),
    ("ConOutDev", VOLATILE, Size::Any),
    ("CryptoIndications", NV, Size::Any),
    ("CryptoIndicationsActivated", VOLATILE, Size::Any),
    ("CryptoIndicationsSupported", VOLATILE, Size::Any),
    ("DeployedMode", VOLATILE, Size::Bytes(1)),
    ("Driver####", NV, Size::Any),
    ("DriverOrder", NV, Size::Words),
    ("ErrOut", NV, Size::Any),
    ("ErrOutDev", VOLATILE, Size::Any),
    ("HwErrRecSupport", NV, Size::Bytes(2)),
    ("KEK", Attributes::SECURE_BOOT, Size::Any),
    ("KEKDefault", VOLATILE, Size::Any),
    ("Key####", NV, Size::Any),
    ("Lang", NV, Size::Any),
    ("LangCodes", VOLATILE, Size::Any),
    ("OsIndications", NV, Size::Bytes(8)),
    ("OsIndicationsSupported", VOLATILE, Size::Bytes(8)),
    ("OsRecoveryOrder", Attributes::SECURE_BOOT, Size::Any),
    ("PK", Attributes::SECURE_BOOT, Size::Any),
    ("PKDefault", VOLATILE, Size::Any),
    ("PlatformLang", NV, Size::Any),
    ("PlatformLangCodes", VOLATILE, Size::Any),
    ("PlatformRecovery####", VOLATILE, Size::Any),
    ("SecureBoot", VOLATILE, Size::Bytes(1)),
    ("SetupMode", VOLATILE, Size::Bytes(1)),
    ("SignatureSupport", VOLATILE, Size::Any),
    ("SysPrep####", NV, Size::Any),
    ("SysPrepOrder", NV, Size::Words),
    ("Timeout", NV, Size::Bytes(2)),
    ("VendorKeys", VOLATILE, Size::Bytes(1)),
    ("dbDefault", VOLATILE, Size::Any),
    ("dbrDefault", VOLATILE, Size::Any),
    ("dbtDefault", VOLATILE, Size::Any),
    ("dbxDefault", VOLATILE, Size::Any),
    ("devAuthBoot", VOLATILE, Size::Any),
    ("devdbDefault", VOLATILE, Size::Any),
];

/// Whether `name` fits a pattern in which # stands for one hexadecimal digit.
pub fn matches(pattern: impl IntoIterator<Item = u16>, name: &[u16]) -> bool {
    let mut name = name.iter();
    pattern.into_iter().all(|wanted| match name.next() {
        Some(&unit) if wanted == u16::from(b'#') => {
            char::from_u32(u32::from(unit)).is_some_and(|c| c.is_ascii_hexdigit())
        }
        Some(&unit) => wanted == unit,
        None => false,
    }) && name.next().is_none()
}

/// Checks what the specification says about a variable in a namespace of its own.
///
/// # Errors
/// `EFI_INVALID_PARAMETER` for a name that the specification does not define there, for
/// other attributes than it gives, or for a size that the value can not have.
pub fn check_defined(key: &Key, attributes: Attributes, size: usize) -> Result<(), Status> {
    if key.guid == guids::IMAGE_SECURITY_DATABASE {
        return match SecureBootVariable::of(key) {
            Some(_) if attributes == Attributes::SECURE_BOOT => Ok(()),
            _ => Err(Status::INVALID_PARAMETER),
        };
    }
    if key.guid != guids::GLOBAL {
        return Ok(());
    }
    let defined = GLOBALS
        .iter()
        .find(|(pattern, _, _)| matches(pattern.encode_utf16(), key.name.units()));
    let fits = defined.is_some_and(|(_, wanted, length)| {
        attributes == *wanted
            && match length {
                Size::Any => true,
                Size::Bytes(bytes) => size == *bytes,
                Size::Words => size.is_multiple_of(2),
            }
    });
    if fits {
        Ok(())
    } else {
        Err(Status::INVALID_PARAMETER)
    }
}

/// Checks a variable that comes from storage.
///
/// # Errors
/// What is wrong with it.
pub fn check_stored(variable: &Variable) -> Result<(), RecordError> {
    let Variable {
        key,
        attributes,
        time,
        data,
        owner,
    } = variable;
    if attributes.check().is_err() || attributes.append() || !attributes.non_volatile() {
        return Err(RecordError::Attributes(attributes.0));
    }
    if !time.is_time_stamp() || (!attributes.authenticated() && *time != crate::EfiTime::ZERO) {
        return Err(RecordError::Time);
    }
    let secure_boot = SecureBootVariable::of(key);
    if owner.is_some() != (attributes.authenticated() && secure_boot.is_none()) {
        return Err(RecordError::Owner);
    }
    if is_status(key) || is_mode_switch(key) {
        return Err(RecordError::NotStored);
    }
    if key.guid == guids::SERVICE {
        return match &data[..] {
            [1 | 2] if key.name.is(MODE) => Ok(()),
            _ => Err(RecordError::Value),
        };
    }
    if check_defined(key, *attributes, data.len()).is_err() {
        return Err(RecordError::Attributes(attributes.0));
    }
    if is_secure_boot_enable(key) && !matches!(data[..], [0 | 1]) {
        return Err(RecordError::Value);
    }
    if let Some(kind) = secure_boot {
        siglist::check(kind, data).map_err(|_| RecordError::Value)?;
    }
    Ok(())
}

/// The namespace that a guest can not see.
pub fn is_hidden(guid: Guid) -> bool {
    guid == guids::SERVICE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, attributes: u32, size: usize) -> Result<(), Status> {
        check_defined(
            &Key::new(guids::GLOBAL, name).unwrap(),
            Attributes(attributes),
            size,
        )
    }

    #[test]
    fn the_specification_fixes_attributes_and_sizes_of_its_variables() {
        for (name, attributes, size) in [
            ("Boot0001", 7, 99),
            ("BootAbCd", 7, 1),
            ("BootNext", 7, 2),
            ("BootOrder", 7, 14),
            ("BootCurrent", 6, 2),
            ("PK", 0x27, 1000),
        ] {
            assert_eq!(check(name, attributes, size), Ok(()), "{name}");
        }
        for (name, attributes, size) in [
            ("Boot0001", 6, 99),
            ("Boot0001", 3, 99),
            ("BootNext", 7, 3),
            ("BootOrder", 7, 3),
            ("BootCurrent", 7, 2),
            ("PK", 7, 1000),
            ("PK", 0x23, 1000),
            ("Boot000G", 7, 99),
            ("Boot00001", 7, 99),
            ("Boot000", 7, 99),
            ("SomethingElse", 7, 99),
        ] {
            assert_eq!(
                check(name, attributes, size),
                Err(Status::INVALID_PARAMETER),
                "{name}"
            );
        }
    }

    #[test]
    fn signature_databases_have_nothing_else_beside_them() {
        let other = Key::new(guids::IMAGE_SECURITY_DATABASE, "dby").unwrap();
        assert!(check_defined(&other, Attributes::SECURE_BOOT, 1).is_err());
        for name in ["db", "dbx", "dbt", "dbr"] {
            let key = Key::new(guids::IMAGE_SECURITY_DATABASE, name).unwrap();
            assert_eq!(check_defined(&key, Attributes(0x27), 1), Ok(()));
            assert!(check_defined(&key, Attributes(7), 1).is_err());
            assert_eq!(
                SecureBootVariable::of(&key),
                Some(SecureBootVariable::Database)
            );
        }
    }
}
