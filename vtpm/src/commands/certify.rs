//! TPM2_Certify (Part 3, 18.2).

use super::prelude::*;
use crate::{attest, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    params.end()?;
    let object = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let key = context.signer(1)?;
    let scheme = signing::prepare(key.as_deref(), requested, 2, 2)?;
    let mut info = attest::begin(context, st::ATTEST_CERTIFY, key.as_deref(), scheme, &extra);
    info.sized(&object.name);
    // An anonymous signer does not say where the object stands (Part 3, 18.2).
    info.sized(if attest::is_anonymous(scheme) {
        &[]
    } else {
        &object.qualified
    });
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
