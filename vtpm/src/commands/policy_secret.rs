//! TPM2_PolicySecret (Part 3, 23.4).

use super::prelude::*;
use crate::approval::{Approval, Approver};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let approval = Approval::read(params)?;
    params.end()?;
    let timeout = approval.check(context)?;
    let entity = context.handle(0);
    let approver = Approver {
        code: 0x151,
        tag: st::AUTH_SECRET,
        name: context.state.name(entity),
        hierarchy: context.state.hierarchy_of(entity),
        gives_tickets: !is_pin_pass(context, entity),
    };
    approval.record(context, &approver, timeout, reply)
}

/// A PIN Pass index gives no ticket: each use must be counted.
fn is_pin_pass(context: &Context<'_>, entity: u32) -> bool {
    context
        .state
        .nv_index(entity)
        .is_some_and(|index| index.public.kind() == nva::NT_PIN_PASS)
}
