//! RSA: key generation, and the public and the private operation under every encoding.
//!
//! Always true: the private operation is blinded and its result checked with the public one
//! before anything made of it leaves; the moduli have one of [`SIZES`].

use alloc::vec::Vec;

use crypto_bigint::{
    BoxedUint, ConcatenatingMul as _, Limb, NonZero, Odd, Resize,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use crypto_primes::{
    Flavor,
    fips::{self, FipsOptions},
    hazmat::{SetBits, SmallFactorsSieveFactory},
    sieve_and_find,
};
use zeroize::Zeroizing;

use super::{
    Bytes, CryptoError, KdfRng, Result, Rng, RsaPadding, RsaPrivate, RsaPublic, RsaScheme, ct_eq,
    rsa_padding as padding,
};

/// Bytes of the supported moduli.
const SIZES: [usize; 4] = [128, 256, 384, 512];

/// How many times values are drawn before the random source is called broken: far beyond
/// what chance needs.
const TRIES: usize = 64;

type Secret = Zeroizing<BoxedUint>;

/// The modulus and what computes with it.
struct Modulus {
    params: BoxedMontyParams,
    size: usize,
    e: u32,
}

impl Modulus {
    fn load(key: &RsaPublic<'_>) -> Result<Self> {
        let size = key.n.len();
        if !SIZES.contains(&size) || key.n[0] & 0x80 == 0 || key.e < 3 || key.e.is_multiple_of(2) {
            return Err(CryptoError::Value);
        }
        let n = odd(key.n, size).ok_or(CryptoError::Value)?;
        Ok(Self {
            params: BoxedMontyParams::new_vartime(n),
            size,
            e: key.e,
        })
    }

    /// A number below the modulus, or `Value`.
    fn number(&self, bytes: &[u8]) -> Result<Secret> {
        let number = integer(bytes, self.size)?;
        if *number < *self.params.modulus().as_ref() {
            Ok(number)
        } else {
            Err(CryptoError::Value)
        }
    }

    fn form(&self, number: &BoxedUint) -> BoxedMontyForm {
        BoxedMontyForm::new(number.clone(), &self.params)
    }

    fn public(&self, form: &BoxedMontyForm) -> BoxedMontyForm {
        form.pow_bounded_exp(&BoxedUint::from(self.e), 32)
    }

    /// The public operation on bytes.
    fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let form = Zeroizing::new(self.form(&*self.number(bytes)?));
        Ok(self.public(&form).retrieve().to_be_bytes().into_vec())
    }
}

/// A private key ready to compute with.
pub(super) struct Key {
    n: Modulus,
    p: BoxedMontyParams,
    q: BoxedMontyParams,
    d_p: Secret,
    d_q: Secret,
    /// 1/q modulo p, in Montgomery form.
    q_inverse: Zeroizing<BoxedMontyForm>,
}

impl Key {
    /// Checks and completes a key of the TPM's form.
    pub(super) fn load(key: &RsaPrivate<'_>) -> Result<Self> {
        if key.n.last().is_some_and(|last| last.is_multiple_of(2)) {
            // No product of odd primes.
            return Err(CryptoError::Key);
        }
        let n = Modulus::load(&key.public())?;
        let half = n.size / 2;
        if key.p.len() != half || key.p[0] & 0x80 == 0 {
            return Err(CryptoError::Key);
        }
        let p = odd(key.p, half).ok_or(CryptoError::Key)?;
        let (quotient, rest) = n.params.modulus().as_ref().div_rem(p.as_nz_ref());
        let (quotient, rest) = (Zeroizing::new(quotient), Zeroizing::new(rest));
        if !bool::from(rest.is_zero()) || quotient.bits() as usize != 8 * half {
            return Err(CryptoError::Key);
        }
        let q = Option::<Odd<BoxedUint>>::from((&*quotient).resize(bits(half)).to_odd())
            .ok_or(CryptoError::Key)?;
        let d_p = exponent(p.as_ref(), n.e)?;
        let d_q = exponent(q.as_ref(), n.e)?;
        let p = BoxedMontyParams::new(p);
        let q = BoxedMontyParams::new(q);
        let q_mod_p = residue(q.modulus().as_ref(), &p);
        let q_inverse = Option::from(q_mod_p.invert())
            .map(Zeroizing::new)
            .ok_or(CryptoError::Key)?;
        Ok(Self {
            n,
            p,
            q,
            d_p,
            d_q,
            q_inverse,
        })
    }

