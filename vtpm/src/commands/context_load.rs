//! TPM2_ContextLoad (Part 3, 28.3).

use super::prelude::*;
use crate::{saved, wire::structures::SavedContext};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let blob: SavedContext = params.read()?;
    params.end()?;
    reply.handle = Some(saved::load(context, &blob)?);
    Ok(())
}
