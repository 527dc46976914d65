//! The first instructions of the kernel.
//!
//! stage2 enters at `_start` in long mode, on the final page tables, interrupts
//! off, with the address of the boot information in RDI. The boot stack is a
//! segment of its own with an unmapped page below it (`kernel.lds`); it stays the
//! stack of the boot CPU.

use core::arch::global_asm;

/// Size of the boot stack in bytes. CocoonFs needs 19 KB of it, P-521 a third of
/// that; the rest is room for the services.
pub const BOOT_STACK_SIZE: usize = 128 << 10;

global_asm!(
    ".section .boot_stack, \"aw\", @nobits",
    ".balign 4096",
    "boot_stack:",
    ".skip {stack_size}",
    "boot_stack_top:",
    ".section .text.entry, \"ax\"",
    ".global _start",
    "_start:",
    "lea rsp, [rip + boot_stack_top]",
    "xor ebp, ebp",
    "call svsm_main",
    "ud2",
    stack_size = const BOOT_STACK_SIZE,
);

/// Names the function that runs the kernel: `fn(&'static BootInfo) -> !`.
///
/// The loader's structure is checked before that function sees it.
#[macro_export]
macro_rules! entry_point {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn svsm_main(info: &'static bootinfo::BootInfo) -> ! {
            let main: fn(&'static bootinfo::BootInfo) -> ! = $main;
            main(info)
        }
    };
}
