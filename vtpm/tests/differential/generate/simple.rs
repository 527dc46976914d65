//! Commands that need nothing.

use super::{
    Generator,
    model::{ENDORSEMENT, HASHES, LOCKOUT, NULL, OWNER, PLATFORM},
    templates,
};
use crate::{authorize::Auth, random::Random, step::Step};

/// Codes that no command has, or none here.
const UNKNOWN: &[u32] = &[
    0x11E,
    0x123,
    0x141,
    0x166,
    0x175,
    0x179,
    0x194,
    0x198,
    0x2000_0001,
    0,
];

impl Generator {
    pub(super) fn simple(&mut self, random: &mut Random) -> Step {
        match random.below(15) {
            0 => Step::new(0x143).u8(random.pick(&[0, 1, 2])),
            1 => Step::new(0x17C),
            2 => Step::new(0x17B).u16(random.pick(&[0, 1, 32, 48, 64, 65, 1000])),
            3 => {
                let size = random.pick(&[0, 1, 20, 128, 129]);
                Step::new(0x146).blob(random.bytes(size))
            }
            4 | 5 => {
                let hierarchy = random.pick(&[NULL, OWNER, ENDORSEMENT, PLATFORM, LOCKOUT]);
                let size = random.pick(&[0, 10, 1024, 1025]);
                Step::new(0x17D)
                    .blob(random.bytes(size))
                    .u16(random.pick(HASHES))
                    .u32(hierarchy)
            }
            6 => {
                let kind = templates::kind(random);
                let template = templates::template(random, kind);
                Step::new(0x18A)
                    .u16(template.algorithm)
                    .bytes(template.parameters)
            }
            7 => Step::new(0x142)
                .u32(1)
                .u16(random.pick(&[0x0B, 6, 0x14, 0x23])),
            8 => Step::new(random.pick(UNKNOWN)),
            9 => Step::new(0x144).u16(random.pick(&[0, 1, 2])),
            10 => Step::new(0x12D)
                .fixed(PLATFORM)
                .auth(self.hierarchy_auth(random, PLATFORM))
                .u32(0)
                .u32(0),
            11 => Step::new(0x13F)
                .fixed(PLATFORM)
                .auth(self.hierarchy_auth(random, PLATFORM))
                .u32(random.pick(&[0, 0, 1])),
            12 => Step::new(0x133)
                .fixed(ENDORSEMENT)
                .fixed(NULL)
                .auth(self.hierarchy_auth(random, ENDORSEMENT))
                .auth(Auth::Password(Vec::new()))
                .blob(b"")
                .u16(0x10),
            _ => self.certify_x509(random),
        }
    }
}
