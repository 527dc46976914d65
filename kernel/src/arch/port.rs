//! Port I/O instructions. Only platforms call them: on a confidential VM a port
//! access goes through the GHCB instead.

use core::arch::asm;

/// Reads a byte from `port`.
///
/// # Safety
/// Reading the port must have no effect on memory.
pub unsafe fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: promised by the caller.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Writes a byte to `port`.
///
/// # Safety
/// Writing the port must have no effect on memory.
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    };
}

/// Writes 16 bits to `port`.
///
/// # Safety
/// Writing the port must have no effect on memory.
pub unsafe fn outw(port: u16, value: u16) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags))
    };
}

/// Writes 32 bits to `port`.
///
/// # Safety
/// Writing the port must have no effect on memory.
pub unsafe fn outl(port: u16, value: u32) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags))
    };
}
