//! The key of a volume.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// Shortest key that is accepted, in bytes. The file system would take any, even
/// none at all.
pub const MIN_KEY_BYTES: usize = 32;

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("the volume key has {0} bytes, at least {MIN_KEY_BYTES} are needed")]
    TooShort(usize),
    #[error("not enough memory for the volume key")]
    NoMemory,
}

/// Root key of a volume: at least [`MIN_KEY_BYTES`] bytes with as much entropy.
/// Zeroed when dropped.
pub struct VolumeKey(Zeroizing<Vec<u8>>);

impl VolumeKey {
    /// A key from `bytes`, which are copied.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyError::TooShort(bytes.len()));
        }
        copy(bytes).map(Self)
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy of the bytes, for CocoonFs, which wants to own them.
    pub(super) fn copy(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        copy(&self.0)
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(..)")
    }
}

fn copy(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut copy = Zeroizing::new(Vec::new());
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| KeyError::NoMemory)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_are_refused() {
        for len in [0, 1, 16, 31] {
            assert_eq!(
                VolumeKey::new(&alloc::vec![1; len]).err(),
                Some(KeyError::TooShort(len))
            );
        }
        assert!(VolumeKey::new(&[1; 32]).is_ok());
    }

    #[test]
    fn debug_output_tells_nothing_of_the_key() {
        let key = VolumeKey::new(&[0x5a; 32]).unwrap();
        assert_eq!(alloc::format!("{key:?}"), "VolumeKey(..)");
    }
}
