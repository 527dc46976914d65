//! TPM2_GetCapability.

use super::Generator;
use crate::{random::Random, step::Step};

impl Generator {
    pub(super) fn capability(&mut self, random: &mut Random) -> Step {
        let kind = random.pick(&[0u32, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 0x100]);
        let first = match kind {
            1 => random.pick(&[
                0x0100_0000u32,
                0x0150_0003,
                0x0200_0000,
                0x0300_0000,
                0x4000_0000,
                0x4000_000B,
                0x8000_0000,
                0x8000_0001,
                0x8100_0000,
                0x8180_0000,
                0,
            ]),
            2..=4 => random.pick(&[0, 0x11F, 0x150, 0x197, 0x198]),
            6 => random.pick(&[0x100u32, 0x110, 0x200, 0x210, 0x300]),
            7 => random.below(0x16) as u32,
            9 => random.pick(&[0x4000_0000, 0x4000_0001, 0x4000_000B, 0]),
            _ => random.below(0x60) as u32,
        };
        Step::new(0x17A)
            .u32(kind)
            .u32(first)
            .u32(random.pick(&[0, 1, 5, 100, 0xFFFF_FFFF]))
    }
}
