//! TPM2_PolicyLocality (Part 3, 23.8).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let locality: u8 = params.read()?;
    params.end()?;
    ensure(locality != 0, Rc::RANGE).p(1)?;
    let session = context.policy(0)?;
    let old = session.policy.locality;
    let new = match (old, locality) {
        (0, new) => new,
        (1..=31, 1..=31) => old & locality,
        (old, new) if old == new => new,
        _ => 0,
    };
    ensure(new != 0, Rc::RANGE).p(1)?;
    session.policy.locality = new;
    policy::extend(session, 0x16F, &[&[locality]]);
    Ok(())
}
