//! Puts an owner's first Secure Boot keys into a kernel's ELF file.

use crate::section::{SectionError, fill, is_there};
use uefivars::InitialSet;
use uefivars::initial::{ROOM, SECTION, SetError};

/// Why keys cannot be put into a kernel.
#[derive(Debug, thiserror::Error)]
pub enum InitialSetError {
    /// A kernel that enrols keys, and none for it.
    #[error(
        "the kernel was built with the feature `secureboot`, which needs the first keys: \
         make them with `uefi-vars set` and give them with --initial-set"
    )]
    Needed,
    /// Keys, and a kernel that would not use them.
    #[error("the kernel was built without the feature `secureboot` and would not use these keys")]
    NotUsed,
    /// Something that is no set.
    #[error("not a set of first keys: {0}")]
    Set(#[from] SetError),
    /// A file of zeros.
    #[error("not a set of first keys: it is empty")]
    Empty,
    /// The kernel has no place for them.
    #[error(transparent)]
    Section(#[from] SectionError),
}

/// `kernel`, an ELF file with sections, with the keys in `set` in it.
///
/// # Errors
/// [`InitialSetError`]; also where the kernel needs keys and there are none, and the other
/// way round.
pub fn put(kernel: Vec<u8>, set: Option<&[u8]>) -> Result<Vec<u8>, InitialSetError> {
    match (set, is_there(&kernel, SECTION)?) {
        (None, false) => Ok(kernel),
        (None, true) => Err(InitialSetError::Needed),
        (Some(_), false) => Err(InitialSetError::NotUsed),
        (Some(set), true) => {
            InitialSet::decode(set)?.ok_or(InitialSetError::Empty)?;
            Ok(fill(&kernel, SECTION, ROOM, set)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::tests::kernel;
    use uefivars::{guids, siglist};

    fn set() -> Vec<u8> {
        let pk = siglist::single(guids::CERT_EXTERNAL_MANAGEMENT, guids::GLOBAL, &[0]).unwrap();
        let kek = siglist::single(guids::CERT_SHA256, guids::GLOBAL, &[7; 32]).unwrap();
        let set = InitialSet {
            pk: &pk,
            kek: &kek,
            ..InitialSet::default()
        };
        set.encode().unwrap()
    }

    #[test]
    fn keys_are_put_in_where_the_kernel_enrols_them() {
        let (with, without) = (kernel(SECTION, ROOM), kernel(".other", ROOM));
        let filled = put(with.clone(), Some(&set())).unwrap();
        assert_ne!(filled, with);
        assert_eq!(put(without.clone(), None).unwrap(), without);
        assert!(matches!(put(with, None), Err(InitialSetError::Needed)));
        assert!(matches!(
            put(without, Some(&set())),
            Err(InitialSetError::NotUsed)
        ));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let put = |set: &[u8]| put(kernel(SECTION, ROOM), Some(set)).unwrap_err();
        assert!(matches!(put(b""), InitialSetError::Empty));
        assert!(matches!(put(b"keys"), InitialSetError::Set(_)));
        let mut damaged = set();
        *damaged.last_mut().unwrap() = 0;
        damaged.pop();
        assert!(matches!(put(&damaged), InitialSetError::Set(_)));
    }
}
