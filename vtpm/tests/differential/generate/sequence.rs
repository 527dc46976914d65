//! Hash, HMAC and event sequences.

use super::{
    Generator,
    cipher::own_hash,
    model::{HASHES, NULL, OWNER, PASSWORDS, PLATFORM, Sequence},
    templates::Kind,
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, Step},
};

impl Generator {
    fn begin(&mut self, random: &mut Random) -> Step {
        let auth = random.pick(PASSWORDS).to_vec();
        let hmac = if random.one_in(3) {
            self.object(random, |object| {
                object.kind == Kind::Hmac && !object.public_only
            })
        } else {
            None
        };
        if let Some(key) = hmac {
            let differs = key.handle.name[0] != key.handle.name[1];
            let alg = own_hash(&key, random);
            return self.with_object(random, key, 0x15B, move |_, _, key, by| {
                Step::new(0x15B)
                    .handle(key.handle)
                    .auth(by)
                    .blob(&auth)
                    .u16(alg)
                    .then(move |generator, answer| {
                        generator.sequences.push(Sequence {
                            handle: answer.handle,
                            auth,
                            event: false,
                            differs,
                        });
                    })
            });
        }
        let alg = if random.one_in(3) {
            0x10
        } else {
            random.pick(HASHES)
        };
        let event = alg == 0x10;
        Step::new(0x186)
            .blob(&auth)
            .u16(alg)
            .then(move |generator, answer| {
                generator.sequences.push(Sequence {
                    handle: answer.handle,
                    auth,
                    event,
                    differs: false,
                });
            })
    }

    pub(super) fn sequence(&mut self, random: &mut Random) -> Step {
        let Some(sequence) = random.choose(&self.sequences).cloned() else {
            return self.begin(random);
        };
        let auth = self.auth(random, sequence.handle[ENGINE], &sequence.auth);
        let size = random.pick(&[0, 20, 64, 128, 1024]);
        let data = random.bytes(size);
        if random.one_in(2) {
            return Step::new(0x15C)
                .handle(sequence.as_handle())
                .auth(auth)
                .blob(data);
        }
        let handle = sequence.handle;
        let step = if sequence.event != random.one_in(12) {
            let pcr = random.pick(&[16, 0, 10, NULL]);
            Step::new(0x185)
                .fixed(pcr)
                .handle(sequence.as_handle())
                .auth(Auth::Password(Vec::new()))
                .auth(auth)
                .blob(data)
        } else {
            Step::new(0x13E)
                .handle(sequence.as_handle())
                .auth(auth)
                .blob(data)
                .u32(random.pick(&[NULL, OWNER, PLATFORM]))
        };
        step.differing(sequence.differs)
            .then(move |generator, _| generator.forget(handle))
    }
}
