//! The attestation protocol (58019, chapter 7): the services manifest, and a report of the
//! hardware that vouches for it.
//!
//! REPORT_DATA is SHA-512(nonce || manifest). The nonce has exactly 64 bytes: with a length
//! of the caller's choice, one that ends in a manifest of his own would give the same
//! digest as a short one in front of it.
//!
//! Where the platform has no report source the call succeeds with a report of 0 bytes: the
//! manifest is there for whoever trusts the host, and a verifier finds nothing that could
//! pass for a report.

use super::memory::{self, GuestMemory, GuestRange, InvalidAddress, Reader};
use super::{CallError, Registers, manifest};
use crate::services::Services;
use alloc::vec::Vec;
use sha2::{Digest, Sha512};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

const ATTEST_SERVICES: u32 = 0;
const ATTEST_SINGLE_SERVICE: u32 = 1;

/// Length of a nonce in bytes.
const NONCE: usize = 64;

/// Attest Services operation (58019, section 7.1, table 9).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Operation {
    report: BufferField,
    nonce_address: U64,
    nonce_size: U16,
    nonce_reserved: [u8; 6],
    manifest: BufferField,
    certificates: BufferField,
}

/// What the operation for a single service has besides (58019, section 7.2, table 13).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SingleService {
    guid: [u8; 16],
    version: U32,
    reserved: [u8; 4],
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BufferField {
    address: U64,
    size: U32,
    reserved: [u8; 4],
}

const OPERATION: usize = size_of::<Operation>();
const SINGLE: usize = size_of::<SingleService>();
const _: () = assert!(OPERATION == 0x40 && SINGLE == 0x18);

impl BufferField {
    /// The buffer, page aligned and the guest's own; none when its size is 0.
    fn check(&self, memory: &dyn GuestMemory) -> Result<Option<GuestRange>, CallError> {
        if self.reserved != [0; 4] {
            return Err(CallError::InvalidParameter);
        }
        if self.size.get() == 0 {
            return Ok(None);
        }
        let size = u64::from(self.size.get());
        let range = GuestRange::new(self.address.get(), size)?.page_aligned()?;
        if !memory.contains(range) {
            return Err(CallError::InvalidAddress);
        }
        Ok(Some(range))
    }
}

/// An operation whose parts were checked.
struct Request {
    nonce: [u8; NONCE],
    report: Option<GuestRange>,
    manifest: Option<GuestRange>,
    certificates: Option<GuestRange>,
}

pub(super) fn serve(
    services: &Services,
    call: u32,
    registers: &mut Registers,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    match call {
        ATTEST_SERVICES => {
            let range = GuestRange::new(registers.rcx, OPERATION as u64)?.in_one_page()?;
            let bytes: [u8; OPERATION] = Reader::new(memory, range)?.array()?;
            let request = parse(&bytes, memory)?;
            let manifest = manifest::all(services)?;
            attest(services, &request, &manifest, registers, memory)
        }
        ATTEST_SINGLE_SERVICE => {
            let size = OPERATION + SINGLE;
            let range = GuestRange::new(registers.rcx, size as u64)?.in_one_page()?;
            let mut reader = Reader::new(memory, range)?;
            let bytes: [u8; OPERATION] = reader.array()?;
            let single: [u8; SINGLE] = reader.array()?;
            let request = parse(&bytes, memory)?;
            let single = SingleService::read_from_bytes(&single)
                .ok()
                .filter(|single| single.reserved == [0; 4])
                .ok_or(CallError::InvalidParameter)?;
            let manifest = manifest::single(services, &single.guid, single.version.get())?;
            attest(services, &request, &manifest, registers, memory)
        }
        _ => Err(CallError::UnsupportedCall),
    }
}

/// Checks an operation and reads its nonce.
fn parse(bytes: &[u8; OPERATION], memory: &dyn GuestMemory) -> Result<Request, CallError> {
    let operation = Operation::read_from_bytes(bytes).map_err(|_| CallError::InvalidParameter)?;
    if operation.nonce_reserved != [0; 6] || operation.nonce_size.get() as usize != NONCE {
        return Err(CallError::InvalidParameter);
    }
    let nonce = GuestRange::new(operation.nonce_address.get(), NONCE as u64)?;
    Ok(Request {
        report: operation.report.check(memory)?,
        manifest: operation.manifest.check(memory)?,
        certificates: operation.certificates.check(memory)?,
        nonce: Reader::new(memory, nonce)?.array()?,
    })
}

