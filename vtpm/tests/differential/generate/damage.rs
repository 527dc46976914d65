//! What is done to right commands to make them wrong in one place.

use super::model::{NULL, OWNER};
use crate::{
    random::Random,
    step::{Damage, Handle, Step},
};

const STRANGE_HANDLES: &[u32] = &[
    0,
    23,
    24,
    0x0100_0000,
    0x0150_0000,
    0x0200_0000,
    0x0300_0001,
    0x4000_0009,
    0x4000_0010,
    0x8000_0000,
    0x8000_0005,
    0x8100_0000,
    NULL,
    OWNER,
];

/// Numbers that mean something somewhere: algorithms, curves, tags, limits.
const MEANINGS: &[u16] = &[
    0, 1, 3, 4, 5, 6, 8, 0x0A, 0x0B, 0x0D, 0x10, 0x14, 0x16, 0x17, 0x18, 0x1A, 0x1C, 0x20, 0x22,
    0x23, 0x25, 0x40, 0x43, 0x44, 0x80, 0x100, 0x8021, 0x8022, 0x8024, 0xFFFF,
];

fn kind(random: &mut Random, inside: bool) -> Damage {
    match random.below(10) {
        0..5 => Damage::Flip(random.below(200), 1 << random.below(8)),
        5 => Damage::Shorten(1 + random.below(12)),
        6 => Damage::Lengthen(1 + random.below(6)),
        7 if !inside => Damage::Size(random.pick(&[0, 9, 10, 4097, 0xFFFF_FFFF])),
        7.. if inside => Damage::Tag(random.pick(MEANINGS)),
        _ => Damage::Tag(random.pick(&[0x8001, 0x8002, 0x00C1, 0])),
    }
}

pub fn damage(random: &mut Random, step: &mut Step) {
    if step.intact {
        return;
    }
    match random.below(40) {
        0 => step.damage = Some(kind(random, false)),
        1..3 => {
            step.mutation = Some(kind(random, true));
            step.effect = None;
        }
        3 if !step.handles.is_empty() => {
            let index = random.below(step.handles.len());
            step.handles[index] = Handle::fixed(random.pick(STRANGE_HANDLES));
            step.effect = None;
        }
        4 => step.locality = random.pick(&[0, 1, 2, 3, 4]),
        5 if step.auths.len() > 1 => step.auths.swap(0, 1),
        6 if !step.auths.is_empty() && random.one_in(3) => {
            step.auths.pop();
        }
        _ => {}
    }
}
