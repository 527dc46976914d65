//! RSA message encodings (RFC 8017, sections 7 and 9), apart from the arithmetic.
//!
//! Always true: an encoded message has exactly the size it was asked for; whether a decoded
//! one was well-formed is decided once, at the end, in constant time.

use alloc::{vec, vec::Vec};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{Bytes, CryptoError, HashAlg, HashState, Result, Rng, ct_eq, hash};

/// DER of a `DigestInfo` up to the digest itself (RFC 8017, 9.2, note 1).
fn digest_info(alg: HashAlg) -> &'static [u8] {
    match alg {
        HashAlg::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
        HashAlg::Sha256 => {
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
        }
        HashAlg::Sha384 => {
            b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
        }
        HashAlg::Sha512 => {
            b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
        }
    }
}

/// XORs MGF1 of `seed` over `out`.
fn mgf1_xor(alg: HashAlg, seed: &[u8], out: &mut [u8]) {
    let mut keyed = HashState::new(alg);
    keyed.update(seed);
    for (counter, chunk) in (0u32..).zip(out.chunks_mut(alg.size())) {
        let mut state = keyed.clone();
        state.update(&counter.to_be_bytes());
        let mask = Bytes::new(state.finish());
        for (byte, mask) in chunk.iter_mut().zip(mask.iter()) {
            *byte ^= mask;
        }
    }
}

/// EMSA-PKCS1-v1_5.
pub(super) fn pkcs1_sign(alg: HashAlg, digest: &[u8], size: usize) -> Result<Vec<u8>> {
    let info = digest_info(alg);
    let padding = size
        .checked_sub(info.len() + alg.size() + 3)
        .filter(|&padding| padding >= 8 && digest.len() == alg.size())
        .ok_or(CryptoError::Value)?;
    let mut message = Vec::with_capacity(size);
    message.extend_from_slice(&[0, 1]);
    message.resize(2 + padding, 0xFF);
    message.push(0);
    message.extend_from_slice(info);
    message.extend_from_slice(digest);
    Ok(message)
}

/// EMSA-PSS for a modulus of `8 * size` bits.
pub(super) fn pss_sign(
    alg: HashAlg,
    digest: &[u8],
    size: usize,
    rng: &mut dyn Rng,
) -> Result<Vec<u8>> {
    let room = size.checked_sub(alg.size() + 2).ok_or(CryptoError::Value)?;
    let salt_size = room.min(alg.size());
    if digest.len() != alg.size() {
        return Err(CryptoError::Value);
    }
    let mut salt = vec![0; salt_size];
    rng.fill(&mut salt)?;
    let h = hash(alg, &[&[0; 8], digest, &salt]);
    let mut message = vec![0; size];
    let db_size = size - alg.size() - 1;
    let (db, rest) = message.split_at_mut(db_size);
    db[db_size - salt_size - 1] = 1;
    db[db_size - salt_size..].copy_from_slice(&salt);
    mgf1_xor(alg, &h, db);
    db[0] &= 0x7F;
    rest[..h.len()].copy_from_slice(&h);
    rest[h.len()] = 0xBC;
    Ok(message)
}

/// Verifies EMSA-PSS with a salt of any size.
pub(super) fn pss_verify(alg: HashAlg, digest: &[u8], message: &[u8]) -> Result<()> {
    let bad = CryptoError::Signature;
    let db_size = message
        .len()
        .checked_sub(alg.size() + 1)
        .filter(|&size| size > 0)
        .ok_or(bad)?;
    let (masked, rest) = message.split_at(db_size);
    let (h, trailer) = rest.split_at(alg.size());
    if trailer != [0xBC] || masked[0] & 0x80 != 0 {
        return Err(bad);
    }
    let mut db = masked.to_vec();
    mgf1_xor(alg, h, &mut db);
    db[0] &= 0x7F;
    let one = db.iter().position(|&byte| byte != 0).ok_or(bad)?;
    if db[one] != 1 {
        return Err(bad);
    }
    let expected = hash(alg, &[&[0; 8], digest, &db[one + 1..]]);
    if ct_eq(&expected, h) {
        Ok(())
    } else {
        Err(bad)
    }
}

