//! EFI_SIGNATURE_LIST (UEFI 2.11, section 32.4.1): the values of PK, KEK and the signature
//! databases.
//!
//! A [`List`] lies inside the bytes it was read from, holds at least one signature, and
//! its sizes add up exactly.

use alloc::vec::Vec;

use uguid::Guid;

use crate::auth::x509::Certificate;
use crate::bytes::{guid_at, u32_at};
use crate::rules::SecureBootVariable;
use crate::{Status, bytes, guids};

const LIST_HEADER: usize = 28;
const OWNER: usize = 16;

/// Why bytes are no value for a Secure Boot variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigListError {
    #[error("a signature list ends inside its header")]
    ShortHeader,
    #[error("the sizes of a signature list do not fit each other")]
    Sizes,
    #[error("a signature list of an unknown type")]
    Type,
    #[error("signatures of a size that their type does not have")]
    SignatureSize,
    #[error("a certificate that can not be used")]
    Certificate,
    #[error("PK is not exactly one signature")]
    PkCount,
}

/// One list of signatures of the same type and size.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    pub kind: Guid,
    pub header: &'a [u8],
    /// Size of each signature with its owner, in bytes.
    size: usize,
    signatures: &'a [u8],
}

impl<'a> List<'a> {
    /// Each signature: owner and data together, as `EFI_SIGNATURE_DATA`.
    pub fn signatures(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.signatures.chunks_exact(self.size)
    }

    /// The data of each signature, without its owner.
    pub fn data(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.signatures().map(|signature| &signature[OWNER..])
    }

    fn same_shape(&self, other: &List<'_>) -> bool {
        self.kind == other.kind && self.size == other.size && self.header == other.header
    }
}

/// The lists in a value. Ends with the first error.
pub fn lists(value: &[u8]) -> impl Iterator<Item = Result<List<'_>, SigListError>> + Clone {
    let mut rest = value;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (list, next) = match split(rest) {
            Ok((list, next)) => (Ok(list), next),
            Err(error) => (Err(error), &[][..]),
        };
        rest = next;
        Some(list)
    })
}

fn split(value: &[u8]) -> Result<(List<'_>, &[u8]), SigListError> {
    let field = |offset| u32_at(value, offset).ok_or(SigListError::ShortHeader);
    let kind = guid_at(value, 0).ok_or(SigListError::ShortHeader)?;
    let list_size = field(16)? as usize;
    let header_size = field(20)? as usize;
    let size = field(24)? as usize;
    let (list, next) = value
        .split_at_checked(list_size)
        .ok_or(SigListError::Sizes)?;
    let rest = list.get(LIST_HEADER..).ok_or(SigListError::Sizes)?;
    let (header, signatures) = rest
        .split_at_checked(header_size)
        .ok_or(SigListError::Sizes)?;
    if size <= OWNER || signatures.is_empty() || signatures.len() % size != 0 {
        return Err(SigListError::Sizes);
    }
    let list = List {
        kind,
        header,
        size,
        signatures,
    };
    Ok((list, next))
}

/// Size of the data of a signature of this type; `None` for types whose data has any size.
fn data_size(kind: Guid) -> Result<Option<usize>, SigListError> {
    Ok(Some(match kind {
        guids::CERT_X509 => return Ok(None),
        guids::CERT_SHA1 => 20,
        guids::CERT_SHA224 => 28,
        guids::CERT_SHA256 => 32,
        guids::CERT_SHA384 => 48,
        guids::CERT_SHA512 => 64,
        guids::CERT_RSA2048 | guids::CERT_RSA2048_SHA1 | guids::CERT_RSA2048_SHA256 => 256,
        guids::CERT_X509_SHA256 => 32 + 16,
        guids::CERT_X509_SHA384 => 48 + 16,
        guids::CERT_X509_SHA512 => 64 + 16,
        guids::CERT_EXTERNAL_MANAGEMENT => 1,
        _ => return Err(SigListError::Type),
    }))
}

/// Checks a value for a Secure Boot variable: types and sizes of all lists, that
/// certificates of PK and KEK can verify signatures, and that PK is one signature.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(variable: SecureBootVariable, value: &[u8]) -> Result<(), SigListError> {
    let mut count = 0;
    for list in lists(value) {
        let list = list?;
        if !list.header.is_empty() {
            return Err(SigListError::Sizes);
        }
        if data_size(list.kind)?.is_some_and(|size| list.size != OWNER + size) {
            return Err(SigListError::SignatureSize);
        }
        for data in list.data() {
            count += 1;
            check_signature(variable, list.kind, data)?;
        }
    }
    if variable == SecureBootVariable::Pk && count != 1 {
        return Err(SigListError::PkCount);
    }
    Ok(())
}

fn check_signature(
    variable: SecureBootVariable,
    kind: Guid,
    data: &[u8],
) -> Result<(), SigListError> {
    match variable {
        SecureBootVariable::Pk if kind == guids::CERT_EXTERNAL_MANAGEMENT => Ok(()),
        SecureBootVariable::Pk if kind != guids::CERT_X509 => Err(SigListError::Type),
        _ if kind == guids::CERT_EXTERNAL_MANAGEMENT => Err(SigListError::Type),
        SecureBootVariable::Pk | SecureBootVariable::Kek if kind == guids::CERT_X509 => {
            Certificate::parse(data)
                .and_then(|certificate| certificate.key())
                .map(drop)
                .map_err(|_| SigListError::Certificate)
        }
        _ => Ok(()),
    }
}

/// The X.509 certificates in a value that was checked before.
pub fn certificates(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    lists(value)
        .map_while(Result::ok)
        .filter(|list| list.kind == guids::CERT_X509)
        .flat_map(|list| list.data())
}

