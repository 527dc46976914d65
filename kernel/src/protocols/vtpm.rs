//! The vTPM protocol (58019, chapter 8): TPM commands in a page of the guest.
//!
//! The page need not be aligned. Request: platform command (4 bytes), locality (1), length
//! (4), TPM command. Response, in the same place: length (4), TPM response. What a TPM
//! says about a command is in its response; the call succeeds then.

use super::memory::{self, GuestMemory, GuestRange, PAGE, Reader};
use super::{CallError, Cpu, Registers};
use crate::services::Services;

const QUERY: u32 = 0;
const COMMAND: u32 = 1;

/// The platform command TPM_SEND_COMMAND (TCG TPM simulator).
const SEND_COMMAND: u32 = 8;

/// Length of what stands before a TPM command.
const REQUEST_HEADER: usize = 9;

/// Longest TPM command in bytes.
const MAX_COMMAND: usize = PAGE - REQUEST_HEADER;

/// Longest TPM response in bytes.
const MAX_RESPONSE: usize = PAGE - 4;

/// TPM_ST_NO_SESSIONS, length 10, TPM_RC_FAILURE.
const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

pub(super) fn serve(
    services: &Services,
    cpu: &mut Cpu,
    call: u32,
    registers: &mut Registers,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    match call {
        QUERY => {
            registers.rcx = 1 << SEND_COMMAND;
            registers.rdx = 0;
            Ok(())
        }
        COMMAND => command(services, cpu, registers.rcx, memory),
        _ => Err(CallError::UnsupportedCall),
    }
}

fn command(
    services: &Services,
    cpu: &mut Cpu,
    address: u64,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    let page = GuestRange::new(address, PAGE as u64)?;
    let mut reader = Reader::new(memory, page)?;
    let command = u32::from_le_bytes(reader.array()?);
    if command != SEND_COMMAND {
        return Err(CallError::UnsupportedCall);
    }
    let [locality] = reader.array()?;
    let length = u32::from_le_bytes(reader.array()?) as usize;
    if locality != 0 || length > MAX_COMMAND {
        return Err(CallError::InvalidParameter);
    }
    cpu.request.clear();
    cpu.request.resize(length, 0);
    reader.read(&mut cpu.request)?;

    let mut tpm = services.tpm.take()?.ok_or(CallError::UnsupportedProtocol)?;
    cpu.response.clear();
    tpm.execute(locality, &cpu.request, &mut cpu.response);
    if cpu.response.is_empty() || cpu.response.len() > MAX_RESPONSE {
        log::error!(
            "vTPM: a response of {} bytes does not fit the protocol",
            cpu.response.len()
        );
        cpu.response.clear();
        cpu.response.extend_from_slice(&FAILURE);
    }
    let length = cpu.response.len() as u32;
    cpu.response.splice(0..0, length.to_le_bytes());
    Ok(memory::write(memory, page, &cpu.response)?)
}

#[cfg(test)]
mod tests {
    use super::super::memory::fake::FakeMemory;
    use super::super::{CallId, dispatch, number};
    use super::*;
    use crate::services::fake;
    use crate::services::{Service, Tpm};
    use alloc::boxed::Box;
    use alloc::vec;
    use alloc::vec::Vec;

    const BASE: u64 = 0x10_0000;

    fn request(command: u32, locality: u8, length: u32, tpm_command: &[u8]) -> Vec<u8> {
        [
            &command.to_le_bytes()[..],
            &[locality],
            &length.to_le_bytes(),
            tpm_command,
        ]
        .concat()
    }

    /// Puts `request` at `address`, calls, and returns the result code and the memory.
    fn call(services: &Services, address: u64, request: &[u8]) -> (u64, FakeMemory) {
        let mut memory = FakeMemory::new(BASE, 2 * PAGE);
        if memory.contains(GuestRange::new(address, request.len() as u64).unwrap()) {
            memory.put(address, request);
        }
        let mut cpu = Cpu::new().unwrap();
        let mut registers = Registers {
            rcx: address,
            ..Registers::default()
        };
        let id = CallId {
            protocol: number::VTPM,
            call: COMMAND,
        };
        let result = dispatch(services, &mut cpu, id, &mut registers, &mut memory);
        assert_eq!(registers.rcx, address);
        (result, memory)
    }