    /// The private operation: blinded, and checked.
    fn apply(&self, bytes: &[u8], rng: &mut dyn Rng) -> Result<Bytes> {
        let input = Zeroizing::new(self.n.form(&*self.n.number(bytes)?));
        let (blind, unblind) = self.blinding(rng)?;
        let blinded = Zeroizing::new((&*input * &*blind).retrieve());
        let m_p = Zeroizing::new(residue(&blinded, &self.p).pow(&self.d_p));
        let m_q = Zeroizing::new(residue(&blinded, &self.q).pow(&self.d_q).retrieve());
        let difference = Zeroizing::new(&*m_p - &*residue(&m_q, &self.p));
        let h = Zeroizing::new((&*difference * &*self.q_inverse).retrieve());
        let product = product(&h, self.q.modulus().as_ref());
        let sum = Zeroizing::new(product.wrapping_add((&*m_q).resize(bits(self.n.size))));
        let result = Zeroizing::new(&self.n.form(&sum) * &*unblind);
        if self.n.public(&result).retrieve() != input.retrieve() {
            return Err(CryptoError::Internal);
        }
        Ok(Bytes::new(
            Zeroizing::new(result.retrieve()).to_be_bytes().into_vec(),
        ))
    }

    /// rᵉ and 1/r for a random r.
    fn blinding(
        &self,
        rng: &mut dyn Rng,
    ) -> Result<(Zeroizing<BoxedMontyForm>, Zeroizing<BoxedMontyForm>)> {
        for _ in 0..TRIES {
            let mut bytes = Bytes::new(alloc::vec![0; self.n.size]);
            rng.fill(&mut bytes)?;
            let Ok(number) = self.n.number(&bytes) else {
                continue;
            };
            let r = Zeroizing::new(self.n.form(&number));
            if let Some(inverse) = Option::from(r.invert()) {
                return Ok((Zeroizing::new(self.n.public(&r)), Zeroizing::new(inverse)));
            }
        }
        Err(CryptoError::Random)
    }
}

fn bits(size: usize) -> u32 {
    // Sizes are at most 512 bytes here.
    8 * size as u32
}

/// An integer of at most `size` bytes; leading zeros are ignored.
fn integer(bytes: &[u8], size: usize) -> Result<Secret> {
    let zeros = bytes.len().saturating_sub(size);
    let (zeros, rest) = bytes.split_at(zeros);
    if zeros.iter().any(|&byte| byte != 0) {
        return Err(CryptoError::Value);
    }
    BoxedUint::from_be_slice(rest, bits(size))
        .map(Zeroizing::new)
        .map_err(|_| CryptoError::Value)
}

fn odd(bytes: &[u8], size: usize) -> Option<Odd<BoxedUint>> {
    Option::from(integer(bytes, size).ok()?.to_odd())
}

/// A number of any size modulo the modulus of `params`.
fn residue(number: &BoxedUint, params: &BoxedMontyParams) -> Zeroizing<BoxedMontyForm> {
    let modulus: &NonZero<BoxedUint> = params.modulus().as_nz_ref();
    Zeroizing::new(BoxedMontyForm::new(number.rem(modulus), params))
}

/// a·b, of the size of both together, limb by limb. The library's own multiplication divides
/// numbers of this size, which takes 20 KB of stack for those of RSA-3072 and no less time.
fn product(a: &BoxedUint, b: &BoxedUint) -> Secret {
    let size = a.bits_precision() + b.bits_precision();
    let mut sum = Zeroizing::new(BoxedUint::zero_with_precision(size));
    let limbs = sum.as_mut_limbs();
    for (start, &factor) in a.as_limbs().iter().enumerate() {
        let mut carry = Limb::ZERO;
        let mut row = limbs.iter_mut().skip(start);
        // In this order the end of `b` leaves the next limb of the row.
        for (&other, limb) in b.as_limbs().iter().zip(row.by_ref()) {
            (*limb, carry) = factor.carrying_mul_add(other, *limb, carry);
        }
        if let Some(limb) = row.next() {
            *limb = carry;
        }
    }
    sum
}

/// 1/e modulo `prime - 1`, for a prime e: (k·(prime - 1) + 1) / e with the k that makes it
/// whole, which needs arithmetic on numbers of the size of e only.
fn exponent(prime: &BoxedUint, e: u32) -> Result<Secret> {
    let less_one =
        Zeroizing::new(prime.wrapping_sub(BoxedUint::one_with_precision(prime.bits_precision())));
    let divisor: NonZero<Limb> = Option::from(Limb::from(e).to_nz()).ok_or(CryptoError::Value)?;
    let rest = less_one.rem_limb(divisor).0;
    if rest == 0 {
        return Err(CryptoError::Key);
    }
    let e = u64::from(e);
    // Fermat: restᵉ⁻² is 1/rest modulo the prime e.
    let (mut inverse, mut power, mut left) = (1, rest, e - 2);
    while left > 0 {
        if left & 1 == 1 {
            inverse = inverse * power % e;
        }
        power = power * power % e;
        left >>= 1;
    }
    let k = Zeroizing::new(BoxedUint::from(e - inverse));
    let scaled = Zeroizing::new(less_one.concatenating_mul(&*k));
    let sum =
        Zeroizing::new(scaled.wrapping_add(BoxedUint::one_with_precision(scaled.bits_precision())));
    let (quotient, rest) = sum.div_rem_limb(divisor);
    let quotient = Zeroizing::new(quotient);
    if rest != Limb::ZERO {
        return Err(CryptoError::Key);
    }
    Ok(Zeroizing::new((&*quotient).resize(prime.bits_precision())))
}

