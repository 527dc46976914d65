//! The core protocol (58019, chapter 6), as far as it is about no SNP guest.
//!
//! What manages pages, CPUs and the calling area of an SNP guest comes with that platform;
//! until then those calls are unsupported, and so is depositing memory, for which the SVSM
//! has no use: its memory is fixed.

use super::{CallError, Registers, supports};
use crate::services::Services;

const QUERY_PROTOCOL: u32 = 6;

/// The version of every protocol here; it is lowest and highest one.
const VERSION: u64 = 1;

pub(super) fn serve(
    services: &Services,
    call: u32,
    registers: &mut Registers,
) -> Result<(), CallError> {
    match call {
        QUERY_PROTOCOL => {
            registers.rcx = query_protocol(services, registers.rcx);
            Ok(())
        }
        _ => Err(CallError::UnsupportedCall),
    }
}

/// Highest and lowest version of the protocol asked for, or 0 when it is not there in the
/// version asked for.
fn query_protocol(services: &Services, asked: u64) -> u64 {
    let protocol = (asked >> 32) as u32;
    let version = asked & u64::from(u32::MAX);
    if supports(services, protocol) && version == VERSION {
        VERSION << 32 | VERSION
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::fake;

    #[test]
    fn protocols_that_are_there_have_version_one() {
        let all = fake::services();
        let none = Services::default();
        let query = |services, protocol: u64, version: u64| {
            let mut registers = Registers {
                rcx: protocol << 32 | version,
                ..Registers::default()
            };
            serve(services, QUERY_PROTOCOL, &mut registers).unwrap();
            registers.rcx
        };
        for protocol in [0, 1, 2, 4] {
            assert_eq!(query(&all, protocol, 1), 0x1_0000_0001);
            assert_eq!(query(&all, protocol, 0), 0);
            assert_eq!(query(&all, protocol, 2), 0);
        }
        for protocol in [3, 5, 0xffff_ffff] {
            assert_eq!(query(&all, protocol, 1), 0);
        }
        assert_eq!(query(&none, 1, 1), 0x1_0000_0001);
        assert_eq!(query(&none, 2, 1), 0);
        assert_eq!(query(&none, 4, 1), 0);
    }
}
