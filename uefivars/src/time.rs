//! EFI_TIME (UEFI 2.11, section 8.3), as the time stamp of an authenticated variable.

use zerocopy::byteorder::little_endian::{I16, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A point in time. Of a time stamp everything but date and time of day is zero (UEFI
/// 2.11, section 8.2.1.4).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct EfiTime {
    pub year: U16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pad1: u8,
    nanosecond: U32,
    time_zone: I16,
    daylight: u8,
    pad2: u8,
}

const _: () = assert!(size_of::<EfiTime>() == 16);

impl EfiTime {
    /// The time stamp of a variable that was never written with one.
    pub const ZERO: Self = Self::new(0, 0, 0, 0, 0, 0);

    pub const fn new(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Self {
        Self {
            year: U16::new(year),
            month,
            day,
            hour,
            minute,
            second,
            pad1: 0,
            nanosecond: U32::ZERO,
            time_zone: I16::ZERO,
            daylight: 0,
            pad2: 0,
        }
    }

    /// Whether the fields that a time stamp does not use are zero.
    pub fn is_time_stamp(&self) -> bool {
        self.pad1 == 0
            && self.nanosecond.get() == 0
            && self.time_zone.get() == 0
            && self.daylight == 0
            && self.pad2 == 0
    }

    /// The fields that count, most significant first.
    pub fn order(&self) -> (u16, u8, u8, u8, u8, u8) {
        (
            self.year.get(),
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_is_greater_in_every_field() {
        let times = [
            EfiTime::ZERO,
            EfiTime::new(2025, 12, 31, 23, 59, 59),
            EfiTime::new(2026, 1, 1, 0, 0, 0),
            EfiTime::new(2026, 1, 1, 0, 0, 1),
            EfiTime::new(2026, 1, 1, 0, 1, 0),
            EfiTime::new(2026, 1, 1, 1, 0, 0),
            EfiTime::new(2026, 1, 2, 0, 0, 0),
            EfiTime::new(2026, 2, 1, 0, 0, 0),
        ];
        assert!(
            times
                .windows(2)
                .all(|pair| pair[0].order() < pair[1].order())
        );
    }

    #[test]
    fn a_time_zone_is_no_part_of_a_time_stamp() {
        let mut bytes = [0; 16];
        assert!(EfiTime::read_from_bytes(&bytes).unwrap().is_time_stamp());
        for offset in [7, 8, 11, 12, 13, 14, 15] {
            bytes = [0; 16];
            bytes[offset] = 1;
            assert!(!EfiTime::read_from_bytes(&bytes).unwrap().is_time_stamp());
        }
    }
}
