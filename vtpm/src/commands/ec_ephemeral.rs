//! TPM2_EC_Ephemeral (Part 3, 19.3).

use super::prelude::*;
use crate::{commit, context::crypto_rc};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let curve = params.with(algorithms::curve)?;
    params.end()?;
    let (secret, counter) = commit::begin(context, curve, &[])?;
    let point = context
        .crypto
        .ecc_public(curve, &secret)
        .map_err(crypto_rc)?;
    reply.sized_of(&point).put(&counter);
    Ok(())
}
