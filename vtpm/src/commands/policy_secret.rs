//! TPM2_PolicySecret (Part 3, 23.4).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let nonce = params.sized(limit::DIGEST)?;
    let cp_hash = params.sized(limit::DIGEST)?;
    let reference = params.sized(limit::DIGEST)?;
    let expiration = params.read::<u32>()? as i32;
    params.end()?;
    let entity = context.handle(0);
    let name = context.state.name(entity);
    let session = context.policy(1)?.clone();
    let mut timeout = 0;
    if !session.trial {
        timeout = policy::timeout(&session, expiration, &nonce);
        policy::check(
            context.state,
            &session,
            timeout,
            (&cp_hash, 2),
            (&nonce, 1),
            4,
        )?;
    }
    let stored = context.policy(1)?;
    policy::extend_authorized(stored, 0x151, &name, &reference);
    policy::restrict(stored, &cp_hash, timeout);
    if expiration < 0 && !session.trial && !is_pin_pass(context, entity) {
        if nonce.is_empty() {
            timeout |= policy::EXPIRES_ON_RESET;
        }
        let hierarchy = context.state.hierarchy_of(entity);
        let ticket = policy::auth_ticket(
            context,
            st::AUTH_SECRET,
            hierarchy,
            timeout,
            &cp_hash,
            &reference,
            &name,
        );
        reply.sized(&timeout.to_be_bytes()).put(&ticket);
    } else {
        reply.sized(&[]).put(&Ticket::null(st::AUTH_SECRET));
    }
    Ok(())
}

/// A PIN Pass index gives no ticket: each use must be counted.
fn is_pin_pass(context: &Context<'_>, entity: u32) -> bool {
    context
        .state
        .nv_index(entity)
        .is_some_and(|index| index.public.kind() == nva::NT_PIN_PASS)
}
