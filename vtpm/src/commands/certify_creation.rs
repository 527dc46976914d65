//! TPM2_CertifyCreation (Part 3, 18.3).

use super::prelude::*;
use crate::{attest, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let creation_hash = params.sized(limit::DIGEST)?;
    let requested: Scheme = params.read()?;
    let ticket = params.with(Ticket::creation)?;
    params.end()?;
    let key = context.signer(0)?;
    let object = context.object(1).map_err(|_| Rc::TYPE).h(2)?;
    let scheme = signing::prepare(key.as_deref(), requested, 1, 3)?;
    let own =
        objects::create::creation_ticket(context, ticket.hierarchy, &object.name, &creation_hash);
    ensure(ct_eq(&own.digest, &ticket.digest), Rc::TICKET).p(4)?;
    let mut info = attest::begin(context, st::ATTEST_CREATION, key.as_deref(), scheme, &extra);
    info.sized(&object.name);
    info.sized(&creation_hash);
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
