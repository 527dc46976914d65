//! The UEFI MM protocol (number 4): MM communications for the UEFI variable service.
//!
//! A buffer of the guest holds the GUID of the handler (16 bytes), the length of the body
//! (8), and the body, which the reply replaces. What became of a variable is an EFI_STATUS
//! in the reply; the call itself succeeds then, as firmware expects.

use super::memory::{self, GuestMemory, GuestRange, Reader};
use super::{CallError, Cpu, Registers};
use crate::services::Services;

const REQUEST: u32 = 1;

/// Length of GUID and length in front of the body.
const HEADER: usize = 24;

/// Largest buffer in bytes: what firmware uses.
pub(super) const MAX_BUFFER: usize = 64 * 1024;

pub(super) fn serve(
    services: &Services,
    cpu: &mut Cpu,
    call: u32,
    registers: &mut Registers,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    match call {
        REQUEST => request(services, cpu, registers.rcx, registers.rdx, memory),
        _ => Err(CallError::UnsupportedCall),
    }
}

/// Checks in the order that firmware knows from other SVSMs.
fn request(
    services: &Services,
    cpu: &mut Cpu,
    address: u64,
    size: u64,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    if address == 0 {
        return Err(CallError::InvalidParameter);
    }
    let first = GuestRange::new(address, 1)?;
    if !memory.contains(first) {
        return Err(CallError::InvalidAddress);
    }
    first.page_aligned()?;
    if size < HEADER as u64 || size > MAX_BUFFER as u64 {
        return Err(CallError::InvalidParameter);
    }
    let buffer = GuestRange::new(address, size)?;
    let mut reader = Reader::new(memory, buffer)?;
    let guid = reader.array()?;
    let length = u64::from_le_bytes(reader.array()?);
    if length > size - HEADER as u64 {
        return Err(CallError::InvalidParameter);
    }
    cpu.request.clear();
    cpu.request.resize(length as usize, 0);
    reader.read(&mut cpu.request)?;

    let mut variables = services
        .variables
        .take()?
        .ok_or(CallError::UnsupportedProtocol)?;
    variables.communicate(&guid, &mut cpu.request);
    if length == 0 {
        return Ok(());
    }
    let body = GuestRange::new(address + HEADER as u64, length)?;
    Ok(memory::write(memory, body, &cpu.request)?)
}

#[cfg(test)]
mod tests {
    use super::super::memory::PAGE;
    use super::super::memory::fake::FakeMemory;
    use super::super::{CallId, dispatch, number};
    use super::*;
    use crate::services::fake;
    use alloc::vec;
    use alloc::vec::Vec;

    const BASE: u64 = 0x10_0000;
    const SIZE: usize = 17 * PAGE;

    fn buffer(length: u64, body: &[u8]) -> Vec<u8> {
        [&[1; 16][..], &length.to_le_bytes(), body].concat()
    }

    fn call(services: &Services, address: u64, size: u64, memory: &mut FakeMemory) -> u64 {
        let mut cpu = Cpu::new().unwrap();
        let mut registers = Registers {
            rcx: address,
            rdx: size,
            ..Registers::default()
        };
        let before = registers;
        let id = CallId {
            protocol: number::UEFI_MM,
            call: REQUEST,
        };
        memory.new_call();
        let result = dispatch(services, &mut cpu, id, &mut registers, memory);
        assert_eq!(registers, before);
        result
    }

    #[test]
    fn the_reply_replaces_the_body_and_nothing_else() {
        let mut memory = FakeMemory::new(BASE, SIZE);
        memory.put(BASE, &buffer(3, b"abcdef"));
        assert_eq!(call(&fake::services(), BASE, 0x10000, &mut memory), 0);
        let turned = [!b'a' ^ 1, !b'b' ^ 1, !b'c' ^ 1];
        assert_eq!(memory.at(BASE, 24), buffer(3, b""));
        assert_eq!(memory.at(BASE + 24, 6), [&turned[..], b"def"].concat());
    }

    #[test]
    fn checks_come_in_the_order_that_firmware_knows() {
        let end = BASE + SIZE as u64;
        for (address, size, result) in [
            // No address goes before everything.
            (0, 0, 0x8000_0005),
            // Then guest memory, before alignment and size.
            (0x1001, 0, 0x8000_0003),
            (end, 24, 0x8000_0003),
            (u64::MAX, 24, 0x8000_0003),
            // Then alignment, before size.
            (BASE + 1, 0, 0x8000_0003),
            (BASE + 8, 24, 0x8000_0003),
            // Then size.
            (BASE, 0, 0x8000_0005),
            (BASE, 23, 0x8000_0005),
            (BASE, 0x10001, 0x8000_0005),
            (BASE, u64::MAX, 0x8000_0005),
            // Then whether all of it is guest memory.
            (end - PAGE as u64, 4097, 0x8000_0003),
            // Then the length of the body.
            (BASE, 24 + 8, 0x8000_0005),
            (BASE, 24 + 9, 0),
        ] {
            let mut memory = FakeMemory::new(BASE, SIZE);
            memory.put(BASE, &buffer(9, b"123456789"));
            let before = memory.clone();
            assert_eq!(
                call(&fake::services(), address, size, &mut memory),
                result,
                "{address:#x} {size:#x}"
            );
            assert_eq!(memory.bytes == before.bytes, result != 0);
        }
    }

    #[test]
    fn the_largest_body_fits_and_a_larger_one_is_refused() {
        for (length, result) in [
            (65512, 0),
            (65513, 0x8000_0005),
            (0x1_0000_0000, 0x8000_0005),
            (u64::MAX, 0x8000_0005),
        ] {
            let mut memory = FakeMemory::new(BASE, SIZE);
            memory.put(BASE, &buffer(length, &vec![0xff; 65512]));
            assert_eq!(
                call(&fake::services(), BASE, 0x10000, &mut memory),
                result,
                "{length:#x}"
            );
        }
    }

    #[test]
    fn an_empty_body_is_served() {
        let mut memory = FakeMemory::new(BASE, SIZE);
        memory.put(BASE, &buffer(0, b"abc"));
        let before = memory.bytes.clone();
        assert_eq!(call(&fake::services(), BASE, 4096, &mut memory), 0);
        assert_eq!(memory.bytes, before);
    }

    #[test]
    fn a_service_at_work_is_not_waited_for() {
        let services = fake::services();
        let held = services.variables.take().unwrap();
        let mut memory = FakeMemory::new(BASE, SIZE);
        memory.put(BASE, &buffer(3, b"abc"));
        assert_eq!(call(&services, BASE, 4096, &mut memory), 0x8000_0007);
        drop(held);
    }
}
