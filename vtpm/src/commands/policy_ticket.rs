//! TPM2_PolicyTicket (Part 3, 23.5).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let timeout = params.sized(8)?;
    let cp_hash = params.sized(limit::DIGEST)?;
    let reference = params.sized(limit::DIGEST)?;
    let name = params.sized(limit::DIGEST + 4)?;
    let ticket = params.with(Ticket::auth)?;
    params.end()?;
    let session = context.policy(0)?.clone();
    ensure(!session.trial, Rc::ATTRIBUTES).h(1)?;
    let timeout = timeout
        .as_slice()
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| Rc::SIZE)
        .p(1)?;
    let ends = timeout & !policy::EXPIRES_ON_RESET;
    policy::check(context.state, &session, ends, (&cp_hash, 2), (&[], 0), 1)?;
    let own = policy::auth_ticket(
        context,
        ticket.tag,
        ticket.hierarchy,
        timeout,
        &cp_hash,
        &reference,
        &name,
    );
    ensure(ct_eq(&own.digest, &ticket.digest), Rc::TICKET).p(5)?;
    let code = if ticket.tag == st::AUTH_SECRET {
        0x151
    } else {
        0x160
    };
    let stored = context.policy(0)?;
    policy::extend_authorized(stored, code, &name, &reference);
    policy::restrict(stored, &cp_hash, timeout);
    Ok(())
}
