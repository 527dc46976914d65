//! SVSM calls (AMD publication 58019, revision 1.00): from the registers and the memory of
//! a guest to the services.
//!
//! Always true in here: every address is the guest's word, is checked against what the
//! guest may name, and is read once ([`memory`]); nothing the guest says sizes an
//! allocation ([`Cpu`] holds the buffers); a call that fails writes no register and no
//! memory but what the specification says. No service is waited for.
#![forbid(unsafe_code)]

mod attestation;
mod core_calls;
mod manifest;
pub mod memory;
mod result;
mod uefi_mm;
mod vtpm;

pub use manifest::{MANIFEST_GUID, UEFI_MM_GUID, VTPM_GUID};
pub use result::{CallError, SUCCESS};

use crate::services::Services;
use alloc::vec::Vec;
use memory::GuestMemory;

/// Protocol numbers (58019, table 3).
pub mod number {
    /// Core.
    pub const CORE: u32 = 0;
    /// Attestation.
    pub const ATTESTATION: u32 = 1;
    /// vTPM.
    pub const VTPM: u32 = 2;
    /// UEFI MM.
    pub const UEFI_MM: u32 = 4;
}

/// Which call is made: what RAX holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// Bits 63:32.
    pub protocol: u32,
    /// Bits 31:0.
    pub call: u32,
}

impl From<u64> for CallId {
    fn from(rax: u64) -> Self {
        Self {
            protocol: (rax >> 32) as u32,
            call: rax as u32,
        }
    }
}

/// The registers that carry arguments in and results out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registers' own names")]
pub struct Registers {
    pub rcx: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
}

/// What serving calls of one CPU needs: buffers that are made once, so that no guest can
/// ask for memory.
pub struct Cpu {
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Cpu {
    /// The buffers, or none when there is no memory for them.
    pub fn new() -> Option<Self> {
        let buffer = |size| {
            let mut buffer = Vec::new();
            buffer.try_reserve_exact(size).ok().map(|()| buffer)
        };
        Some(Self {
            request: buffer(uefi_mm::MAX_BUFFER)?,
            response: buffer(memory::PAGE)?,
        })
    }
}

/// Serves one call and returns its result code, which goes into RAX.
pub fn dispatch(
    services: &Services,
    cpu: &mut Cpu,
    id: CallId,
    registers: &mut Registers,
    memory: &mut dyn GuestMemory,
) -> u64 {
    let result = if supports(services, id.protocol) {
        match id.protocol {
            number::CORE => core_calls::serve(services, id.call, registers),
            number::ATTESTATION => attestation::serve(services, id.call, registers, memory),
            number::VTPM => vtpm::serve(services, cpu, id.call, registers, memory),
            number::UEFI_MM => uefi_mm::serve(services, cpu, id.call, registers, memory),
            _ => Err(CallError::UnsupportedProtocol),
        }
    } else {
        Err(CallError::UnsupportedProtocol)
    };
    match result {
        Ok(()) => SUCCESS,
        Err(error) => error.code(),
    }
}

/// Whether `protocol` is there for a guest of this boot.
fn supports(services: &Services, protocol: u32) -> bool {
    match protocol {
        number::CORE | number::ATTESTATION => true,
        number::VTPM => services.tpm.is_present(),
        number::UEFI_MM => services.variables.is_present(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::memory::fake::FakeMemory;
    use super::*;
    use crate::services::fake;

    #[test]
    fn rax_names_protocol_and_call() {
        assert_eq!(
            CallId::from(0x0000_0002_0000_0001),
            CallId {
                protocol: 2,
                call: 1
            }
        );
    }

    #[test]
    fn unknown_protocols_are_refused_and_touch_nothing() {
        let mut memory = FakeMemory::new(0x1000, 4096);
        let before = memory.clone();
        let mut cpu = Cpu::new().unwrap();
        let all = fake::services();
        let none = Services::default();
        for (services, protocol) in [
            (&all, 3),
            (&all, 5),
            (&all, u32::MAX),
            (&none, number::VTPM),
            (&none, number::UEFI_MM),
        ] {
            let mut registers = Registers {
                rcx: 0x1000,
                rdx: 4096,
                ..Registers::default()
            };
            let unchanged = registers;
            let id = CallId { protocol, call: 1 };
            let result = dispatch(services, &mut cpu, id, &mut registers, &mut memory);
            assert_eq!(result, 0x8000_0001, "protocol {protocol}");
            assert_eq!(registers, unchanged);
        }
        assert_eq!(memory, before);
    }

    #[test]
    fn unknown_calls_are_refused_and_touch_nothing() {
        let services = fake::services();
        let mut memory = FakeMemory::new(0x1000, 4096);
        let before = memory.clone();
        let mut cpu = Cpu::new().unwrap();
        for (protocol, calls) in [
            (number::CORE, &[0, 1, 2, 3, 4, 5, 7, 8, u32::MAX][..]),
            (number::ATTESTATION, &[2, u32::MAX]),
            (number::VTPM, &[2, u32::MAX]),
            (number::UEFI_MM, &[0, 2, u32::MAX]),
        ] {
            for &call in calls {
                let mut registers = Registers {
                    rcx: 0x1000,
                    rdx: 4096,
                    ..Registers::default()
                };
                let unchanged = registers;
                let id = CallId { protocol, call };
                let result = dispatch(&services, &mut cpu, id, &mut registers, &mut memory);
                assert_eq!(result, 0x8000_0002, "protocol {protocol} call {call}");
                assert_eq!(registers, unchanged);
            }
        }
        assert_eq!(memory, before);
    }
}
