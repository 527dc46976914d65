//! What the policy commands have in common (Part 1, 19.7; Part 3, 23).

use alloc::vec::Vec;

use crate::{
    auth,
    constants::nva,
    context::Context,
    crypto::{self, ct_eq},
    rc::{Rc, Result, ensure},
    state::{
        State,
        session::{Binding, Session},
    },
    table::{self, Command, Role},
    wire::{Put, Reader, structures::Ticket},
};

/// Timeouts with this bit set end with a TPM Reset, too.
pub const EXPIRES_ON_RESET: u64 = 1 << 63;

/// Extends the policy digest with a command code and its arguments.
pub fn extend(session: &mut Session, code: u32, arguments: &[&[u8]]) {
    let head = code.to_be_bytes();
    let mut parts: Vec<&[u8]> = alloc::vec![&session.digest, &head];
    parts.extend_from_slice(arguments);
    session.digest = crypto::hash(session.hash, &parts);
}

/// Extends the policy digest for an authorization by an entity, with its reference.
pub fn extend_authorized(session: &mut Session, code: u32, name: &[u8], reference: &[u8]) {
    extend(session, code, &[name]);
    session.digest = crypto::hash(session.hash, &[&session.digest, reference]);
}

/// Records the command parameter hash and the end of an authorization.
pub fn restrict(session: &mut Session, cp_hash: &[u8], timeout: u64) {
    if !cp_hash.is_empty() {
        session.policy.binding = Binding::COMMAND;
        session.policy.bound = cp_hash.to_vec();
    }
    let timeout = timeout & !EXPIRES_ON_RESET;
    if timeout != 0 && (session.policy.timeout_ms == 0 || timeout < session.policy.timeout_ms) {
        session.policy.timeout_ms = timeout;
    }
}

/// End of an authorization with this expiration (seconds; the sign asks for a ticket).
#[must_use]
pub fn timeout(session: &Session, expiration: i32, nonce: &[u8]) -> u64 {
    match u64::from(expiration.unsigned_abs()) * 1000 {
        0 => 0,
        ms if nonce.is_empty() => ms,
        ms => session.policy.start_ms.saturating_add(ms),
    }
}

/// Checks that the nonce is the session's, that the time is not over, and that a command
/// parameter hash fits what is recorded. The numbers are those of the parameters to blame.
///
/// # Errors
/// `TPM_RC_NONCE`, `TPM_RC_EXPIRED`, `TPM_RC_SIZE`, `TPM_RC_CPHASH`
pub fn check(
    state: &State,
    session: &Session,
    timeout: u64,
    (cp_hash, blame_cp_hash): (&[u8], u32),
    (nonce, blame_nonce): (&[u8], u32),
    blame_expiration: u32,
) -> Result<()> {
    ensure(
        nonce.is_empty() || nonce == session.nonce,
        Rc::NONCE.parameter(blame_nonce),
    )?;
    if timeout != 0 {
        let over = timeout & !EXPIRES_ON_RESET < state.ram.time_ms
            || session.policy.epoch != state.ram.time_epoch;
        ensure(!over, Rc::EXPIRED.parameter(blame_expiration))?;
    }
    if !cp_hash.is_empty() {
        ensure(
            cp_hash.len() == session.hash.size(),
            Rc::SIZE.parameter(blame_cp_hash),
        )?;
        let fits = session.policy.bound.is_empty() || session.policy.bound == cp_hash;
        ensure(fits, Rc::CPHASH)?;
    }
    Ok(())
}

/// Ticket for an authorization that may be repeated until `timeout`.
#[must_use]
pub fn auth_ticket(
    context: &Context<'_>,
    tag: u16,
    hierarchy: u32,
    timeout: u64,
    cp_hash: &[u8],
    reference: &[u8],
    name: &[u8],
) -> Ticket {
    let mut input = Vec::new();
    input.put(&tag);
    input.put(&timeout);
    input.put(&context.state.ram.time_epoch);
    if timeout & EXPIRES_ON_RESET != 0 {
        input.put(&context.state.boots.total_resets);
    }
    input.sized(cp_hash);
    input.sized(reference);
    input.sized(name);
    Ticket {
        tag,
        hierarchy,
        digest: context.proof_hmac(hierarchy, &[&input]),
    }
}

