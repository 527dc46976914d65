//! TPM2_NV_GlobalWriteLock (Part 3, 31.12).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handles: Vec<u32> = context.state.nv.keys().copied().collect();
    for handle in handles {
        let open = context.state.nv_index(handle).is_some_and(|index| {
            index.public.has(nva::GLOBALLOCK) && !index.public.has(nva::WRITELOCKED)
        });
        if open {
            context
                .state
                .change_nv(handle, |index| index.public.attributes |= nva::WRITELOCKED);
        }
    }
    Ok(())
}