    #[test]
    fn query_names_the_one_platform_command() {
        let mut registers = Registers {
            rdx: 7,
            ..Registers::default()
        };
        let mut memory = FakeMemory::new(BASE, PAGE);
        let mut cpu = Cpu::new().unwrap();
        serve(
            &fake::services(),
            &mut cpu,
            QUERY,
            &mut registers,
            &mut memory,
        )
        .unwrap();
        assert_eq!((registers.rcx, registers.rdx), (0x100, 0));
    }

    #[test]
    fn a_command_is_answered_in_place_wherever_its_page_begins() {
        for address in [BASE, BASE + 1, BASE + 100, BASE + PAGE as u64] {
            let (result, memory) = call(&fake::services(), address, &request(8, 0, 3, b"abc"));
            assert_eq!(result, 0);
            assert_eq!(memory.at(address, 8), b"\x04\0\0\0\0cba");
        }
    }

    #[test]
    fn the_longest_command_and_no_longer_one_is_taken() {
        let longest = vec![7; 4087];
        let (result, memory) = call(&fake::services(), BASE, &request(8, 0, 4087, &longest));
        assert_eq!(result, 0);
        assert_eq!(memory.at(BASE, 4), 4088_u32.to_le_bytes());
        for length in [4088, 4096, u32::MAX] {
            let (result, memory) = call(&fake::services(), BASE, &request(8, 0, length, &longest));
            assert_eq!(result, 0x8000_0005);
            assert_eq!(memory.at(BASE, 4), 8_u32.to_le_bytes());
        }
    }

    #[test]
    fn other_platform_commands_and_localities_are_refused() {
        for command in [0, 1, 7, 9, 20, u32::MAX] {
            let (result, _) = call(&fake::services(), BASE, &request(command, 0, 3, b"abc"));
            assert_eq!(result, 0x8000_0002);
        }
        for locality in [1, 4, 0xff] {
            let (result, _) = call(&fake::services(), BASE, &request(8, locality, 3, b"abc"));
            assert_eq!(result, 0x8000_0005);
        }
    }

    #[test]
    fn a_page_that_is_not_all_the_guests_is_refused() {
        let end = BASE + 2 * PAGE as u64;
        for address in [
            0,
            BASE - 1,
            end - 4095,
            end - 9,
            end,
            u64::MAX - 100,
            u64::MAX,
        ] {
            let mut memory = FakeMemory::new(BASE, 2 * PAGE);
            memory.bytes.fill(8);
            let before = memory.clone();
            let mut registers = Registers {
                rcx: address,
                ..Registers::default()
            };
            let mut cpu = Cpu::new().unwrap();
            let id = CallId {
                protocol: number::VTPM,
                call: COMMAND,
            };
            let services = fake::services();
            let result = dispatch(&services, &mut cpu, id, &mut registers, &mut memory);
            assert_eq!(result, 0x8000_0003, "{address:#x}");
            assert_eq!(memory, before);
        }
    }

    #[test]
    fn a_tpm_at_work_is_not_waited_for() {
        let services = fake::services();
        let held = services.tpm.take().unwrap();
        let (result, _) = call(&services, BASE, &request(8, 0, 3, b"abc"));
        assert_eq!(result, 0x8000_0007);
        drop(held);
    }

    struct Babbling(usize);

    impl Tpm for Babbling {
        fn execute(&mut self, _: u8, _: &[u8], response: &mut Vec<u8>) {
            *response = vec![0xaa; self.0];
        }

        fn ek_public(&self) -> &[u8] {
            &[]
        }
    }

    #[test]
    fn a_response_that_does_not_fit_becomes_a_failure() {
        for (size, answer) in [
            (4092, &4092_u32.to_le_bytes()[..]),
            (4093, &[10, 0, 0, 0, 0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]),
            (0, &[10, 0, 0, 0, 0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]),
        ] {
            let services = Services {
                tpm: Service::new(Box::new(Babbling(size))),
                ..Services::default()
            };
            let (result, memory) = call(&services, BASE, &request(8, 0, 3, b"abc"));
            assert_eq!(result, 0);
            assert_eq!(memory.at(BASE, answer.len()), answer);
        }
    }
}
