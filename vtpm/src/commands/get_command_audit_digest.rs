//! TPM2_GetCommandAuditDigest (Part 3, 18.6).

use super::prelude::*;
use crate::{attest, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    params.end()?;
    let key = context.signer(1)?;
    let scheme = signing::prepare(key.as_deref(), requested, 2, 2)?;
    let settings = context.state.settings.clone();
    let mut codes = Vec::new();
    for code in &settings.audited.0 {
        codes.put(code);
    }
    let mut info = attest::begin(
        context,
        st::ATTEST_COMMAND_AUDIT,
        key.as_deref(),
        scheme,
        &extra,
    );
    info.put(&settings.audit_counter);
    info.put(&settings.audit_alg.id());
    info.sized(&context.state.reset.audit_digest);
    info.sized(&crypto::hash(settings.audit_alg, &[&codes]));
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)?;
    if key.is_some() {
        context.state.reset_mut().audit_digest = Vec::new();
    }
    Ok(())
}
