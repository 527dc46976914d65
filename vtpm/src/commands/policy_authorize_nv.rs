//! TPM2_PolicyAuthorizeNV (Part 3, 23.22).

use super::prelude::*;
use crate::{nv, policy};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let (auth, handle) = (context.handle(0), context.handle(1));
    let session = context.policy(2)?.clone();
    if !session.trial {
        let index = nv::check_read(context, auth, handle)?;
        let mut reader = Reader::new(&index.data);
        let hash = algorithms::hash(&mut reader)?;
        let digest = reader.take(hash.size())?;
        ensure(hash == session.hash, Rc::HASH)?;
        ensure(ct_eq(digest, &session.digest), Rc::VALUE)?;
    }
    let name = context.state.name(handle);
    let stored = context.policy(2)?;
    stored.digest = alloc::vec![0; stored.hash.size()];
    policy::extend(stored, 0x192, &[&name]);
    Ok(())
}
