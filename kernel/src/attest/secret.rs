//! The secret that attestation brings.

use alloc::vec::Vec;
use core::fmt;
use hkdf::Hkdf;
use sha2::Sha384;
use zeroize::Zeroizing;

/// Why a decrypted secret is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// There is too little in it, in bytes.
    #[error("the secret is {0} bytes long, at least {min} are needed", min = Secret::MIN_LEN)]
    TooShort(usize),
}

/// A secret of at least [`Secret::MIN_LEN`] bytes. Wiped when dropped, never shown.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The fewest bytes that make a secret.
    pub const MIN_LEN: usize = 32;

    /// Takes the bytes if they are enough.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        match bytes.len() {
            0 => Err(SecretError::Empty),
            len if len < Self::MIN_LEN => Err(SecretError::TooShort(len)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The root key of the CocoonFs volume: the secret as it is, so that an image that
    /// was made offline with the same key opens. Everything else uses
    /// [`derive`](Self::derive).
    pub fn root_key(&self) -> &[u8] {
        &self.0
    }

    /// A key for the use that `label` names: HKDF-SHA-384 (RFC 5869) of the secret,
    /// without salt, with the label as `info`.
    pub fn derive(&self, label: &'static str) -> Zeroizing<[u8; 48]> {
        let mut key = Zeroizing::new([0; 48]);
        Hkdf::<Sha384>::new(None, &self.0)
            .expand(label.as_bytes(), &mut *key)
            .expect("one output block is never too long");
        key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secret_is_refused() {
        let of = |len| Secret::new(vec![1; len].into()).map(|_| ());
        assert_eq!(of(0), Err(SecretError::Empty));
        assert_eq!(of(1), Err(SecretError::TooShort(1)));
        assert_eq!(of(31), Err(SecretError::TooShort(31)));
        assert_eq!(of(32), Ok(()));
        assert_eq!(of(1000), Ok(()));
    }

    #[test]
    fn secret_is_not_shown() {
        let secret = Secret::new(vec![0xab; 32].into()).unwrap();
        assert_eq!(std::format!("{secret:?}"), "Secret(redacted)");
        assert_eq!(secret.root_key(), [0xab; 32]);
    }
}