fn attest(
    services: &Services,
    request: &Request,
    manifest: &[u8],
    registers: &mut Registers,
    memory: &mut dyn GuestMemory,
) -> Result<(), CallError> {
    let mut source = services.report.take()?;
    let report_len = source.as_ref().map_or(0, |source| source.report_len());
    let certificates: Vec<u8> = match (&source, request.certificates) {
        (Some(source), Some(_)) => source.certificates().to_vec(),
        // Nobody asked for certificates, or there are none.
        _ => Vec::new(),
    };

    let sizes = Registers {
        rcx: manifest.len() as u64,
        rdx: certificates.len() as u64,
        r8: report_len as u64,
        ..*registers
    };
    let fits = |range: Option<GuestRange>, size: u64| range.map_or(0, |r| r.size()) >= size;
    if !fits(request.manifest, sizes.rcx)
        || !fits(request.certificates, sizes.rdx)
        || !fits(request.report, sizes.r8)
    {
        *registers = sizes;
        return Err(CallError::InvalidParameter);
    }

    let report = match source.as_mut() {
        Some(source) => {
            let report_data: [u8; 64] = Sha512::new()
                .chain_update(request.nonce)
                .chain_update(manifest)
                .finalize()
                .into();
            source.report(&report_data).map_err(|error| {
                log::error!("attestation of services: {error}");
                CallError::InvalidRequest
            })?
        }
        None => Vec::new(),
    };
    if report.len() != report_len {
        log::error!(
            "attestation of services: a report of {} bytes",
            report.len()
        );
        return Err(CallError::InvalidRequest);
    }
    put(memory, request.manifest, manifest)?;
    put(memory, request.certificates, &certificates)?;
    put(memory, request.report, &report)?;
    *registers = sizes;
    Ok(())
}

