//! Key derivation functions (TPM 2.0 Library, Part 1, 11.4.10).
//!
//! Always true: the most significant bits above the asked number of bits are zero.

use alloc::vec::Vec;

use super::{Bytes, HashAlg, HashState, HmacState};

/// KDFa: SP 800-108 in counter mode over HMAC. `label` is without its NUL, which is added.
#[must_use]
pub fn kdfa(
    alg: HashAlg,
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    bits: u32,
) -> Bytes {
    let keyed = HmacState::new(alg, key);
    collect(bits, alg, |counter| {
        let mut state = keyed.clone();
        state.update(&counter.to_be_bytes());
        state.update(label.as_bytes());
        state.update(&[0]);
        state.update(context_u);
        state.update(context_v);
        state.update(&bits.to_be_bytes());
        state.finish()
    })
}

/// KDFe: SP 800-56A concatenation over a hash. `label` is without its NUL, which is added;
/// `party_u` and `party_v` are the x coordinates of the two keys.
#[must_use]
pub fn kdfe(
    alg: HashAlg,
    z: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    bits: u32,
) -> Bytes {
    collect(bits, alg, |counter| {
        let mut state = HashState::new(alg);
        state.update(&counter.to_be_bytes());
        state.update(z);
        state.update(label.as_bytes());
        state.update(&[0]);
        state.update(party_u);
        state.update(party_v);
        state.finish()
    })
}

fn collect(bits: u32, alg: HashAlg, block: impl Fn(u32) -> Vec<u8>) -> Bytes {
    let size = bits.div_ceil(8) as usize;
    let mut out = Bytes::new(Vec::with_capacity(size.next_multiple_of(alg.size())));
    let mut counter = 1;
    while out.len() < size {
        out.append(&mut Bytes::new(block(counter)));
        counter += 1;
    }
    out.truncate(size);
    if !bits.is_multiple_of(8)
        && let Some(first) = out.first_mut()
    {
        *first &= (1 << (bits % 8)) - 1;
    }
    out
}