/// `TPM_EO`: compares two operands of the same size.
#[must_use]
pub fn compare(operation: u16, a: &[u8], b: &[u8]) -> bool {
    use core::cmp::Ordering::{Equal, Greater, Less};
    let negative = |bytes: &[u8]| bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let unsigned = a.cmp(b);
    let signed = match (negative(a), negative(b)) {
        (true, false) => Less,
        (false, true) => Greater,
        _ => unsigned,
    };
    match operation {
        0 => unsigned == Equal,
        1 => unsigned != Equal,
        2 => signed == Greater,
        3 => unsigned == Greater,
        4 => signed == Less,
        5 => unsigned == Less,
        6 => signed != Less,
        7 => unsigned != Less,
        8 => signed != Greater,
        9 => unsigned != Greater,
        10 => a.iter().zip(b).all(|(a, b)| a & b == *b),
        11 => a.iter().zip(b).all(|(a, b)| a & b == 0),
        _ => false,
    }
}

/// Ticket that this TPM verified a signature over `digest` by the key with `name`.
#[must_use]
pub fn verified_ticket(
    context: &Context<'_>,
    hierarchy: u32,
    digest: &[u8],
    name: &[u8],
) -> Ticket {
    let tag = crate::constants::st::VERIFIED;
    let digest = context.proof_hmac(hierarchy, &[&tag.to_be_bytes(), digest, name]);
    Ticket {
        tag,
        hierarchy,
        digest,
    }
}

/// Does the policy session satisfy the policy of the entity for this command (Part 1, 19.7)?
///
/// # Errors
/// `TPM_RC_POLICY_FAIL`, `TPM_RC_POLICY_CC`, `TPM_RC_PCR_CHANGED`, `TPM_RC_EXPIRED`,
/// `TPM_RC_LOCALITY`, `TPM_RC_PP`, `TPM_RC_MODE`
pub fn satisfied(
    context: &Context<'_>,
    command: &Command,
    params: &[u8],
    session: &Session,
    entity: u32,
    role: Role,
) -> Result<()> {
    let state: &State = context.state;
    let policy = &session.policy;
    if command.code == table::CC_POLICY_SECRET {
        ensure(policy.password || policy.auth_value, Rc::MODE)?;
    }
    if let Some(counter) = policy.pcr_counter {
        ensure(counter == state.reset.pcr_counter, Rc::PCR_CHANGED)?;
    }
    let (alg, digest) = state.policy_of(entity);
    ensure(
        ct_eq(&digest, &session.digest) && alg == Some(session.hash),
        Rc::POLICY_FAIL,
    )?;
    if policy.timeout_ms != 0 {
        let expired = policy.timeout_ms < state.ram.time_ms || policy.epoch != state.ram.time_epoch;
        ensure(!expired, Rc::EXPIRED)?;
    }
    if policy.command != 0 {
        ensure(policy.command == command.code, Rc::POLICY_CC)?;
    } else {
        ensure(!matches!(role, Role::Admin | Role::Dup), Rc::POLICY_FAIL)?;
    }
    if policy.locality != 0 {
        let allowed = if policy.locality < 32 {
            context.locality < 5 && policy.locality >> context.locality & 1 != 0
        } else {
            policy.locality == context.locality
        };
        ensure(allowed, Rc::LOCALITY)?;
    }
    ensure(!policy.presence, Rc::PP)?;
    let bound = match policy.binding {
        Binding::NONE => true,
        Binding::COMMAND => ct_eq(
            &policy.bound,
            &auth::cp_hash(context, command.code, params, session.hash),
        ),
        Binding::NAMES => {
            let names = auth::names(context, command.code);
            ct_eq(&policy.bound, &crypto::hash(session.hash, &[&names]))
        }
        _ => template(command, params)
            .is_some_and(|template| ct_eq(&policy.bound, &crypto::hash(session.hash, &[template]))),
    };
    ensure(bound, Rc::POLICY_FAIL)?;
    if policy.check_nv {
        let index = state.nv_index(entity).ok_or(Rc::POLICY_FAIL)?;
        ensure(
            index.public.has(nva::WRITTEN) == policy.nv_written,
            Rc::POLICY_FAIL,
        )?;
    }
    Ok(())
}

/// The template among the parameters of a command that makes an object.
fn template<'a>(command: &Command, params: &'a [u8]) -> Option<&'a [u8]> {
    if !matches!(
        command.code,
        table::CC_CREATE | table::CC_CREATE_PRIMARY | table::CC_CREATE_LOADED
    ) {
        return None;
    }
    let mut reader = Reader::new(params);
    reader.sized(usize::from(u16::MAX)).ok()?;
    reader.sized(usize::from(u16::MAX)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_and_unsigned_comparisons_differ_in_the_top_bit() {
        let (minus_one, one) = ([0xFFu8; 2], [0u8, 1]);
        assert!(compare(4, &minus_one, &one));
        assert!(!compare(5, &minus_one, &one));
        assert!(compare(3, &minus_one, &one));
        assert!(compare(10, &[0b1110], &[0b0110]));
        assert!(!compare(11, &[0b1110], &[0b0110]));
        assert!(!compare(12, &one, &one));
    }
}
