//! The curve `TPM_ECC_BN_P256` (ISO/IEC 15946-5; TCG Algorithm Registry, 5.2.9), which anonymous
//! attestation uses: y² = x³ + 3. No pairing is needed on the TPM's side.

use ecdsa::{
    EcdsaCurve,
    elliptic_curve::{
        self, Curve, CurveArithmetic, FieldBytes, PrimeCurve,
        bigint::{ArrayEncoding, Limb, Odd, U256},
        consts::U32,
        ff::PrimeField,
        hazmat::FieldArithmetic,
        ops::{BatchInvert, Reduce, ReduceNonZero},
        point::{PointCompaction, PointCompression},
        scalar::{FromUintUnchecked, IsHigh},
        subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, CtOption},
    },
};
use primeorder::{PrimeCurveParams, mul_backend::VariableOnly, point_arithmetic, wnaf};

const FIELD: &str = "fffffffffffcf0cd46e5f25eee71a49f0cdc65fb12980a82d3292ddbaed33013";
const ORDER: &str = "fffffffffffcf0cd46e5f25eee71a49e0cdc65fb1299921af62d536cd10b500d";

/// The curve.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq, PartialOrd, Ord)]
pub struct BnP256;

impl Curve for BnP256 {
    type FieldBytesSize = U32;
    type Uint = U256;
    const ORDER: Odd<U256> = Odd::<U256>::from_be_hex(ORDER);
}

impl PrimeCurve for BnP256 {}

impl PointCompression for BnP256 {
    const COMPRESS_POINTS: bool = false;
}

impl PointCompaction for BnP256 {
    const COMPACT_POINTS: bool = false;
}

impl EcdsaCurve for BnP256 {
    const NORMALIZE_S: bool = false;
}

/// Elements of the field of p elements.
mod field {
    use super::{BatchInvert, Choice, ConstantTimeEq, CtOption, FIELD, PrimeField, U256};

    // The generator is the smallest number that is no square, which is what square roots
    // need; nothing else uses it.
    primefield::monty_field_params! {
        name: FieldParams,
        modulus: FIELD,
        uint: U256,
        byte_order: primefield::ByteOrder::BigEndian,
        multiplicative_generator: 2,
        doc: "Montgomery parameters for p."
    }

    primefield::monty_field_element! {
        name: FieldElement,
        params: FieldParams,
        uint: U256,
        doc: "Element of the field of p elements."
    }

    primefield::monty_field_arithmetic! {
        name: FieldElement,
        params: FieldParams,
        uint: U256
    }

    impl BatchInvert for FieldElement {}
}

/// Numbers modulo the order.
mod scalar {
    use super::{Choice, ConstantTimeEq, CtOption, ORDER, PrimeField, U256};

    // As for the field.
    primefield::monty_field_params! {
        name: ScalarParams,
        modulus: ORDER,
        uint: U256,
        byte_order: primefield::ByteOrder::BigEndian,
        multiplicative_generator: 2,
        doc: "Montgomery parameters for the order."
    }

    primefield::monty_field_element! {
        name: Scalar,
        params: ScalarParams,
        uint: U256,
        doc: "Number modulo the order."
    }

    primefield::monty_field_arithmetic! {
        name: Scalar,
        params: ScalarParams,
        uint: U256
    }
}

use field::FieldElement;
use scalar::Scalar;

elliptic_curve::scalar_impls!(BnP256, Scalar);
wnaf::impl_wnaf_size_for_scalar!(Scalar);

impl AsRef<Scalar> for Scalar {
    fn as_ref(&self) -> &Scalar {
        self
    }
}

impl FromUintUnchecked for Scalar {
    type Uint = U256;

    fn from_uint_unchecked(uint: Self::Uint) -> Self {
        Self::from_uint_unchecked(uint)
    }
}

impl IsHigh for Scalar {
    fn is_high(&self) -> Choice {
        const HALF: U256 = BnP256::ORDER.as_ref().shr_vartime(1);
        self.to_canonical().ct_gt(&HALF)
    }
}

/// `number` less `modulus` when that is not negative.
fn subtract_once(number: &U256, modulus: &U256) -> U256 {
    let (reduced, borrow) = number.borrowing_sub(modulus, Limb::ZERO);
    let negative = Choice::from((borrow.0 & 1) as u8);
    U256::conditional_select(number, &reduced, !negative)
}

// Both moduli are above 2²⁵⁵: one subtraction reduces any number of 256 bits.
impl Reduce<U256> for Scalar {
    fn reduce(number: &U256) -> Self {
        Self::from_uint_unchecked(subtract_once(number, &BnP256::ORDER))
    }
}

impl Reduce<FieldBytes<BnP256>> for Scalar {
    fn reduce(bytes: &FieldBytes<BnP256>) -> Self {
        Self::reduce(&U256::from_be_byte_array(*bytes))
    }
}

impl ReduceNonZero<U256> for Scalar {
    fn reduce_nonzero(number: &U256) -> Self {
        const LESS_ONE: U256 = BnP256::ORDER.as_ref().wrapping_sub(&U256::ONE);
        Self::from_uint_unchecked(subtract_once(number, &LESS_ONE).wrapping_add(&U256::ONE))
    }
}

impl ReduceNonZero<FieldBytes<BnP256>> for Scalar {
    fn reduce_nonzero(bytes: &FieldBytes<BnP256>) -> Self {
        Self::reduce_nonzero(&U256::from_be_byte_array(*bytes))
    }
}

impl CurveArithmetic for BnP256 {
    type AffinePoint = primeorder::AffinePoint<Self>;
    type ProjectivePoint = primeorder::ProjectivePoint<Self>;
    type Scalar = Scalar;
}

impl FieldArithmetic for BnP256 {
    type FieldElement = FieldElement;
}

impl PrimeCurveParams for BnP256 {
    type PointArithmetic = point_arithmetic::EquationAIsGeneric;
    type Backend = VariableOnly;

    const EQUATION_A: FieldElement = FieldElement::ZERO;
    const EQUATION_B: FieldElement = FieldElement::from_u64(3);
    const GENERATOR: (FieldElement, FieldElement) = (FieldElement::ONE, FieldElement::from_u64(2));
}
