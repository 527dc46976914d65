//! Who owns a private authenticated variable: whoever created it, and nobody else until
//! it is deleted (UEFI 2.11, section 8.2.2).

use super::AuthError;
use super::cms::{DigestAlgorithm, SignedData};
use crate::variable::Owner;

/// Verifies a signature over `content` and returns the digest that stands for its maker:
/// SHA-256 over the common name of the signer and the signed part of the last certificate
/// above it.
///
/// # Errors
/// Why the signature does not count.
pub fn of(signature: &SignedData<'_>, content: &[&[u8]]) -> Result<Owner, AuthError> {
    let (signer, top) = signature.verify_by_itself(content)?;
    let common_name = signer.common_name()?.unwrap_or_default();
    let digest = DigestAlgorithm::Sha256.digest(&[common_name, top.tbs]);
    digest
        .bytes()
        .first_chunk()
        .copied()
        .ok_or(AuthError::Digest)
}
