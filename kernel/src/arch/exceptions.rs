//! Exceptions: entry, and what is done about each.
//!
//! Entry saves every general register and all x87, SSE and AVX state, since the kernel
//! itself computes with them. An exception that nothing handles ends the
//! kernel through the function given to [`on_fatal`].

use super::percpu;
use super::tables::vector;
#[cfg(target_os = "svsm")]
use core::arch::global_asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

/// Registers at the exception, in the order in which entry pushes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8);

/// Bytes of one stub; [`stub`] relies on it.
const STUB_SIZE: u64 = 16;

/// State components that the kernel has: x87, SSE, AVX (Intel SDM vol. 1, 13.1).
pub(super) const XSTATES: u32 = 0b111;

/// Bytes of these states in the standard format: 512 legacy, 64 header, 256 AVX.
#[cfg_attr(not(target_os = "svsm"), allow(dead_code))]
const SAVE_AREA: u32 = 512 + 64 + 256;

/// Whether entry saves all of [`XSTATES`] with XSAVE; if not, AVX is off and FXSAVE
/// covers the rest.
static USES_XSAVE: AtomicBool = AtomicBool::new(false);

/// Lets entry save AVX state from now on. CR4.OSXSAVE and XCR0 must be set up.
pub(super) fn use_xsave() {
    USES_XSAVE.store(true, Ordering::Relaxed);
}

// One stub a vector: push a zero where the CPU pushes no error code (Intel SDM
// vol. 3, table 7-1; AMD APM vol. 2, 8.4 for #VC and #SX), push the vector, save
// the rest.
#[cfg(target_os = "svsm")]
global_asm!(
    ".section .text.exceptions, \"ax\"",
    ".balign 16",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign {stub_size}",
    ".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)",
    "push 0",
    ".endif",
    "push vector",
    "jmp exception_common",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "sub rsp, {save_area}",
    "and rsp, -64",
    "cmp byte ptr [rip + {uses_xsave}], 0",
    "je 1f",
    // XSAVE leaves most of its header alone and XRSTOR wants it to be zero.
    "xor eax, eax",
    ".irp word, 0, 1, 2, 3, 4, 5, 6, 7",
    "mov [rsp + 512 + 8 * \\word], rax",
    ".endr",
    "mov eax, {states}",
    "xor edx, edx",
    "xsave64 [rsp]",
    "call {handle}",
    "mov eax, {states}",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "jmp 2f",
    "1:",
    "fxsave64 [rsp]",
    "call {handle}",
    "fxrstor64 [rsp]",
    "2:",
    "mov rsp, rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    stub_size = const STUB_SIZE,
    save_area = const SAVE_AREA,
    states = const XSTATES,
    uses_xsave = sym USES_XSAVE,
    handle = sym handle,
);

/// Address of the stub of `vector`.
#[cfg(target_os = "svsm")]
pub(super) fn stub(vector: u8) -> VirtAddr {
    unsafe extern "C" {
        static exception_stubs: u8;
    }
    VirtAddr::new(&raw const exception_stubs as u64 + u64::from(vector) * STUB_SIZE)
}

/// On the host there are no stubs.
#[cfg(not(target_os = "svsm"))]
pub(super) fn stub(vector: u8) -> VirtAddr {
    VirtAddr::new(u64::from(vector) * STUB_SIZE)
}

type FatalHandler = fn(&TrapFrame) -> !;
type StepHandler = fn(&TrapFrame);

static FATAL: Once<FatalHandler> = Once::new();
static STEP: Once<StepHandler> = Once::new();

/// Names the function that ends the kernel after an exception nothing handles.
pub fn on_fatal(handler: FatalHandler) {
    FATAL.call_once(|| handler);
}

/// Names the function that sees every single-step exception.
pub fn on_step(handler: StepHandler) {
    STEP.call_once(|| handler);
}

/// Exceptions under way; more than one means the report itself failed.
static FATAL_DEPTH: AtomicU64 = AtomicU64::new(0);

#[cfg_attr(not(target_os = "svsm"), allow(dead_code))]
extern "C" fn handle(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        vector::DB if let Some(step) = STEP.get() => step(frame),
        vector::BP => {
            percpu::this().breakpoints.fetch_add(1, Ordering::Relaxed);
        }
        vector::NMI | vector::FIRST_INTERRUPT..=u8::MAX => {
            percpu::this()
                .dropped_interrupts
                .fetch_add(1, Ordering::Relaxed);
        }
        _ => fatal(frame),
    }
}

fn fatal(frame: &TrapFrame) -> ! {
    if FATAL_DEPTH.fetch_add(1, Ordering::Relaxed) == 0
        && let Some(handler) = FATAL.get()
    {
        handler(frame);
    }
    super::cpu::triple_fault()
}

/// Short name of an exception (Intel SDM vol. 3, table 7-1).
pub fn name(vector: u64) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug",
        6 => "#UD invalid opcode",
        7 => "#NM device not available",
        8 => "#DF double fault",
        10 => "#TS invalid TSS",
        11 => "#NP segment not present",
        12 => "#SS stack fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        16 => "#MF x87 error",
        17 => "#AC alignment check",
        18 => "#MC machine check",
        19 => "#XM SIMD error",
        21 => "#CP control protection",
        28 => "#HV hypervisor injection",
        29 => "#VC VMM communication",
        30 => "#SX security",
        _ => "exception",
    }
}

/// Address that a page fault was about.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (vector {}, error code {:#x}) at RIP {:#018x}, RSP {:#018x}, RFLAGS {:#x}",
            name(self.vector),
            self.vector,
            self.error_code,
            self.rip,
            self.rsp,
            self.rflags
        )
    }
}
