//! TPM2_HMAC_Start (Part 3, 17.2).

use super::prelude::*;
use crate::{
    crypto::HmacState,
    signing,
    state::object::{HmacSequence, Slot},
};
use alloc::sync::Arc;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    let hash = params.with(signing::mac_scheme)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let hash = signing::hmac_key(&key, hash, 2)?;
    let state = HmacState::new(hash, &objects::sensitive(&key)?.secret);
    let auth = Bytes::new(without_trailing_zeros(&auth).to_vec());
    let sequence = Slot::Hmac(Arc::new(HmacSequence { state, auth }));
    reply.handle = Some(context.state.add_slot(sequence)?);
    Ok(())
}
