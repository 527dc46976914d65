//! TPM2_PolicySigned (Part 3, 23.3).

use super::prelude::*;
use crate::{policy, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let nonce = params.sized(limit::DIGEST)?;
    let cp_hash = params.sized(limit::DIGEST)?;
    let reference = params.sized(limit::DIGEST)?;
    let expiration = params.read::<u32>()? as i32;
    let signature: Signature = params.read()?;
    params.end()?;
    // A sequence is no key; only a signature would tell.
    let key = context.object(0).ok();
    let (name, hierarchy) = key.as_ref().map_or_else(
        || (Vec::new(), rh::NULL),
        |key| (key.name.clone(), key.hierarchy),
    );
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
        let hash = signature.hash().ok_or(Rc::SCHEME).p(5)?;
        let digest = crypto::hash(
            hash,
            &[&nonce, &expiration.to_be_bytes(), &cp_hash, &reference],
        );
        let key = key.ok_or(Rc::SCHEME).p(5)?;
        signing::verify(context, &key, &digest, &signature).p(5)?;
    }
    let stored = context.policy(1)?;
    policy::extend_authorized(stored, 0x160, &name, &reference);
    policy::restrict(stored, &cp_hash, timeout);
    if expiration < 0 && !session.trial {
        if nonce.is_empty() {
            timeout |= policy::EXPIRES_ON_RESET;
        }
        let ticket = policy::auth_ticket(
            context,
            st::AUTH_SIGNED,
            hierarchy,
            timeout,
            &cp_hash,
            &reference,
            &name,
        );
        reply.sized(&timeout.to_be_bytes()).put(&ticket);
    } else {
        reply.sized(&[]).put(&Ticket::null(st::AUTH_SIGNED));
    }
    Ok(())
}
