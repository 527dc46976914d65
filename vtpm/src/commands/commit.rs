//! TPM2_Commit (Part 3, 19.2).

use super::prelude::*;
use crate::{commit, context::crypto_rc, crypto::Point};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let p1: Point = params.inside()?;
    let s2 = params.sized(limit::SENSITIVE_DATA)?;
    let y2 = params.sized(limit::ECC_KEY)?;
    params.end()?;
    let p1 = Some(p1).filter(|point| !point.x.is_empty() || !point.y.is_empty());
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    let Parameters::Ecc { curve, scheme, .. } = key.public.parameters else {
        return Err(Rc::KEY.handle(1));
    };
    ensure(matches!(scheme, Scheme::Ecdaa(..)), Rc::SCHEME).h(1)?;
    let d = &objects::sensitive(&key)?.secret;
    ensure(s2.is_empty() == y2.is_empty(), Rc::SIZE).p(3)?;
    let p2 = if s2.is_empty() {
        None
    } else {
        let hash = key.public.name_alg.ok_or(Rc::HASH).h(1)?;
        let numbers = context.crypto.ecc_parameters(curve);
        let digest = crypto::hash(hash, &[&s2]);
        // The x coordinate is the digest as a number in the field.
        let x = reduce(&digest, &numbers.p);
        let point = Point { x, y: y2 };
        ensure(context.crypto.ecc_on_curve(curve, &point), Rc::ECC_POINT).p(2)?;
        Some(point)
    };
    if let Some(p1) = &p1 {
        ensure(context.crypto.ecc_on_curve(curve, p1), Rc::ECC_POINT).p(1)?;
    }
    let (secret, counter) = commit::begin(context, curve, &key.name)?;
    let multiply = |number: &[u8], point: &Point| {
        context
            .crypto
            .ecc_multiply(curve, number, point)
            .map_err(crypto_rc)
    };
    match &p2 {
        Some(p2) => {
            reply
                .sized_of(&multiply(d, p2)?)
                .sized_of(&multiply(&secret, p2)?);
        }
        None => {
            reply.sized_of(&empty()).sized_of(&empty());
        }
    }
    let e = match (&p1, &p2) {
        (Some(p1), _) => multiply(&secret, p1)?,
        (None, None) => context
            .crypto
            .ecc_public(curve, &secret)
            .map_err(crypto_rc)?,
        (None, Some(_)) => empty(),
    };
    reply.sized_of(&e).put(&counter);
    Ok(())
}

fn empty() -> Point {
    Point {
        x: Vec::new(),
        y: Vec::new(),
    }
}

/// A digest as a number below the prime, by subtraction: both have at most one bit to spare.
fn reduce(digest: &[u8], prime: &[u8]) -> Vec<u8> {
    let size = prime.len().max(digest.len());
    let mut number = objects::secret::padded(digest, size);
    let prime = objects::secret::padded(prime, size);
    for _ in 0..2 {
        if number < prime {
            break;
        }
        let mut borrow = 0i16;
        for (byte, sub) in number.iter_mut().rev().zip(prime.iter().rev()) {
            let value = i16::from(*byte) - i16::from(*sub) - borrow;
            borrow = i16::from(value < 0);
            *byte = value.rem_euclid(256) as u8;
        }
    }
    number
}
