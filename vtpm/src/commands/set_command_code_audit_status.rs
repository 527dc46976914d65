//! TPM2_SetCommandCodeAuditStatus (Part 3, 21.2).

use super::prelude::*;
use crate::table;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let hash = params.with(algorithms::hash_or_null)?;
    let set = params.with(structures::command_codes)?;
    let clear = params.with(structures::command_codes)?;
    params.end()?;
    let state = &mut *context.state;
    if let Some(hash) = hash
        && hash != state.settings.audit_alg
    {
        ensure(set.is_empty() && clear.is_empty(), Rc::VALUE).p(1)?;
        state.settings_mut().audit_alg = hash;
        state.reset_mut().audit_digest = Vec::new();
        return Ok(());
    }
    let mut audited = state.settings.audited.0.clone();
    audited.extend(
        set.iter()
            .filter(|code| **code != table::CC_SHUTDOWN && table::find(**code).is_some()),
    );
    audited
        .retain(|code| *code == table::CC_SET_COMMAND_CODE_AUDIT_STATUS || !clear.contains(code));
    audited.sort_unstable();
    audited.dedup();
    if audited != state.settings.audited.0 {
        state.settings_mut().audited.0 = audited;
    }
    Ok(())
}
