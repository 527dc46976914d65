//! Platform configuration registers.

use vtpm::crypto::HashAlg;

use super::{
    Generator,
    model::{HASHES, NULL, PLATFORM},
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{Before, Step},
};

/// Adds a TPML_PCR_SELECTION.
pub fn selection(step: Step, random: &mut Random) -> Step {
    if random.one_in(2) {
        return step.u32(0);
    }
    let count = if random.one_in(60) {
        17
    } else {
        1 + random.below(2)
    };
    let mut step = step.u32(count as u32);
    for _ in 0..count {
        let alg = if random.one_in(60) {
            0x10
        } else {
            random.pick(HASHES)
        };
        let size = if random.one_in(60) {
            random.pick(&[0, 2, 4, 5])
        } else {
            3
        };
        let mut bits = random.bytes(size);
        if random.one_in(2) {
            bits.iter_mut().for_each(|byte| *byte &= 0x11);
        }
        step = step.u16(alg).u8(size as u8).bytes(bits);
    }
    step
}

impl Generator {
    pub(super) fn pcr(&mut self, random: &mut Random) -> Step {
        let pcr = if random.one_in(12) {
            random.pick(&[24u32, NULL])
        } else {
            random.pick(&[0, 1, 7, 10, 16, 16, 17, 18, 19, 20, 21, 22, 23, 23])
        };
        let locality = match pcr {
            17..=22 if !random.one_in(4) => random.pick(&[2, 3, 4]),
            _ => 0,
        };
        let auth = self.auth(random, pcr, b"");
        match random.below(20) {
            0..6 => selection(Step::new(0x17E), random),
            6..11 => {
                let mut step = Step::new(0x182).fixed(pcr).auth(auth).at(locality);
                let count = 1 + random.below(2);
                step = step.u32(count as u32);
                for _ in 0..count {
                    let alg = random.pick(HASHES);
                    let size = HashAlg::from_id(alg).map_or(32, HashAlg::size);
                    step = step.u16(alg).bytes(random.bytes(size));
                }
                step
            }
            11..14 => {
                let size = random.pick(&[0, 20, 1024]);
                Step::new(0x13C)
                    .fixed(pcr)
                    .auth(auth)
                    .at(locality)
                    .blob(random.bytes(size))
            }
            14..17 => Step::new(0x13D).fixed(pcr).auth(auth).at(locality),
            17 => {
                // A dynamic launch; the command after it looks at the result.
                let size = random.pick(&[0, 30, 200]);
                let mut step = Step::new(0x17E)
                    .u32(1)
                    .u16(random.pick(HASHES))
                    .u8(3)
                    .bytes([0, 0, 0x02]);
                step.before = Before::Measure(random.bytes(size));
                step
            }
            18 => {
                let code = random.pick(&[0x12Cu32, 0x183]);
                if code == 0x183 {
                    let pcr = if random.one_in(5) {
                        pcr
                    } else {
                        random.pick(&[20, 21, 22])
                    };
                    return Step::new(code)
                        .fixed(pcr)
                        .auth(Auth::Password(Vec::new()))
                        .blob(b"");
                }
                Step::new(code)
                    .fixed(PLATFORM)
                    .auth(self.hierarchy_auth(random, PLATFORM))
                    .bytes(random.pick(&[
                        &[0u8, 0, 0, 0x10][..],
                        &[0, 0, 0, 0x10],
                        &[0, 2, 1, 1, 0, 0x0B],
                    ]))
                    .u32(random.pick(&[0, 20, 20, 21, 22]))
            }
            _ => self.allocate(random),
        }
    }

    /// TPM2_PCR_Allocate: counts from the next reset on.
    fn allocate(&mut self, random: &mut Random) -> Step {
        let mut step = Step::new(0x12B)
            .fixed(PLATFORM)
            .auth(self.hierarchy_auth(random, PLATFORM));
        let count = 1 + random.below(4);
        step = step.u32(count as u32);
        step.intact = true;
        for alg in [0x0Bu16, 0x04, 0x0C, 0x0D].into_iter().take(count) {
            let bits = random.pick(&[[0xFF; 3], [0xFF; 3], [0; 3]]);
            step = step.u16(alg).u8(3).bytes(bits);
        }
        // With a reset at once: the reference forgets the new allocation when a clear follows.
        step.then(|generator, _| {
            generator.plans.clear();
            generator.in_a_row = 2;
            generator.plan(|_, _| Some(Step::new(0x145).u16(0)));
            generator.plan(|generator, random| Some(generator.startup(random, false)));
        })
    }
}
