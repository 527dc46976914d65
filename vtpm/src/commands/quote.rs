//! TPM2_Quote (Part 3, 18.4).

use super::prelude::*;
use crate::{attest, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    let pcrs: PcrSelections = params.read()?;
    params.end()?;
    let key = context.signer(0)?;
    let scheme = signing::prepare(key.as_deref(), requested, 1, 2)?;
    // Without a scheme there is no hash for the PCR digest, not even with the null key.
    let hash = scheme.hash().ok_or(Rc::SCHEME).p(2)?;
    let (filtered, digest) = context.state.pcr_digest(hash, &pcrs);
    let mut info = attest::begin(context, st::ATTEST_QUOTE, key.as_deref(), scheme, &extra);
    info.put(&filtered);
    info.sized(&digest);
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
