//! TPM2_PCR_Allocate (Part 3, 22.5).

use super::prelude::*;
use crate::pcr;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let wanted: PcrSelections = params.read()?;
    params.end()?;
    // Banks that are not named stay as they are now, whatever an earlier command wanted.
    let mut allocation = [0; limit::BANKS];
    for (pcrs, hash) in allocation.iter_mut().zip(HashAlg::ALL) {
        let bank = context.state.ram.pcrs.bank(*hash);
        *pcrs = bank.map_or(0, |bank| bank.pcrs);
    }
    for selection in &wanted.0 {
        for (hash, pcrs) in HashAlg::ALL.iter().zip(&mut allocation) {
            if *hash == selection.hash {
                *pcrs = selection.pcrs & pcr::ALL;
            }
        }
    }
    // The measurements of boot and of a dynamic launch must have a place.
    let needed = 1 | pcr::DRTM_RESET & !(pcr::DRTM_RESET - 1);
    ensure(
        allocation.iter().any(|pcrs| pcrs & needed == needed),
        Rc::PCR,
    )?;
    let size = |(hash, pcrs): (&HashAlg, &u32)| hash.size() as u32 * pcrs.count_ones();
    let used: u32 = HashAlg::ALL.iter().zip(&allocation).map(size).sum();
    let total: u32 = HashAlg::ALL
        .iter()
        .map(|hash| hash.size() as u32 * 24)
        .sum();
    if allocation != context.state.settings.allocation {
        context.state.settings_mut().allocation = allocation;
    }
    context.state.ram.reallocated = true;
    reply
        .put(&1u8)
        .put(&(limit::PCR_COUNT as u32))
        .put(&used)
        .put(&total);
    Ok(())
}
