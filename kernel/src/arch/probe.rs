//! Looking at the CPU from inside, for the self-test: which instructions a piece of
//! code executes, whether exceptions keep the SSE state, and what faults.

use super::exceptions::{self, TrapFrame};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// Executed instructions of the kinds that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// AES rounds by AES-NI.
    pub aes: u32,
    /// Carry-less multiplications.
    pub clmul: u32,
    /// SHA-256 rounds by SHA-NI.
    pub sha: u32,
    /// All instructions.
    pub total: u32,
}

impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} instructions, {} AES-NI, {} PCLMULQDQ, {} SHA-NI",
            self.total, self.aes, self.clmul, self.sha
        )
    }
}

static AES: AtomicU32 = AtomicU32::new(0);
static CLMUL: AtomicU32 = AtomicU32::new(0);
static SHA: AtomicU32 = AtomicU32::new(0);
static TOTAL: AtomicU32 = AtomicU32::new(0);

/// Trap flag in RFLAGS: an exception after every instruction.
const TRAP_FLAG: u32 = 1 << 8;

/// Runs `action` step by step and counts what it executes.
pub fn count_instructions(action: impl FnOnce()) -> Executed {
    exceptions::on_step(on_step);
    let counters = [&AES, &CLMUL, &SHA, &TOTAL];
    for counter in counters {
        counter.store(0, Ordering::Relaxed);
    }
    // SAFETY: sets the trap flag; the debug exception has a handler that returns.
    unsafe {
        core::arch::asm!(
            "pushfq", "or qword ptr [rsp], {flag}", "popfq",
            flag = const TRAP_FLAG,
        );
    }
    action();
    // SAFETY: clears the trap flag again.
    unsafe {
        core::arch::asm!(
            "pushfq", "and qword ptr [rsp], {flag}", "popfq",
            flag = const !TRAP_FLAG as i32,
        );
    }
    let [aes, clmul, sha, total] = counters.map(|counter| counter.load(Ordering::Relaxed));
    Executed {
        aes,
        clmul,
        sha,
        total,
    }
}

/// Looks at the instruction that comes next.
fn on_step(frame: &TrapFrame) {
    // SAFETY: the CPU is about to execute the code at this address. An instruction
    // has up to 15 bytes; kernel text is followed by more of the image.
    let code: [u8; 6] = unsafe { (frame.rip as *const [u8; 6]).read_unaligned() };
    TOTAL.fetch_add(1, Ordering::Relaxed);
    let counter = match Opcode::of(&code) {
        Some(Opcode::Aes) => &AES,
        Some(Opcode::Clmul) => &CLMUL,
        Some(Opcode::Sha) => &SHA,
        None => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Aes,
    Clmul,
    Sha,
}

impl Opcode {
    /// Recognises AESENC, AESENCLAST, AESDEC, AESDECLAST, PCLMULQDQ, each in its legacy
    /// and its VEX encoding, and SHA256RNDS2 (Intel SDM vol. 2, 2.3 and chapters 3 to 5).
    fn of(code: &[u8; 6]) -> Option<Self> {
        // Operand size prefix or not, opcode map (2 is 0F 38, 3 is 0F 3A), opcode.
        let (wide, map, opcode) = match *code {
            [0xc4, byte1, byte2, opcode, ..] => (byte2 & 3 == 1, byte1 & 0x1f, opcode),
            [0x66, 0x40..=0x4f, 0x0f, map, opcode, _] => (true, map_number(map)?, opcode),
            [0x66, 0x0f, map, opcode, ..] => (true, map_number(map)?, opcode),
            [0x40..=0x4f, 0x0f, map, opcode, ..] => (false, map_number(map)?, opcode),
            [0x0f, map, opcode, ..] => (false, map_number(map)?, opcode),
            _ => return None,
        };
        match (wide, map, opcode) {
            (true, 2, 0xdc..=0xdf) => Some(Self::Aes),
            (true, 3, 0x44) => Some(Self::Clmul),
            (false, 2, 0xcb) => Some(Self::Sha),
            _ => None,
        }
    }
}

fn map_number(byte: u8) -> Option<u8> {
    match byte {
        0x38 => Some(2),
        0x3a => Some(3),
        _ => None,
    }
}

/// Whether the XMM registers hold across an exception whose handler computes with
/// them.
#[cfg(target_os = "svsm")]
pub fn sse_state_survives_exceptions() -> bool {
    let pattern: [u64; 4] = [0x0123_4567_89ab_cdef, 0xfeed_face_cafe_beef, 3, 4];
    let mut after = [0u64; 4];
    // SAFETY: a breakpoint has a handler that returns; the registers are declared.
    unsafe {
        core::arch::asm!(
            "movdqu xmm0, [{from}]",
            "movdqu xmm15, [{from} + 16]",
            "int3",
            "movdqu [{to}], xmm0",
            "movdqu [{to} + 16], xmm15",
            from = in(reg) pattern.as_ptr(),
            to = in(reg) after.as_mut_ptr(),
            out("xmm0") _,
            out("xmm15") _,
        );
    }
    after == pattern
}

/// Uses stack until there is none left.
#[allow(unconditional_recursion)]
#[inline(never)]
pub fn overflow_stack(depth: u64) -> u64 {
    let mut room = [depth; 64];
    core::hint::black_box(&mut room);
    overflow_stack(depth + 1) + room[depth as usize % 64]
}

/// Writes to the kernel's own code.
pub fn write_text() {
    let code = overflow_stack as *const () as *mut u8;
    // SAFETY: faults if W^X holds; the self-test wants to see that.
    unsafe { code.write_volatile(0xc3) };
}

/// Executes what lies on the heap.
pub fn execute_data() {
    let code = alloc::vec![0xc3u8; 16];
    // SAFETY: faults if W^X holds; if not, it is a plain return.
    unsafe { core::arch::asm!("call {}", in(reg) code.as_ptr(), clobber_abi("C")) };
}

/// Reads through a null pointer.
pub fn read_null() {
    let null = core::hint::black_box(0usize) as *const u8;
    // SAFETY: faults if page 0 is unmapped, as it has to be.
    unsafe { null.read_volatile() };
}

#[cfg(test)]
mod tests {
    use super::Opcode;

    #[test]
    fn opcodes_are_recognised() {
        let cases = [
            ([0x66, 0x0f, 0x38, 0xdc, 0xc1, 0], Some(Opcode::Aes)),
            ([0x66, 0x41, 0x0f, 0x38, 0xdd, 0xc1], Some(Opcode::Aes)),
            ([0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x11], Some(Opcode::Clmul)),
            ([0xc4, 0xe2, 0x71, 0xdc, 0xc2, 0], Some(Opcode::Aes)),
            ([0xc4, 0xe3, 0x71, 0x44, 0xc2, 0], Some(Opcode::Clmul)),
            ([0xc4, 0xe3, 0x70, 0x44, 0xc2, 0], None),
            ([0x0f, 0x38, 0xcb, 0xd1, 0, 0], Some(Opcode::Sha)),
            ([0x44, 0x0f, 0x38, 0xcb, 0xd1, 0], Some(Opcode::Sha)),
            ([0x0f, 0x38, 0xdc, 0xd1, 0, 0], None),
            ([0x66, 0x0f, 0x38, 0xcb, 0xd1, 0], None),
            ([0x90; 6], None),
        ];
        for (code, opcode) in cases {
            assert_eq!(Opcode::of(&code), opcode, "{code:x?}");
        }
    }
}
