//! Which features a kernel was built with, and which of them a production image may have.
//!
//! The kernel's build leaves the names in its symbol table: `__svsm_features`, and
//! `__svsm_feature_NAME` for each. A kernel without that table could have any feature and
//! is refused with the same right.

use elf::ElfBytes;
use elf::endian::LittleEndian;

/// Features of which a production image may have any. All others are for development and
/// tests: they open the SVSM to the host.
const PRODUCTION: [&str; 6] = [
    "attest",
    "cocoonfs",
    "secureboot",
    "uefivars",
    "vtpm",
    "vtpm_remanufacture",
];

/// The symbol that every kernel has.
const LIST: &str = "__svsm_features";
/// What the symbol of a feature begins with.
const PREFIX: &str = "__svsm_feature_";

/// Why a kernel may not go into a production image.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The symbols cannot be read.
    #[error("symbols cannot be read: {0}")]
    Parse(#[from] elf::ParseError),
    /// The kernel does not say what it was built with.
    #[error("does not tell its features; give the file as it was built, with its symbols")]
    Unknown,
    /// A feature that is for development and tests.
    #[error("feature `{0}` must not be in an image for a platform with isolation")]
    Refused(String),
}

/// Checks that `kernel`, an ELF file with symbols, has no feature but those of a
/// production image.
///
/// # Errors
/// [`FeatureError`].
pub fn check_production(kernel: &[u8]) -> Result<(), FeatureError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(kernel)?;
    let (symbols, names) = elf.symbol_table()?.ok_or(FeatureError::Unknown)?;
    let mut listed = false;
    for symbol in symbols.iter() {
        let name = names.get(symbol.st_name as usize)?;
        listed |= name == LIST;
        if let Some(feature) = name.strip_prefix(PREFIX)
            && !PRODUCTION.contains(&feature)
        {
            return Err(FeatureError::Refused(feature.to_owned()));
        }
    }
    if listed {
        Ok(())
    } else {
        Err(FeatureError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

    /// An ELF file with these symbols.
    fn kernel(symbols: &[&str]) -> Vec<u8> {
        let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        for name in symbols {
            file.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value: 0,
                size: 0,
                kind: SymbolKind::Data,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Absolute,
                flags: SymbolFlags::None,
            });
        }
        file.write().expect("writes")
    }

    #[test]
    fn features_of_a_production_image_pass() {
        let symbols = [
            LIST,
            "__svsm_feature_attest",
            "__svsm_feature_vtpm",
            "__svsm_feature_vtpm_remanufacture",
            "main",
        ];
        check_production(&kernel(&symbols)).unwrap();
        check_production(&kernel(&[LIST])).unwrap();
    }

    #[test]
    fn features_for_development_are_refused_by_name() {
        for feature in ["guestlink", "mock_snp", "bench", "selftest", "of_tomorrow"] {
            let symbol = format!("{PREFIX}{feature}");
            let error = check_production(&kernel(&[LIST, &symbol])).unwrap_err();
            assert!(matches!(error, FeatureError::Refused(name) if name == feature));
        }
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_refused() {
        for symbols in [&[][..], &["main"], &["__svsm_feature_attest"]] {
            assert!(matches!(
                check_production(&kernel(symbols)),
                Err(FeatureError::Unknown)
            ));
        }
        assert!(check_production(b"no ELF file").is_err());
    }
}
