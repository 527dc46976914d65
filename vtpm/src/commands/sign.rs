//! TPM2_Sign (Part 3, 20.2).

use super::prelude::*;
use crate::signing;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let digest = params.sized(limit::DIGEST)?;
    let requested: Scheme = params.read()?;
    let ticket = params.with(Ticket::hash_check)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    ensure(signing::is_signing(&key), Rc::KEY).h(1)?;
    ensure(!key.public.has(oa::X509_SIGN), Rc::ATTRIBUTES).h(1)?;
    let scheme = signing::select(&key, requested).p(2)?;
    let hash = scheme.hash().ok_or(Rc::SCHEME).p(2)?;
    if !ticket.digest.is_empty() || key.public.has(oa::RESTRICTED) {
        signing::check_hash_ticket(context, &ticket, hash, &digest).p(3)?;
    } else {
        ensure(digest.len() == hash.size(), Rc::SIZE).p(1)?;
    }
    let signature = signing::sign(context, &key, scheme, &digest)?;
    reply.put(&signature);
    Ok(())
}
