//! Puts the keys of trusted servers into a kernel's ELF file.

use crate::section::{SectionError, fill};
use bootinfo::trusted_keys::{KEY_LEN, PAGE_LEN, SECTION, TrustedKeysError, encode};
use p384::pkcs8::{DecodePublicKey, EncodePublicKey};

/// Why keys cannot be put into a kernel.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not a public key, or one of another kind.
    #[error("not a public key for P-384 in PEM form (SubjectPublicKeyInfo): {0}")]
    Key(p384::pkcs8::spki::Error),
    /// A key of another length than such keys have.
    #[error("a key of {0} bytes instead of {KEY_LEN}")]
    KeyLength(usize),
    /// Too many of them.
    #[error(transparent)]
    Page(#[from] TrustedKeysError),
    /// The kernel has no place for them.
    #[error(transparent)]
    Section(#[from] SectionError),
}

/// Reads a P-384 public key in PEM form, as `openssl pkey -pubout` and `kbs-test show-key`
/// print it.
///
/// # Errors
/// [`PinError`].
pub fn parse_key(pem: &str) -> Result<[u8; KEY_LEN], PinError> {
    // Encoded anew: the kernel knows one form of a key only.
    let key = p384::PublicKey::from_public_key_pem(pem).map_err(PinError::Key)?;
    let der = key.to_public_key_der().map_err(PinError::Key)?;
    der.as_bytes()
        .try_into()
        .map_err(|_| PinError::KeyLength(der.as_bytes().len()))
}

/// `kernel`, an ELF file with sections, with `keys` in it.
///
/// # Errors
/// [`PinError`].
pub fn pin(kernel: &[u8], keys: &[[u8; KEY_LEN]]) -> Result<Vec<u8>, PinError> {
    Ok(fill(kernel, SECTION, PAGE_LEN, &encode(keys)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl: `ecparam -name secp384r1 -genkey`, `pkey -pubout`.
    const PEM: &str = include_str!("../tests/vectors/p384-public.pem");
    const OTHER_CURVE: &str = include_str!("../tests/vectors/p256-public.pem");

    #[test]
    fn a_key_of_openssl_is_read_to_the_byte() {
        let key = parse_key(PEM).unwrap();
        let der = include_bytes!("../tests/vectors/p384-public.der");
        assert_eq!(key[..], der[..]);
    }

    #[test]
    fn other_keys_are_refused() {
        for bad in ["", "key", OTHER_CURVE, &PEM.replace("PUBLIC", "PRIVATE")] {
            assert!(matches!(parse_key(bad), Err(PinError::Key(_))), "{bad}");
        }
        let damaged = PEM.replacen("A", "B", 4);
        assert!(parse_key(&damaged).is_err());
    }
}
