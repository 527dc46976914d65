//! GDT, TSS and IDT.
//!
//! All 256 vectors have an entry. The faults that can strike when the stack itself
//! is the trouble run on stacks of their own (Intel SDM vol. 3, 7.14.5).

use super::percpu::{self, PerCpu};
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment, SegmentSelector};
use x86_64::structures::gdt::Descriptor;
use x86_64::structures::idt::InterruptDescriptorTable;

/// Faults that run on a stack of their own; the index is the IST slot.
pub const FAULT_STACKS: [u8; 5] = [vector::DF, vector::NMI, vector::MC, vector::PF, vector::GP];

/// Exception vectors (Intel SDM vol. 3, table 7-1).
pub mod vector {
    /// Debug.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Breakpoint.
    pub const BP: u8 = 3;
    /// Double fault.
    pub const DF: u8 = 8;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// Machine check.
    pub const MC: u8 = 18;
    /// First vector that is no exception.
    pub const FIRST_INTERRUPT: u8 = 32;
}

struct Idt(UnsafeCell<InterruptDescriptorTable>);

// SAFETY: written only by the boot CPU, before other CPUs exist.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new(InterruptDescriptorTable::new()));

/// Loads GDT, TSS and IDT on the boot CPU. Faults run on the current stack until
/// [`use_fault_stacks`].
pub fn init() {
    let cpu = percpu::init_boot_cpu();
    // SAFETY: called once, first of all, on the only CPU; nothing else holds a
    // reference to the tables, and they live for ever.
    unsafe {
        load_segments(cpu);
        let idt = &mut *IDT.0.get();
        fill_idt(idt, |_| None);
        (*IDT.0.get()).load();
    }
}

/// Gives each fault of [`FAULT_STACKS`] the stack that ends at the address in the
/// same place of `tops`.
pub fn use_fault_stacks(tops: [VirtAddr; FAULT_STACKS.len()]) {
    let cpu = percpu::this();
    // SAFETY: called once, on the only CPU, with interrupts off. The CPU reads the
    // TSS and the IDT at the next fault and not before.
    unsafe {
        let tss = &mut *cpu.tss.get();
        for (slot, top) in tops.into_iter().enumerate() {
            tss.interrupt_stack_table[slot] = top;
        }
        fill_idt(&mut *IDT.0.get(), |vector| {
            FAULT_STACKS
                .iter()
                .position(|&fault| fault == vector)
                .map(|slot| slot as u16)
        });
    }
}

/// # Safety
/// The tables of `cpu` must not be in use by anyone else.
unsafe fn load_segments(cpu: &'static PerCpu) {
    // SAFETY: promised by the caller; the TSS lives as long as the CPU.
    let (gdt, tss) = unsafe { (&mut *cpu.gdt.get(), &*cpu.tss.get()) };
    let code = gdt.append(Descriptor::kernel_code_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    // SAFETY: the selectors are those just made; null data segments are what long
    // mode in ring 0 needs.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(code);
        SS::set_reg(SegmentSelector::NULL);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(task);
    }
}

/// Points every vector at its stub; `stack` gives the IST slot, if any.
fn fill_idt(idt: &mut InterruptDescriptorTable, stack: impl Fn(u8) -> Option<u16>) {
    macro_rules! point {
        ($entry:expr, $vector:expr) => {{
            // SAFETY: the stub saves all state and returns with IRETQ; the IST
            // slots are filled before they are named.
            unsafe {
                let options = $entry.set_handler_addr(super::exceptions::stub($vector));
                if let Some(slot) = stack($vector) {
                    options.set_stack_index(slot);
                }
            }
        }};
    }
    point!(idt.divide_error, 0);
    point!(idt.debug, vector::DB);
    point!(idt.non_maskable_interrupt, vector::NMI);
    point!(idt.breakpoint, vector::BP);
    point!(idt.overflow, 4);
    point!(idt.bound_range_exceeded, 5);
    point!(idt.invalid_opcode, 6);
    point!(idt.device_not_available, 7);
    point!(idt.double_fault, vector::DF);
    point!(idt.invalid_tss, 10);
    point!(idt.segment_not_present, 11);
    point!(idt.stack_segment_fault, 12);
    point!(idt.general_protection_fault, vector::GP);
    point!(idt.page_fault, vector::PF);
    point!(idt.x87_floating_point, 16);
    point!(idt.alignment_check, 17);
    point!(idt.machine_check, vector::MC);
    point!(idt.simd_floating_point, 19);
    point!(idt.virtualization, 20);
    point!(idt.cp_protection_exception, 21);
    point!(idt.hv_injection_exception, 28);
    point!(idt.vmm_communication_exception, 29);
    point!(idt.security_exception, 30);
    for vector in vector::FIRST_INTERRUPT..=u8::MAX {
        point!(idt[vector], vector);
    }
}
