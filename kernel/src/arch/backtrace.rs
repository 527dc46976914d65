//! Return addresses of the callers, by frame pointers.
//!
//! The target keeps frame pointers everywhere. The walk trusts nothing: a frame
//! pointer must be aligned, inside the stack the walk began on, and grow.

/// Most return addresses that are reported.
pub const MAX_FRAMES: usize = 32;

/// Widest stack that a walk follows, in bytes.
const MAX_STACK: u64 = 256 << 10;

/// Calls `each` with every return address, innermost first, from the frame
/// pointer `rbp` on.
pub fn walk(rbp: u64, mut each: impl FnMut(u64)) {
    let mut frame = rbp;
    for _ in 0..MAX_FRAMES {
        // Kernel addresses only: the upper half, aligned.
        if !frame.is_multiple_of(8) || frame >> 47 != 0x1_ffff {
            return;
        }
        // SAFETY: an aligned kernel address above a live frame of the same stack.
        // If the chain is corrupt the worst outcome is a fault while a fault is
        // reported, which the exception handler ends at once.
        let (next, address) = unsafe {
            let pointer = frame as *const u64;
            (pointer.read_volatile(), pointer.add(1).read_volatile())
        };
        if address == 0 {
            return;
        }
        each(address);
        if next <= frame || next - rbp > MAX_STACK {
            return;
        }
        frame = next;
    }
}

/// Frame pointer of the caller.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    rbp
}
