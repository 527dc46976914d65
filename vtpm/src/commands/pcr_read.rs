//! TPM2_PCR_Read (Part 3, 22.4).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let mut wanted: PcrSelections = params.read()?;
    params.end()?;
    let mut values = Vec::new();
    let mut room = limit::POLICY_OR;
    for selection in &mut wanted.0 {
        let bank = context.state.ram.pcrs.bank(selection.hash);
        let mut read = 0;
        for pcr in 0..limit::PCR_COUNT {
            let Some(digest) = bank.and_then(|bank| bank.digest(pcr)) else {
                continue;
            };
            if selection.has(pcr) && room != 0 {
                values.push(digest);
                read |= 1 << pcr;
                room -= 1;
            }
        }
        selection.pcrs = read;
    }
    reply
        .put(&context.state.reset.pcr_counter)
        .put(&wanted)
        .put(&(values.len() as u32));
    for value in values {
        reply.sized(value);
    }
    Ok(())
}