/// See [`super::Crypto::rsa_generate`].
pub(super) fn generate(bits: u16, e: u32, rng: &mut dyn Rng) -> Result<(Vec<u8>, Bytes)> {
    let size = usize::from(bits) / 8;
    if !bits.is_multiple_of(8) || !SIZES.contains(&size) || e <= 1 << 16 || e.is_multiple_of(2) {
        return Err(CryptoError::Value);
    }
    let mut stretched = KdfRng::seeded(rng, "RSA")?;
    for _ in 0..TRIES {
        let p = prime(u32::from(bits) / 2, e, &mut stretched)?;
        let q = prime(u32::from(bits) / 2, e, &mut stretched)?;
        // FIPS 186-5, A.1.1: the primes differ in their first 100 bits.
        let distance = if *p > *q {
            p.wrapping_sub(&*q)
        } else {
            q.wrapping_sub(&*p)
        };
        if Zeroizing::new(distance).bits() + 100 <= u32::from(bits) / 2 {
            continue;
        }
        let n = product(&p, &q);
        return Ok((
            n.to_be_bytes().into_vec(),
            Bytes::new(p.to_be_bytes().into_vec()),
        ));
    }
    Err(CryptoError::Random)
}

/// A prime of `bits` bits, the two highest set, that e does not divide after subtracting 1.
fn prime(bits: u32, e: u32, rng: &mut KdfRng) -> Result<Secret> {
    // FIPS 186-5, B.3: the number of rounds for an error below 2⁻¹²⁸.
    let options = FipsOptions::with_error_bound(bits, 128).ok_or(CryptoError::Value)?;
    let divisor: NonZero<Limb> = Option::from(Limb::from(e).to_nz()).ok_or(CryptoError::Value)?;
    let sieve = SmallFactorsSieveFactory::<BoxedUint>::new(Flavor::Any, bits, SetBits::TwoMsb)
        .map_err(|_| CryptoError::Internal)?;
    let found = sieve_and_find(rng, sieve, |rng, candidate: &BoxedUint| {
        candidate.rem_limb(divisor) != Limb::ONE
            && fips::is_prime(rng, Flavor::Any, candidate, options)
    });
    found
        .ok()
        .flatten()
        .map(Zeroizing::new)
        .ok_or(CryptoError::Random)
}

/// See [`super::Crypto::rsa_sign`].
pub(super) fn sign(
    key: &RsaPrivate<'_>,
    scheme: RsaScheme,
    digest: &[u8],
    rng: &mut dyn Rng,
) -> Result<Vec<u8>> {
    let message = match scheme {
        RsaScheme::Rsassa(alg) => padding::pkcs1_sign(alg, digest, key.n.len())?,
        RsaScheme::Pss(alg) => padding::pss_sign(alg, digest, key.n.len(), rng)?,
    };
    let signature = Key::load(key)?.apply(&message, rng)?;
    Ok(signature.to_vec())
}

/// See [`super::Crypto::rsa_verify`].
pub(super) fn verify(
    key: &RsaPublic<'_>,
    scheme: RsaScheme,
    digest: &[u8],
    signature: &[u8],
) -> Result<()> {
    let n = Modulus::load(key)?;
    if signature.len() != n.size {
        return Err(CryptoError::Signature);
    }
    let message = n.apply(signature).map_err(|_| CryptoError::Signature)?;
    match scheme {
        RsaScheme::Rsassa(alg) => {
            let expected = padding::pkcs1_sign(alg, digest, n.size)?;
            if ct_eq(&expected, &message) {
                Ok(())
            } else {
                Err(CryptoError::Signature)
            }
        }
        RsaScheme::Pss(alg) => padding::pss_verify(alg, digest, &message),
    }
}

/// See [`super::Crypto::rsa_encrypt`].
pub(super) fn encrypt(
    key: &RsaPublic<'_>,
    padding: RsaPadding<'_>,
    data: &[u8],
    rng: &mut dyn Rng,
) -> Result<Vec<u8>> {
    let n = Modulus::load(key)?;
    match padding {
        RsaPadding::Null => n.apply(data),
        RsaPadding::Rsaes => n.apply(&padding::pkcs1_encrypt(data, n.size, rng)?),
        RsaPadding::Oaep { hash, label } => {
            n.apply(&padding::oaep_encrypt(hash, label, data, n.size, rng)?)
        }
    }
}

/// See [`super::Crypto::rsa_decrypt`].
pub(super) fn decrypt(
    key: &RsaPrivate<'_>,
    padding: RsaPadding<'_>,
    data: &[u8],
    rng: &mut dyn Rng,
) -> Result<Bytes> {
    let message = Key::load(key)?.apply(data, rng)?;
    match padding {
        RsaPadding::Null => Ok(message),
        RsaPadding::Rsaes => padding::pkcs1_decrypt(&message),
        RsaPadding::Oaep { hash, label } => padding::oaep_decrypt(hash, label, message),
    }
}
