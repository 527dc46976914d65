//! TPM2_PolicySigned (Part 3, 23.3).

use super::prelude::*;
use crate::{
    approval::{Approval, Approver},
    signing,
};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let approval = Approval::read(params)?;
    let signature: Signature = params.read()?;
    params.end()?;
    // A sequence is no key; only a signature would tell.
    let key = context.object(0).ok();
    let (name, hierarchy) = key.as_ref().map_or_else(
        || (Vec::new(), rh::NULL),
        |key| (key.name.clone(), key.hierarchy),
    );
    let timeout = approval.check(context)?;
    if timeout.is_some() {
        let hash = signature.hash().ok_or(Rc::SCHEME).p(5)?;
        let digest = crypto::hash(
            hash,
            &[
                &approval.nonce,
                &approval.expiration.to_be_bytes(),
                &approval.cp_hash,
                &approval.reference,
            ],
        );
        let key = key.ok_or(Rc::SCHEME).p(5)?;
        signing::verify(context, &key, &digest, &signature).p(5)?;
    }
    let approver = Approver {
        code: 0x160,
        tag: st::AUTH_SIGNED,
        name,
        hierarchy,
        gives_tickets: true,
    };
    approval.record(context, &approver, timeout, reply)
}