fn put(
    memory: &mut dyn GuestMemory,
    range: Option<GuestRange>,
    bytes: &[u8],
) -> Result<(), InvalidAddress> {
    match range {
        Some(range) => memory::write(memory, range, bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fake::FakeMemory;
    use super::super::{CallId, Cpu, UEFI_MM_GUID, VTPM_GUID, dispatch, number};
    use super::*;
    use crate::services::Service;
    use crate::services::fake::{self, FakeReports};
    use alloc::boxed::Box;

    const BASE: u64 = 0x20_0000;
    const PAGE: u64 = 4096;
    const OPERATION_AT: u64 = BASE + 64;
    const NONCE_AT: u64 = BASE + 1000;
    const REPORT_AT: u64 = BASE + PAGE;
    const MANIFEST_AT: u64 = BASE + 2 * PAGE;
    const CERTIFICATES_AT: u64 = BASE + 3 * PAGE;

    /// An operation whose every buffer is in place and large enough.
    fn operation() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(REPORT_AT.to_le_bytes());
        bytes.extend(4096_u64.to_le_bytes());
        bytes.extend(NONCE_AT.to_le_bytes());
        bytes.extend(64_u64.to_le_bytes());
        bytes.extend(MANIFEST_AT.to_le_bytes());
        bytes.extend(4096_u64.to_le_bytes());
        bytes.extend(CERTIFICATES_AT.to_le_bytes());
        bytes.extend(0x4000_u64.to_le_bytes());
        bytes
    }

    fn single(guid: &[u8; 16], version: u32) -> Vec<u8> {
        let mut bytes = operation();
        bytes.extend(guid);
        bytes.extend(u64::from(version).to_le_bytes());
        bytes
    }

    fn call_at(
        services: &Services,
        call: u32,
        address: u64,
        operation: &[u8],
    ) -> (u64, Registers, FakeMemory) {
        let mut memory = FakeMemory::new(BASE, 7 * PAGE as usize);
        memory.put(NONCE_AT, &[0x77; 64]);
        let range = GuestRange::new(address, operation.len() as u64);
        if range.is_ok_and(|range| memory.contains(range)) {
            memory.put(address, operation);
        }
        let mut registers = Registers {
            rcx: address,
            ..Registers::default()
        };
        let mut cpu = Cpu::new().unwrap();
        let id = CallId {
            protocol: number::ATTESTATION,
            call,
        };
        let result = dispatch(services, &mut cpu, id, &mut registers, &mut memory);
        (result, registers, memory)
    }

    fn call(operation: &[u8]) -> (u64, Registers, FakeMemory) {
        call_at(&fake::services(), ATTEST_SERVICES, OPERATION_AT, operation)
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut operation = operation();
        operation[at..at + bytes.len()].copy_from_slice(bytes);
        operation
    }

    #[test]
    fn the_report_binds_nonce_and_manifest() {
        let services = fake::services();
        let (result, registers, memory) =
            call_at(&services, ATTEST_SERVICES, OPERATION_AT, &operation());
        let manifest = manifest::all(&services).unwrap();
        assert_eq!(result, 0);
        assert_eq!(registers.rcx, manifest.len() as u64);
        assert_eq!((registers.rdx, registers.r8), (5000, 1184));
        assert_eq!(memory.at(MANIFEST_AT, manifest.len()), manifest);
        assert_eq!(memory.at(CERTIFICATES_AT, 5000), [0xcc; 5000]);
        let digest = Sha512::digest([&[0x77; 64][..], &manifest].concat());
        assert_eq!(memory.at(REPORT_AT, 64), &digest[..]);
    }

    #[test]
    fn a_single_service_has_its_blob_as_manifest() {
        let services = fake::services();
        for (guid, blob) in [
            (VTPM_GUID, &b"the endorsement key's public area"[..]),
            (UEFI_MM_GUID, &[0; 8]),
        ] {
            let (result, registers, memory) = call_at(
                &services,
                ATTEST_SINGLE_SERVICE,
                OPERATION_AT,
                &single(&guid, 0),
            );
            assert_eq!(result, 0);
            assert_eq!(registers.rcx, blob.len() as u64);
            assert_eq!(memory.at(MANIFEST_AT, blob.len()), blob);
            let digest = Sha512::digest([&[0x77; 64][..], blob].concat());
            assert_eq!(memory.at(REPORT_AT, 64), &digest[..]);
        }
        for (guid, version) in [(VTPM_GUID, 1), ([9; 16], 0)] {
            let (result, _, _) = call_at(
                &services,
                ATTEST_SINGLE_SERVICE,
                OPERATION_AT,
                &single(&guid, version),
            );
            assert_eq!(result, 0x8000_0005);
        }
    }

    #[test]
    fn buffers_that_are_too_small_are_answered_with_the_sizes_needed() {
        let manifest = manifest::all(&fake::services()).unwrap().len() as u32;
        for (at, needed) in [(8, 1184), (0x28, manifest), (0x38, 5000)] {
            let (result, registers, memory) = call(&with(at, &(needed - 1).to_le_bytes()));
            assert_eq!(result, 0x8000_0005);
            assert_eq!(
                (registers.rcx, registers.rdx, registers.r8),
                (u64::from(manifest), 5000, 1184)
            );
            assert!(memory.at(REPORT_AT, 6 * 4096).iter().all(|&byte| byte == 0));
            assert_eq!(call(&with(at, &needed.to_le_bytes())).0, 0);
        }
    }

    #[test]
    fn certificates_are_not_needed() {
        let (result, registers, memory) = call(&with(0x30, &[0; 16]));
        assert_eq!(result, 0);
        assert_eq!((registers.rdx, registers.r8), (0, 1184));
        assert_eq!(memory.at(CERTIFICATES_AT, 1), [0]);
    }

    #[test]
    fn what_is_reserved_must_be_zero() {
        for at in [0xc, 0xf, 0x1a, 0x1f, 0x2c, 0x2f, 0x3c, 0x3f] {
            assert_eq!(call(&with(at, &[1])).0, 0x8000_0005, "{at:#x}");
        }
        let mut operation = single(&VTPM_GUID, 0);
        operation[0x54] = 1;
        let services = fake::services();
        let (result, _, _) = call_at(&services, ATTEST_SINGLE_SERVICE, OPERATION_AT, &operation);
        assert_eq!(result, 0x8000_0005);
    }

    #[test]
    fn a_nonce_of_another_length_is_refused() {
        for size in [0_u16, 1, 32, 63, 65, 128, u16::MAX] {
            assert_eq!(call(&with(0x18, &size.to_le_bytes())).0, 0x8000_0005);
        }
    }

    #[test]
    fn addresses_outside_guest_memory_and_unaligned_buffers_are_refused() {
        let end = BASE + 7 * PAGE;
        for at in [0, 0x20, 0x30] {
            for address in [0, BASE + 8, end, end - PAGE * 2 + 1, u64::MAX - 4095] {
                let (result, _, memory) = call(&with(at, &address.to_le_bytes()));
                assert_eq!(result, 0x8000_0003, "{at:#x} {address:#x}");
                assert!(memory.at(REPORT_AT, 6 * 4096).iter().all(|&byte| byte == 0));
            }
        }
        for address in [0, BASE - 1, end - 63, u64::MAX] {
            assert_eq!(call(&with(0x10, &address.to_le_bytes())).0, 0x8000_0003);
        }
        for address in [0, BASE + PAGE - 63, end - 63, u64::MAX - 63] {
            let services = fake::services();
            let (result, _, _) = call_at(&services, ATTEST_SERVICES, address, &operation());
            assert_eq!(result, 0x8000_0003, "{address:#x}");
        }
    }

    #[test]
    fn without_a_report_source_there_is_a_manifest_and_no_report() {
        let services = Services {
            report: Service::absent(),
            ..fake::services()
        };
        let (result, registers, memory) =
            call_at(&services, ATTEST_SERVICES, OPERATION_AT, &operation());
        assert_eq!(result, 0);
        assert_eq!((registers.rdx, registers.r8), (0, 0));
        let manifest = manifest::all(&services).unwrap();
        assert_eq!(memory.at(MANIFEST_AT, manifest.len()), manifest);
        assert!(memory.at(REPORT_AT, 1184).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_report_that_fails_leaves_the_buffers_alone() {
        let services = Services {
            report: Service::new(Box::new(FakeReports { broken: true })),
            ..fake::services()
        };
        let (result, registers, memory) =
            call_at(&services, ATTEST_SERVICES, OPERATION_AT, &operation());
        assert_eq!(result, 0x8000_0006);
        assert_eq!((registers.rcx, registers.r8), (OPERATION_AT, 0));
        assert!(memory.at(REPORT_AT, 6 * 4096).iter().all(|&byte| byte == 0));
    }
}
