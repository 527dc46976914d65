//! Stacks with an unmapped page below, so that an overflow faults at once.

use super::paging::Access;
use super::{MemoryError, PAGE_SIZE, STACKS_BASE, with_memory};
use crate::arch::tables::FAULT_STACKS;
use x86_64::VirtAddr;

/// Pages of the stack of each fault; a report with a backtrace needs half of one.
const FAULT_STACK_PAGES: usize = 4;

/// Virtual size set aside for all stacks, for telling a guard page by its address.
const STACKS_SIZE: u64 = 1 << 30;

/// Makes a stack of `pages` pages, for ever, and returns its top.
pub fn allocate(pages: usize) -> Result<VirtAddr, MemoryError> {
    with_memory(|memory| {
        let bottom = memory.next_stack + PAGE_SIZE as u64;
        let frames = memory.frames.allocate(pages).ok_or(MemoryError::NoFrames)?;
        for page in 0..pages as u64 {
            let offset = page * PAGE_SIZE as u64;
            memory.tables.map(
                &mut memory.frames,
                bottom + offset,
                frames.start + offset,
                Access::Memory,
            )?;
        }
        memory.next_stack = bottom + frames.size;
        Ok(VirtAddr::new(memory.next_stack))
    })
}

/// Makes a stack for each fault that has one of its own, and returns their tops.
pub fn for_faults() -> Result<[VirtAddr; FAULT_STACKS.len()], MemoryError> {
    let mut tops = [VirtAddr::zero(); FAULT_STACKS.len()];
    for top in &mut tops {
        *top = allocate(FAULT_STACK_PAGES)?;
    }
    Ok(tops)
}

/// Whether an access to `address` by code whose stack pointer is `rsp` is a stack
/// that ran into its guard page.
pub fn is_overflow(address: u64, rsp: u64) -> bool {
    let in_stacks = (STACKS_BASE..STACKS_BASE + STACKS_SIZE).contains(&address);
    let near = rsp.abs_diff(address) <= 2 * PAGE_SIZE as u64;
    in_stacks || near
}
