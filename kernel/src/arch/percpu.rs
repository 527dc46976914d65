//! State that belongs to one CPU, found through the GS base.
//!
//! There is one such structure today; code that needs per-CPU state goes through
//! [`this`] all the same, so that more CPUs need no change there.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;
use x86_64::structures::gdt::GlobalDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// State of one CPU.
#[repr(C)]
pub struct PerCpu {
    /// Address of this structure; `gs:[0]` reads it.
    this: AtomicU64,
    /// Number of the CPU, from 0.
    index: u32,
    /// Exceptions and interrupts that were dropped because nothing waits for them.
    pub dropped_interrupts: AtomicU64,
    /// Breakpoints that were passed over.
    pub breakpoints: AtomicU64,
    pub(super) gdt: UnsafeCell<GlobalDescriptorTable>,
    pub(super) tss: UnsafeCell<TaskStateSegment>,
}

// SAFETY: the descriptor tables are written by their own CPU only, in
// `tables::init` and `tables::use_fault_stacks`; all else is atomic or constant.
unsafe impl Sync for PerCpu {}

static BOOT_CPU: PerCpu = PerCpu {
    this: AtomicU64::new(0),
    index: 0,
    dropped_interrupts: AtomicU64::new(0),
    breakpoints: AtomicU64::new(0),
    gdt: UnsafeCell::new(GlobalDescriptorTable::new()),
    tss: UnsafeCell::new(TaskStateSegment::new()),
};

impl PerCpu {
    /// Number of the CPU, from 0.
    pub const fn index(&self) -> u32 {
        self.index
    }
}

/// Makes the boot CPU's structure the one that [`this`] finds.
pub(super) fn init_boot_cpu() -> &'static PerCpu {
    let address = &raw const BOOT_CPU as u64;
    BOOT_CPU.this.store(address, Ordering::Relaxed);
    GsBase::write(VirtAddr::new(address));
    &BOOT_CPU
}

/// The structure of the CPU that runs this.
pub fn this() -> &'static PerCpu {
    let address: u64;
    // SAFETY: `init_boot_cpu` runs before anything that calls this, and the first
    // field of the structure at the GS base is its own address.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, preserves_flags));
        &*(address as *const PerCpu)
    }
}
