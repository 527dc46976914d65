//! All that touches the machine: physical memory, I/O ports, the jump.

use bootinfo::PhysRange;
use bootinfo::loader::{REACHABLE_END, STAGE2_ADDRESS};
use core::arch::asm;
use core::fmt;
use stage2::PAGE_SIZE;
use stage2::load::Handover;

unsafe extern "C" {
    static __stage2_end: u8;
    static __trampoline_start: u8;
    fn stage2_enter_kernel(entry: u64, boot_info: u64, page_table_root: u64) -> !;
}

/// What stage2 occupies: code, constants, data, page tables and stack.
pub fn stage2() -> PhysRange {
    PhysRange {
        start: STAGE2_ADDRESS,
        size: &raw const __stage2_end as u64 - STAGE2_ADDRESS,
    }
}

/// The page that switches to the kernel's page tables.
pub fn trampoline() -> PhysRange {
    PhysRange {
        start: &raw const __trampoline_start as u64,
        size: PAGE_SIZE,
    }
}

/// Whether stage2 may look at or write this memory: reachable, not empty, not at
/// address zero, and no part of stage2 itself.
fn accessible(range: &PhysRange) -> bool {
    range.start != 0
        && range.size != 0
        && range
            .start
            .checked_add(range.size)
            .is_some_and(|end| end <= REACHABLE_END)
        && !range.overlaps(&stage2())
}

/// Physical memory as bytes; `None` where stage2 must not go.
///
/// # Safety
///
/// Nothing writes the memory while the result is in use.
pub unsafe fn memory<'a>(range: PhysRange) -> Option<&'a [u8]> {
    accessible(&range).then(|| {
        // SAFETY: the first 4 GiB are identity-mapped, the range lies in there, is not
        // at the null address, and holds nothing that the compiler knows of. Any byte
        // is a valid `u8`. The caller sees to it that nobody writes.
        unsafe { core::slice::from_raw_parts(range.start as *const u8, range.size as usize) }
    })
}

/// Physical memory as bytes to write; `None` where stage2 must not go.
///
/// # Safety
///
/// The memory is RAM, nothing else is stored there, and no other reference to it is
/// in use.
pub unsafe fn memory_mut<'a>(range: PhysRange) -> Option<&'a mut [u8]> {
    accessible(&range).then(|| {
        // SAFETY: as in `memory`; the caller guarantees that there is no other
        // reference.
        unsafe { core::slice::from_raw_parts_mut(range.start as *mut u8, range.size as usize) }
    })
}

/// Enters the kernel.
///
/// # Safety
///
/// `handover` is the result of a successful load, and its region is unchanged since.
pub unsafe fn enter(handover: &Handover) -> ! {
    // SAFETY: the new page tables map the trampoline page where it is now, so execution
    // continues after the switch; the trampoline uses no stack, and the entry point was
    // checked to be executable there.
    unsafe { stage2_enter_kernel(handover.entry, handover.boot_info, handover.page_table_root) }
}

fn out8(port: u16, value: u8) {
    // SAFETY: used for the registers of the console below; no access to memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// The 16550 UART on COM1, output only.
pub struct Console;

impl Console {
    const DATA: u16 = 0x3f8;
    const INTERRUPT_ENABLE: u16 = Self::DATA + 1;
    const LINE_CONTROL: u16 = Self::DATA + 3;
    const LINE_STATUS: u16 = Self::DATA + 5;
    const TRANSMITTER_EMPTY: u8 = 1 << 5;

    /// 115200 baud, 8 data bits, no parity, no interrupts.
    pub fn open() -> Self {
        out8(Self::INTERRUPT_ENABLE, 0);
        out8(Self::LINE_CONTROL, 0x80);
        out8(Self::DATA, 1);
        out8(Self::INTERRUPT_ENABLE, 0);
        out8(Self::LINE_CONTROL, 0x03);
        Self
    }

    fn put(&mut self, byte: u8) {
        // A UART that never gets ready loses the byte; it does not stop the machine.
        for _ in 0..100_000 {
            if in8(Self::LINE_STATUS) & Self::TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        out8(Self::DATA, byte);
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

/// What QEMU's exit device is told.
#[derive(Clone, Copy)]
pub enum Exit {
    /// Stopped by an error that the console names.
    Error = 0x11,
    /// Stopped by a defect of stage2.
    Panic = 0x12,
}

/// Stops the machine.
pub fn exit(code: Exit) -> ! {
    let empty_table = [0_u8; 10];
    // SAFETY: port 0xf4 is QEMU's exit device, or nothing. Where it is nothing, the
    // interrupt without descriptors resets the machine: that is what it is for.
    unsafe {
        asm!(
            "out dx, eax",
            "lidt [{table}]",
            "int3",
            "2: hlt",
            "jmp 2b",
            in("dx") 0xf4_u16,
            in("eax") code as u32,
            table = in(reg) empty_table.as_ptr(),
            options(noreturn, nostack)
        )
    }
}
