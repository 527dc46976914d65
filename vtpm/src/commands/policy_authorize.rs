//! TPM2_PolicyAuthorize (Part 3, 23.16).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let approved = params.sized(limit::DIGEST)?;
    let reference = params.sized(limit::DIGEST)?;
    let key = params.sized(limit::DIGEST + 4)?;
    let ticket = params.with(Ticket::verified)?;
    params.end()?;
    let hash = algorithms::hash(&mut Reader::new(&key))
        .map_err(|_| Rc::HASH)
        .p(3)?;
    ensure(key.len() == hash.size() + 2, Rc::SIZE).p(3)?;
    let session = context.policy(0)?.clone();
    if !session.trial {
        ensure(ct_eq(&approved, &session.digest), Rc::VALUE).p(1)?;
        let digest = crypto::hash(hash, &[&approved, &reference]);
        let own = policy::verified_ticket(context, ticket.hierarchy, &digest, &key);
        ensure(ct_eq(&own.digest, &ticket.digest), Rc::VALUE).p(4)?;
    }
    let stored = context.policy(0)?;
    stored.digest = alloc::vec![0; stored.hash.size()];
    policy::extend_authorized(stored, 0x16A, &key, &reference);
    Ok(())
}
