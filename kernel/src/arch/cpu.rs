//! CPU features: what is there, and switching on what protects the kernel.

use super::exceptions;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// Features that the kernel uses or reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// AES-NI.
    pub aes: bool,
    /// Carry-less multiplication, for GHASH.
    pub pclmul: bool,
    /// AVX, with XSAVE for its state; the carry-less multiplication of the crypto
    /// crates depends on it.
    pub avx: bool,
    /// SHA-1 and SHA-256 instructions.
    pub sha: bool,
    /// RDSEED.
    pub rdseed: bool,
    /// RDRAND.
    pub rdrand: bool,
    /// Supervisor mode execution prevention.
    pub smep: bool,
    /// Supervisor mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
}

impl Features {
    /// Asks the CPU.
    pub fn detect() -> Self {
        let one = __cpuid(1);
        let seven = if __cpuid(0).eax >= 7 {
            let leaf = __cpuid_count(7, 0);
            (leaf.ebx, leaf.ecx)
        } else {
            (0, 0)
        };
        let bit = |word: u32, bit: u32| word & (1 << bit) != 0;
        Self {
            aes: bit(one.ecx, 25),
            pclmul: bit(one.ecx, 1),
            avx: bit(one.ecx, 26) && bit(one.ecx, 28),
            rdrand: bit(one.ecx, 30),
            sha: bit(seven.0, 29),
            rdseed: bit(seven.0, 18),
            smep: bit(seven.0, 7),
            smap: bit(seven.0, 20),
            umip: bit(seven.1, 2),
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("AES-NI", self.aes),
            ("PCLMUL", self.pclmul),
            ("AVX", self.avx),
            ("SHA-NI", self.sha),
            ("RDSEED", self.rdseed),
            ("RDRAND", self.rdrand),
            ("SMEP", self.smep),
            ("SMAP", self.smap),
            ("UMIP", self.umip),
        ];
        for (index, (name, present)) in all.into_iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let answer = if present { "yes" } else { "no" };
            write!(f, "{comma}{name} {answer}")?;
        }
        Ok(())
    }
}

/// Switches on every protection that the CPU has: write protection in ring 0,
/// SMEP, SMAP, UMIP, and native x87 and SSE errors.
pub fn protect(features: &Features) {
    let mut cr4 = Cr4::read();
    cr4 |= Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    cr4.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        features.smep,
    );
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    // SAFETY: only adds restrictions, and the kernel has no user pages.
    unsafe { Cr4::write(cr4) };
    let mut cr0 = Cr0::read();
    cr0 |= Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR | Cr0Flags::MONITOR_COPROCESSOR;
    cr0 -= Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED;
    // SAFETY: paging and protection stay on; the FPU is used as SSE needs it.
    unsafe { Cr0::write(cr0) };
}

/// Switches on AVX where the CPU has it, so that the crypto crates may use it.
pub fn enable_avx(features: &Features) {
    if !features.avx {
        return;
    }
    // SAFETY: the CPU has XSAVE and AVX, and exception entry saves their state from
    // now on.
    unsafe {
        Cr4::update(|cr4| cr4.insert(Cr4Flags::OSXSAVE));
        XCr0::write(XCr0Flags::from_bits_truncate(exceptions::XSTATES.into()));
    }
    exceptions::use_xsave();
}

/// Stops the CPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off, so nothing but an NMI ends the halt.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Resets the machine by a fault that cannot be delivered.
pub fn triple_fault() -> ! {
    let empty = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: with an empty IDT the breakpoint cannot be delivered and the CPU
    // shuts down, which is the point.
    unsafe {
        x86_64::instructions::tables::lidt(&empty);
        core::arch::asm!("int3", options(nomem, nostack));
    }
    halt()
}

/// Reads the time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is there on every 64-bit CPU and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}
