//! The update counter of an image, which grows by one with every commit.
//!
//! It has 128 bits, begins with a random number when the image is formatted, and wraps.
//! CocoonFs keeps it in the mutable header, encrypted, lets the digest at the root of the
//! authentication tree cover it, and tells it to nobody. So the bytes that CocoonFs has authenticated are decrypted here once more
//! (CocoonFs format, sections "Key derivation" and "Filesystem update counter").

use core::fmt;

use cocoon_tpm_crypto::CryptoError;
use cocoon_tpm_crypto::hash::hash_alg_digest_len;
use cocoon_tpm_crypto::kdf::{Kdf as _, tcg_tpm2_kdf_a::TcgTpm2KdfA};
use cocoon_tpm_crypto::symcipher::SymBlockCipherModeDecryptionInstance;
use cocoon_tpm_storage::fs::cocoonfs::ImageLayout;
use cocoon_tpm_tpm2_interface::{TpmiAlgCipherMode, TpmiAlgHash, TpmiAlgSymObject};
use cocoon_tpm_utils_common::io_slices::{
    IoSlicesIterCommon as _, SingletonIoSlice, SingletonIoSliceMut,
};
use zeroize::Zeroizing;

use super::key::VolumeKey;

/// Longest encrypted counter, in bytes: 128 bits, padded to blocks of a cipher.
pub const MAX_ENCRYPTED: usize = 16;

/// Purposes of keys.
const DERIVATION: u8 = 1;
const ENCRYPTION: u8 = 5;

/// Inode and part of an inode that the counter's key is derived for.
const COUNTER_INODE: u64 = 6;
const INODE_DATA: u32 = 2;

/// Longest key of any kind, in bytes.
const MAX_KEY: usize = 64;

/// A key on the way from the volume's to the counter's.
struct DerivedKey {
    bytes: Zeroizing<[u8; MAX_KEY]>,
    len: usize,
}

impl DerivedKey {
    /// KDFa (TPM 2.0 Library, part 1, section 11.4.10.2) of `key`, `len` bytes.
    fn derive(
        algorithm: TpmiAlgHash,
        key: &[u8],
        purpose: u8,
        context: [&[u8]; 2],
        len: usize,
    ) -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new([0; MAX_KEY]);
        let target = bytes.get_mut(..len).ok_or(CryptoError::RequestTooBig)?;
        let label = [purpose];
        TcgTpm2KdfA::new(
            algorithm,
            key,
            &label,
            Some(context[0]),
            Some(context[1]),
            8 * len as u32,
        )?
        .generate(SingletonIoSliceMut::new(target).map_infallible_err())?;
        Ok(Self { bytes, len })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(redacted)")
    }
}

/// Decrypts the counter of an image with `layout` and `salt` under `key`. `encrypted` must
/// be what CocoonFs has authenticated.
///
/// # Errors
///
/// [`CryptoError`]: no memory, or parameters that no image has.
pub fn decrypt(
    key: &VolumeKey,
    layout: &ImageLayout,
    salt: &[u8],
    encrypted: &[u8],
) -> Result<u128, CryptoError> {
    let key = counter_key(key, layout, salt)?;
    let cipher = SymBlockCipherModeDecryptionInstance::new(
        TpmiAlgCipherMode::Cbc,
        &layout.block_cipher_alg,
        key.as_bytes(),
    )?;
    let mut counter = [0; MAX_ENCRYPTED];
    let target = counter
        .get_mut(..encrypted.len())
        .ok_or(CryptoError::InvalidParams)?;
    cipher.decrypt(
        &[0; MAX_ENCRYPTED][..cipher.iv_len()],
        SingletonIoSliceMut::new(target).map_infallible_err(),
        SingletonIoSlice::new(encrypted).map_infallible_err(),
        None,
    )?;
    Ok(u128::from_le_bytes(counter))
}

fn counter_key(
    key: &VolumeKey,
    layout: &ImageLayout,
    salt: &[u8],
) -> Result<DerivedKey, CryptoError> {
    let hash = layout.kdf_hash_alg;
    // Whatever the image says of its algorithms goes into its root key, whose own
    // derivation is fixed to the strongest hash.
    let (cipher, cipher_bits) = <(TpmiAlgSymObject, u16)>::from(&layout.block_cipher_alg);
    let mut context = [0; 8 + 1 + 8 * 2 + 1];
    context[..8].copy_from_slice(b"COCOONFS");
    context[8] = 1;
    for (field, value) in context[9..].chunks_exact_mut(2).zip([
        hash as u16,
        layout.auth_tree_root_hmac_hash_alg as u16,
        layout.auth_tree_node_hash_alg as u16,
        layout.auth_tree_data_hmac_hash_alg as u16,
        layout.preauth_cca_protection_hmac_hash_alg as u16,
        TpmiAlgCipherMode::Cbc as u16,
        cipher as u16,
        cipher_bits,
    ]) {
        field.copy_from_slice(&value.to_be_bytes());
    }
    context[25] = u8::try_from(salt.len()).map_err(|_| CryptoError::InvalidParams)?;
    let root = DerivedKey::derive(
        TpmiAlgHash::Sha512,
        key.as_bytes(),
        DERIVATION,
        [&context, salt],
        usize::from(hash_alg_digest_len(hash)),
    )?;
    let mut domain = [0; 12];
    domain[..8].copy_from_slice(&COUNTER_INODE.to_le_bytes());
    domain[8..].copy_from_slice(&INODE_DATA.to_le_bytes());
    let len = layout.block_cipher_alg.key_len();
    DerivedKey::derive(hash, root.as_bytes(), ENCRYPTION, [&domain, &[]], len)
}
