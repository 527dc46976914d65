//! From the signer's certificate to a trusted one.

use super::AuthError;
use super::names;
use super::x509::Certificate;

/// Certificates between the signer's and the trusted one, at most.
const MAX_DEPTH: usize = 8;

/// Finds a path from `leaf` through `pool` to one of `anchors`, verifying each step, and
/// returns the anchor. An anchor is trusted as it is, self-signed or not; times of
/// validity do not count (UEFI 2.11, section 8.2.2).
pub fn to_anchor<'a>(
    leaf: Certificate<'a>,
    pool: impl Iterator<Item = Certificate<'a>> + Clone,
    anchors: impl Iterator<Item = Certificate<'a>> + Clone,
) -> Result<Certificate<'a>, AuthError> {
    let mut current = leaf;
    let mut below = 0;
    for depth in 0..MAX_DEPTH {
        if current.has_unknown() {
            return Err(AuthError::CertificateUse);
        }
        if let Some(anchor) = anchors.clone().find(|anchor| anchor.raw == current.raw) {
            return Ok(anchor);
        }
        if depth > 0 && !current.is_self_issued() {
            below += 1;
        }
        let mut refusal = AuthError::Untrusted;
        for anchor in anchors.clone().filter(|anchor| issued(anchor, &current)) {
            match step(&current, &anchor, below) {
                Ok(()) => return Ok(anchor),
                Err(error) => refusal = error,
            }
        }
        // A certificate that an anchor claims to have issued has no other way up.
        if refusal != AuthError::Untrusted {
            return Err(refusal);
        }
        current = next(&current, pool.clone(), below)?;
    }
    Err(AuthError::Untrusted)
}

/// Follows `pool` from `leaf` as far up as it leads, verifying each step, and returns the
/// last certificate.
pub fn to_top<'a>(
    leaf: Certificate<'a>,
    pool: impl Iterator<Item = Certificate<'a>> + Clone,
) -> Result<Certificate<'a>, AuthError> {
    let mut current = leaf;
    let mut below = 0;
    for depth in 0..MAX_DEPTH {
        if current.has_unknown() {
            return Err(AuthError::CertificateUse);
        }
        if current.is_self_issued() {
            return Ok(current);
        }
        if depth > 0 {
            below += 1;
        }
        current = match next(&current, pool.clone(), below) {
            Ok(issuer) => issuer,
            Err(AuthError::Untrusted) => return Ok(current),
            Err(error) => return Err(error),
        };
    }
    Err(AuthError::Untrusted)
}

/// The certificate in `pool` that issued `subject`.
fn next<'a>(
    subject: &Certificate<'a>,
    pool: impl Iterator<Item = Certificate<'a>>,
    below: usize,
) -> Result<Certificate<'a>, AuthError> {
    let mut refusal = AuthError::Untrusted;
    for issuer in pool.filter(|issuer| issuer.raw != subject.raw && issued(issuer, subject)) {
        match step(subject, &issuer, below) {
            Ok(()) => return Ok(issuer),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// Whether names and key identifiers say that `issuer` issued `subject`.
fn issued(issuer: &Certificate<'_>, subject: &Certificate<'_>) -> bool {
    names::same(issuer.subject, subject.issuer)
        && match (issuer.subject_key_id, subject.authority_key_id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        }
}

fn step(
    subject: &Certificate<'_>,
    issuer: &Certificate<'_>,
    below: usize,
) -> Result<(), AuthError> {
    if !issuer.may_issue(below) || issuer.has_unknown() {
        return Err(AuthError::CertificateUse);
    }
    subject.verify_by(issuer)
}
