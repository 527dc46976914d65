//! Stacks with an unmapped page below, so that an overflow faults at once.

use super::paging::Access;
use super::{MemoryError, PAGE_SIZE, STACKS_BASE, with_memory};
use crate::arch::tables::FAULT_STACKS;
use core::arch::asm;
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

/// Runs `action` and says how many bytes of stack it took at most, up to `room`, which is
/// the size of the stack that is left or less.
///
/// The stack below is filled with a pattern first and looked through afterwards, so the
/// result is what was written to, on the stack that is in use. A stack that is shorter than
/// `room` faults at its guard page.
#[inline(never)]
pub fn used<T>(room: usize, action: impl FnOnce() -> T) -> (T, usize) {
    const PATTERN: u64 = 0x5a17_ed57_ac4b_10c5;
    // Not inlined: what it puts on the stack must lie below this function's own frame.
    #[inline(never)]
    fn call<T>(action: impl FnOnce() -> T) -> T {
        action()
    }
    let words = room / size_of::<u64>();
    // SAFETY: what lies below the stack pointer belongs to nobody: without `nostack` the
    // compiler keeps nothing there either. Writing from the top downwards meets the guard
    // page before anything else.
    unsafe {
        asm!(
            "lea rdi, [rsp - 8]",
            "std",
            "rep stosq",
            "cld",
            in("rax") PATTERN,
            inout("rcx") words => _,
            out("rdi") _,
        );
    }
    let result = call(action);
    let touched: usize;
    // SAFETY: reads what was written above, or what calls have written there since.
    unsafe {
        asm!(
            "mov rdi, rcx",
            "neg rdi",
            "lea rdi, [rsp + rdi * 8]",
            // From the lowest word up: when one differs, so many are left.
            "2:",
            "jrcxz 3f",
            "cmp qword ptr [rdi], rax",
            "jne 3f",
            "add rdi, 8",
            "dec rcx",
            "jmp 2b",
            "3:",
            in("rax") PATTERN,
            inout("rcx") words => touched,
            out("rdi") _,
        );
    }
    (result, touched * size_of::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hint::black_box;

    const ROOM: usize = 256 << 10;

    #[inline(never)]
    fn frame<const SIZE: usize>() -> u8 {
        let mut bytes = [1u8; SIZE];
        black_box(&mut bytes)[SIZE / 2]
    }

    #[test]
    fn what_a_frame_takes_is_seen() {
        let (_, nothing) = used(ROOM, || 0);
        assert!(nothing < 512, "{nothing}");
        let (_, small) = used(ROOM, frame::<4096>);
        assert!((4096..4096 + 1024).contains(&small), "{small}");
        let (_, large) = used(ROOM, frame::<{ 64 << 10 }>);
        assert!((64 << 10..(64 << 10) + 1024).contains(&large), "{large}");
        // The frame before is forgotten.
        assert_eq!(used(ROOM, frame::<4096>).1, small);
        // Nothing beyond the room is looked at.
        assert_eq!(used(8192, frame::<{ 64 << 10 }>).1, 8192);
    }
}
