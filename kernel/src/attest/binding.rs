//! What ties evidence to one exchange: the hash in REPORT_DATA.
//!
//! Always true in here: both the key and the challenge go into the hash, or there is
//! none. In version 0.2.0 what is hashed has a name and one form. In version 0.1.0 the
//! proxy chooses, and is not trusted, so each has to be in its list once. Their order is
//! the proxy's: the key has a fixed length and the challenge of an honest server is
//! random, so no order lets the hash stand for another key.

use super::evidence::{REPORT_DATA_LEN, ReportData};
use libaproxy::Text;
use libaproxy::v0_1::{EcPublicKey, Param};
use libaproxy::v0_2::{Binding, Nonce, PublicKey, runtime_data};
use sha2::{Digest, Sha384, Sha512};

/// Why the proxy's parameters are not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Evidence would say nothing about who holds the key.
    #[error("the proxy's parameters do not bind the evidence to the key")]
    NoKey,
    /// Evidence would be good for ever.
    #[error("the proxy's parameters do not bind the evidence to the challenge")]
    NoChallenge,
    /// Something goes in twice.
    #[error("the proxy's parameters name something twice")]
    Repeated,
    /// The challenge is not one.
    #[error("the challenge is empty")]
    EmptyChallenge,
    /// A way to bind evidence that is not known here.
    #[error("the binding '{0}' is not known here")]
    Unknown(Text),
}

/// What evidence carries in version 0.2.0.
pub fn named(
    binding: &Binding,
    nonce: &Nonce,
    key: &PublicKey,
) -> Result<ReportData, BindingError> {
    match binding {
        Binding::KbsRuntimeDataSha384 => {
            let digest: [u8; 48] = Sha384::digest(runtime_data(nonce, key)).into();
            Ok(digest.into())
        }
        Binding::Unknown(name) => Err(BindingError::Unknown(name.clone())),
    }
}

/// REPORT_DATA of version 0.1.0: SHA-512 over what `params` names, in that order, nothing in between.
pub fn report_data(
    params: &[Param],
    key: &EcPublicKey,
    challenge: &[u8],
) -> Result<[u8; REPORT_DATA_LEN], BindingError> {
    let count = |wanted| params.iter().filter(|&&param| param == wanted).count();
    match (count(Param::EcPublicKeyBytes), count(Param::Challenge)) {
        (0, _) => return Err(BindingError::NoKey),
        (_, 0) => return Err(BindingError::NoChallenge),
        (1, 1) => {}
        _ => return Err(BindingError::Repeated),
    }
    if challenge.is_empty() {
        return Err(BindingError::EmptyChallenge);
    }
    let mut hash = Sha512::new();
    for param in params {
        match param {
            Param::EcPublicKeyBytes => {
                hash.update(&key.x);
                hash.update(&key.y);
            }
            Param::Challenge => hash.update(challenge),
        }
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Param::{Challenge, EcPublicKeyBytes};

    fn with(params: &[Param], challenge: &[u8]) -> Result<[u8; 64], BindingError> {
        let key = EcPublicKey {
            x: [1; 66].into(),
            y: [2; 66].into(),
        };
        report_data(params, &key, challenge)
    }

    #[test]
    fn unbound_evidence_is_never_made() {
        for (params, error) in [
            (&[][..], BindingError::NoKey),
            (&[Challenge], BindingError::NoKey),
            (&[EcPublicKeyBytes], BindingError::NoChallenge),
            (
                &[EcPublicKeyBytes, EcPublicKeyBytes],
                BindingError::NoChallenge,
            ),
            (
                &[EcPublicKeyBytes, Challenge, Challenge],
                BindingError::Repeated,
            ),
            (
                &[EcPublicKeyBytes, Challenge, EcPublicKeyBytes],
                BindingError::Repeated,
            ),
        ] {
            assert_eq!(with(params, b"nonce"), Err(error), "{params:?}");
        }
        assert_eq!(
            with(&[EcPublicKeyBytes, Challenge], b""),
            Err(BindingError::EmptyChallenge)
        );
    }

    #[test]
    fn hash_covers_the_parts_in_the_order_named() {
        let expected = |parts: &[&[u8]]| <[u8; 64]>::from(Sha512::digest(parts.concat()));
        let (x, y, nonce) = (&[1u8; 66][..], &[2u8; 66][..], &b"nonce"[..]);
        assert_eq!(
            with(&[EcPublicKeyBytes, Challenge], nonce),
            Ok(expected(&[x, y, nonce]))
        );
        assert_eq!(
            with(&[Challenge, EcPublicKeyBytes], nonce),
            Ok(expected(&[nonce, x, y]))
        );
    }
}
