//! TPM2_PolicyCounterTimer (Part 3, 23.10).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let operand = params.sized(limit::DIGEST)?;
    let offset: u16 = params.read()?;
    let operation = params.with(super::policy_nv::operation)?;
    params.end()?;
    let mut time = Vec::new();
    time.put(&context.state.ram.time_ms);
    time.put(&context.state.clock_info());
    let session = context.policy(0)?;
    ensure(usize::from(offset) <= time.len(), Rc::VALUE).p(2)?;
    let data = time
        .get(usize::from(offset)..)
        .and_then(|rest| rest.get(..operand.len()));
    let data = data.ok_or(Rc::RANGE)?;
    ensure(
        session.trial || policy::compare(operation, data, &operand),
        Rc::POLICY,
    )?;
    let arguments = crypto::hash(
        session.hash,
        &[&operand, &offset.to_be_bytes(), &operation.to_be_bytes()],
    );
    policy::extend(session, 0x16D, &[&arguments]);
    Ok(())
}