/// EME-OAEP.
pub(super) fn oaep_encrypt(
    alg: HashAlg,
    label: &[u8],
    data: &[u8],
    size: usize,
    rng: &mut dyn Rng,
) -> Result<Bytes> {
    let room = size
        .checked_sub(2 * alg.size() + 2)
        .ok_or(CryptoError::Value)?;
    if data.len() > room {
        return Err(CryptoError::Value);
    }
    let mut message = Bytes::new(vec![0; size]);
    let (seed, db) = message[1..].split_at_mut(alg.size());
    rng.fill(seed)?;
    db[..alg.size()].copy_from_slice(&hash(alg, &[label]));
    let start = db.len() - data.len();
    db[start - 1] = 1;
    db[start..].copy_from_slice(data);
    mgf1_xor(alg, seed, db);
    mgf1_xor(alg, db, seed);
    Ok(message)
}

/// Undoes EME-OAEP.
pub(super) fn oaep_decrypt(alg: HashAlg, label: &[u8], mut message: Bytes) -> Result<Bytes> {
    if message.len() < 2 * alg.size() + 2 {
        return Err(CryptoError::Value);
    }
    let (first, rest) = message.split_at_mut(1);
    let (seed, db) = rest.split_at_mut(alg.size());
    mgf1_xor(alg, db, seed);
    mgf1_xor(alg, seed, db);
    let (label_hash, padded) = db.split_at(alg.size());
    let good = first[0].ct_eq(&0) & label_hash.ct_eq(&hash(alg, &[label]));
    after_separator(padded, 1, 0, good)
}

/// EME-PKCS1-v1_5.
pub(super) fn pkcs1_encrypt(data: &[u8], size: usize, rng: &mut dyn Rng) -> Result<Bytes> {
    let padding = size
        .checked_sub(data.len() + 3)
        .filter(|&padding| padding >= 8)
        .ok_or(CryptoError::Value)?;
    let mut message = Bytes::new(vec![0; size]);
    message[1] = 2;
    for byte in &mut message[2..2 + padding] {
        // A byte is 0 once in 256 times; 64 in a row are a broken source.
        for _ in 0..64 {
            if *byte == 0 {
                rng.fill(core::slice::from_mut(byte))?;
            }
        }
        if *byte == 0 {
            return Err(CryptoError::Random);
        }
    }
    message[size - data.len()..].copy_from_slice(data);
    Ok(message)
}

/// Undoes EME-PKCS1-v1_5.
pub(super) fn pkcs1_decrypt(message: &Bytes) -> Result<Bytes> {
    if message.len() < 11 {
        return Err(CryptoError::Value);
    }
    let good = message[0].ct_eq(&0) & message[1].ct_eq(&2);
    after_separator(&message[2..], 0, 8, good)
}

/// What follows the first `separator` byte. In OAEP (separator 1) only zeros may come before
/// it; in PKCS #1 v1.5 (separator 0) at least `least` bytes must. The scan always covers the
/// whole message.
fn after_separator(padded: &[u8], separator: u8, least: u32, mut good: Choice) -> Result<Bytes> {
    let mut found = Choice::from(0);
    let mut start = 0u32;
    for (index, byte) in (0u32..).zip(padded) {
        let here = byte.ct_eq(&separator) & !found;
        start.conditional_assign(&(index + 1), here);
        if separator != 0 {
            good &= found | here | byte.ct_eq(&0);
        }
        found |= here;
    }
    good &= found;
    if !bool::from(good) || start < least + 1 {
        return Err(CryptoError::Padding);
    }
    Ok(Bytes::new(padded[start as usize..].to_vec()))
}
