//! TPM2_PolicyNV (Part 3, 23.9).

use super::prelude::*;
use crate::{nv, policy};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let operand = params.sized(limit::DIGEST)?;
    let offset: u16 = params.read()?;
    let operation = params.with(operation)?;
    params.end()?;
    let trial = context.policy(2)?.trial;
    let (auth, handle) = (context.handle(0), context.handle(1));
    if !trial {
        let index = nv::check_read(context, auth, handle)?;
        ensure(offset <= index.public.size, Rc::VALUE).p(2)?;
        let rest = usize::from(index.public.size - offset);
        ensure(operand.len() <= rest, Rc::SIZE).p(1)?;
        let data = nv::slice(index, offset, operand.len() as u16)?;
        ensure(policy::compare(operation, data, &operand), Rc::POLICY)?;
    }
    let session_hash = context.policy(2)?.hash;
    let arguments = crypto::hash(
        session_hash,
        &[&operand, &offset.to_be_bytes(), &operation.to_be_bytes()],
    );
    let name = context.state.name(handle);
    policy::extend(context.policy(2)?, 0x149, &[&arguments, &name]);
    Ok(())
}

/// `TPM_EO`
pub fn operation(reader: &mut Reader<'_>) -> Result<u16> {
    let operation = reader.u16()?;
    ensure(operation <= 0x0B, Rc::VALUE)?;
    Ok(operation)
}
