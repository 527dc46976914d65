//! The page of the kernel's image with the keys of the servers it trusts: what the builder
//! of boot images writes and the kernel reads. It is measured with the rest of the image.
//!
//! A count (32 bits, little-endian), that many keys, zeros to the end. A key is a
//! SubjectPublicKeyInfo for P-384 in DER with an uncompressed point (RFC 5480).

/// Size of the page in bytes.
pub const PAGE_LEN: usize = 4096;

/// Name of the page's section in the kernel's ELF file.
pub const SECTION: &str = ".trusted_keys";

/// Length of a key in bytes.
pub const KEY_LEN: usize = 120;

/// Most keys.
pub const MAX_KEYS: usize = 8;

const COUNT_LEN: usize = 4;

const _: () = assert!(COUNT_LEN + MAX_KEYS * KEY_LEN <= PAGE_LEN);

/// Why a page cannot be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustedKeysError {
    #[error("{0} trusted keys, at most {MAX_KEYS} are possible")]
    Count(usize),
    #[error("the page of trusted keys has {0} bytes, not {PAGE_LEN}")]
    Length(usize),
    #[error("the page of trusted keys has something behind its keys")]
    Trailing,
}

/// The page with `keys`.
pub fn encode(keys: &[[u8; KEY_LEN]]) -> Result<[u8; PAGE_LEN], TrustedKeysError> {
    if keys.len() > MAX_KEYS {
        return Err(TrustedKeysError::Count(keys.len()));
    }
    let mut page = [0; PAGE_LEN];
    let (count, rest) = page.split_at_mut(COUNT_LEN);
    count.copy_from_slice(&(keys.len() as u32).to_le_bytes());
    for (place, key) in rest.chunks_exact_mut(KEY_LEN).zip(keys) {
        place.copy_from_slice(key);
    }
    Ok(page)
}

/// The keys on `page`.
pub fn decode(page: &[u8]) -> Result<&[[u8; KEY_LEN]], TrustedKeysError> {
    let Some((count, rest)) = page
        .split_first_chunk::<COUNT_LEN>()
        .filter(|_| page.len() == PAGE_LEN)
    else {
        return Err(TrustedKeysError::Length(page.len()));
    };
    let count = u32::from_le_bytes(*count) as usize;
    if count > MAX_KEYS {
        return Err(TrustedKeysError::Count(count));
    }
    let (keys, behind) = rest.split_at(count * KEY_LEN);
    if behind.iter().any(|byte| *byte != 0) {
        return Err(TrustedKeysError::Trailing);
    }
    Ok(keys.as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        for count in 0..=MAX_KEYS {
            let keys: [[u8; KEY_LEN]; MAX_KEYS] = core::array::from_fn(|n| [n as u8 + 1; KEY_LEN]);
            let page = encode(&keys[..count]).unwrap();
            assert_eq!(decode(&page), Ok(&keys[..count]));
        }
    }

    #[test]
    fn other_pages_are_refused() {
        let keys = [[7; KEY_LEN]; MAX_KEYS + 1];
        assert_eq!(encode(&keys), Err(TrustedKeysError::Count(9)));
        let mut page = encode(&keys[..2]).unwrap();
        assert_eq!(decode(&page[1..]), Err(TrustedKeysError::Length(4095)));
        assert_eq!(decode(&[]), Err(TrustedKeysError::Length(0)));
        // A count that leaves out a key must not pass: it would be trusted less, or nobody.
        page[0] = 1;
        assert_eq!(decode(&page), Err(TrustedKeysError::Trailing));
        page[0] = 9;
        assert_eq!(decode(&page), Err(TrustedKeysError::Count(9)));
    }
}
