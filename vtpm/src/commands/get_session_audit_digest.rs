//! TPM2_GetSessionAuditDigest (Part 3, 18.5).

use super::prelude::*;
use crate::{attest, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    params.end()?;
    let key = context.signer(1)?;
    let scheme = signing::prepare(key.as_deref(), requested, 2, 2)?;
    let handle = context.handle(2);
    let session = context
        .state
        .session(handle)
        .cloned()
        .ok_or(Rc::TYPE)
        .h(3)?;
    ensure(session.audit, Rc::TYPE).h(3)?;
    let exclusive = context.state.ram.exclusive == Some(handle);
    let mut info = attest::begin(
        context,
        st::ATTEST_SESSION_AUDIT,
        key.as_deref(),
        scheme,
        &extra,
    );
    info.put(&u8::from(exclusive));
    info.sized(&session.digest);
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