/// Adds to `old` the signatures of `new` that it does not have. Both were checked before.
/// They join the list of `old` that has their type and size, if there is one.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn merge(old: &[u8], new: &[u8]) -> Result<Vec<u8>, Status> {
    let mut merged = bytes::copy(old)?;
    for list in lists(new).map_while(Result::ok) {
        for signature in list.signatures() {
            add(&mut merged, &list, signature)?;
        }
    }
    Ok(merged)
}

fn add(merged: &mut Vec<u8>, like: &List<'_>, signature: &[u8]) -> Result<(), Status> {
    let mut end = 0;
    let mut home = None;
    for list in lists(merged).map_while(Result::ok) {
        let start = end;
        let size = LIST_HEADER + list.header.len() + list.signatures.len();
        end += size;
        if !list.same_shape(like) {
            continue;
        }
        if list.signatures().any(|known| known == signature) {
            return Ok(());
        }
        // The specification has each certificate in a list of its own.
        if list.kind != guids::CERT_X509 {
            home = Some((start, end, size));
        }
    }
    let number = |n: usize| u32::try_from(n).map_err(|_| Status::OUT_OF_RESOURCES);
    if let Some((start, end, size)) = home {
        merged
            .try_reserve(signature.len())
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        let grown = number(size + signature.len())?.to_le_bytes();
        merged[start + 16..start + 20].copy_from_slice(&grown);
        merged.splice(end..end, signature.iter().copied());
        return Ok(());
    }
    let list_size = LIST_HEADER + like.header.len() + signature.len();
    bytes::extend(merged, &like.kind.to_bytes())?;
    for size in [list_size, like.header.len(), signature.len()] {
        bytes::extend(merged, &number(size)?.to_le_bytes())?;
    }
    bytes::extend(merged, like.header)?;
    bytes::extend(merged, signature)
}

/// A value of one list with one signature.
///
/// # Errors
/// `EFI_OUT_OF_RESOURCES`.
pub fn single(kind: Guid, owner: Guid, data: &[u8]) -> Result<Vec<u8>, Status> {
    let mut value = Vec::new();
    let mut signature = bytes::with_capacity(OWNER + data.len())?;
    signature.extend_from_slice(&owner.to_bytes());
    signature.extend_from_slice(data);
    let list = List {
        kind,
        header: &[],
        size: signature.len(),
        signatures: &signature,
    };
    add(&mut value, &list, &signature)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecureBootVariable::{Database, Kek, Pk};

    fn hashes(range: core::ops::Range<u8>) -> Vec<u8> {
        let lists = range.map(|n| single(guids::CERT_SHA256, guids::GLOBAL, &[n; 32]).unwrap());
        lists.fold(Vec::new(), |old, new| merge(&old, &new).unwrap())
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let good = hashes(0..2);
        assert_eq!(check(Database, &good), Ok(()));
        let with = |offset: usize, value: u32| {
            let mut bad = good.clone();
            bad[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
            check(Database, &bad)
        };
        for value in [0, 1, 27, 28, 29, 75, 77, 125, u32::MAX] {
            assert!(with(16, value).is_err(), "list size {value}");
        }
        for value in [1, 48, 96, 97, u32::MAX] {
            assert!(with(20, value).is_err(), "header size {value}");
        }
        for value in [0, 1, 16, 24, 47, 49, 96, u32::MAX] {
            assert!(with(24, value).is_err(), "signature size {value}");
        }
        for len in 1..good.len() {
            assert!(check(Database, &good[..len]).is_err(), "cut off at {len}");
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(check(Database, &long), Err(SigListError::ShortHeader));
    }

    #[test]
    fn unknown_types_are_refused() {
        let list = single(guids::GLOBAL, guids::GLOBAL, &[0; 32]).unwrap();
        assert_eq!(check(Database, &list), Err(SigListError::Type));
    }

    #[test]
    fn pk_is_one_certificate_or_managed_elsewhere() {
        let managed = single(guids::CERT_EXTERNAL_MANAGEMENT, guids::GLOBAL, &[0]).unwrap();
        assert_eq!(check(Pk, &managed), Ok(()));
        assert_eq!(check(Kek, &managed), Err(SigListError::Type));
        assert_eq!(check(Pk, &hashes(0..1)), Err(SigListError::Type));
        assert_eq!(check(Pk, &[]), Err(SigListError::PkCount));
        let junk = single(guids::CERT_X509, guids::GLOBAL, &[0x30, 0x00]).unwrap();
        assert_eq!(check(Pk, &junk), Err(SigListError::Certificate));
        assert_eq!(check(Kek, &junk), Err(SigListError::Certificate));
    }

    #[test]
    fn merging_adds_what_is_new_and_only_that() {
        let old = hashes(0..3);
        assert_eq!(merge(&old, &hashes(1..3)).unwrap(), old);
        let merged = merge(&old, &hashes(2..5)).unwrap();
        assert_eq!(merged, hashes(0..5));
        assert_eq!(lists(&merged).count(), 1);
        let sha1 = single(guids::CERT_SHA1, guids::GLOBAL, &[9; 20]).unwrap();
        let both = merge(&old, &sha1).unwrap();
        assert_eq!(both, [&old[..], &sha1].concat());
        let grown = merge(&both, &hashes(3..4)).unwrap();
        assert_eq!(grown, [&hashes(0..4)[..], &sha1].concat());
    }

    #[test]
    fn certificates_keep_lists_of_their_own() {
        let first = single(guids::CERT_X509, guids::GLOBAL, &[1; 40]).unwrap();
        let second = single(guids::CERT_X509, guids::GLOBAL, &[2; 40]).unwrap();
        let both = merge(&first, &second).unwrap();
        assert_eq!(both, [&first[..], &second].concat());
        assert_eq!(certificates(&both).count(), 2);
    }
}
