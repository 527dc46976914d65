//! Symmetric keys: encryption and HMAC.

use super::{Generator, model::Object, templates::Kind};
use crate::{random::Random, step::Step};

impl Generator {
    pub(super) fn cipher(&mut self, random: &mut Random) -> Step {
        if random.one_in(2) {
            return self.hmac(random);
        }
        let Some(key) = self.object(random, |object| {
            object.kind == Kind::Cipher && !object.public_only
        }) else {
            return self.provide(random, Kind::Cipher);
        };
        let own = key
            .parameters(0)
            .get(4..6)
            .map_or(0x10, |b| u16::from_be_bytes([b[0], b[1]]));
        let mode = match own {
            0x10 => random.pick(&[0x43u16, 0x40, 0x41, 0x42, 0x44]),
            own if random.one_in(2) => own,
            _ => 0x10,
        };
        let mode = if random.one_in(15) {
            random.pick(&[0x43, 0x40, 0x10, 0x3F])
        } else {
            mode
        };
        let used = if mode == 0x10 { own } else { mode };
        let size = if matches!(used, 0x42 | 0x44) && !random.one_in(10) {
            random.pick(&[16, 64, 1024])
        } else {
            random.pick(&[0, 15, 16, 64, 100, 1024])
        };
        let iv = if random.one_in(15) {
            random.pick(&[0, 8, 16])
        } else if used == 0x44 {
            0
        } else {
            16
        };
        let data = random.bytes(size);
        let iv = random.bytes(iv);
        let (decrypt, second) = (random.below(2) as u8, random.one_in(2));
        // A key made inside is another one on each side.
        let differs = key.handle.name[0] != key.handle.name[1];
        let code = if second { 0x193 } else { 0x164 };
        self.with_object(random, key, code, move |_, _, key, auth| {
            let again = key.clone();
            let plain = data.clone();
            let there = crypt(key, auth, second, decrypt, mode, &iv, &data).differing(differs);
            there.then(move |generator, answer| {
                // And back: what was put in must come out on both sides.
                let text = answer.blob(0);
                generator.soon(move |generator, random| {
                    let auth = generator.auth(random, again.handle.handle[0], &again.auth);
                    let back = Step::new(0x193)
                        .handle(again.handle)
                        .auth(auth)
                        .each_blob(&text)
                        .u8(decrypt ^ 1)
                        .u16(mode)
                        .blob(&iv);
                    Some(back.differing(true).expecting(&plain))
                });
            })
        })
    }

    fn hmac(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.object(random, |object| {
            object.kind == Kind::Hmac && !object.public_only
        }) else {
            return self.provide(random, Kind::Hmac);
        };
        let size = random.pick(&[0, 32, 64, 128, 1024]);
        let data = random.bytes(size);
        let alg = own_hash(&key, random);
        let differs = key.handle.name[0] != key.handle.name[1];
        self.with_object(random, key, 0x155, move |_, _, key, auth| {
            Step::new(0x155)
                .handle(key.handle)
                .auth(auth)
                .blob(data)
                .u16(alg)
                .differing(differs)
        })
    }
}

/// The hash of an HMAC key, or one for a key that leaves it open.
pub fn own_hash(key: &Object, random: &mut Random) -> u16 {
    let own = match key.parameters(0) {
        [0, 5, a, b, ..] => u16::from_be_bytes([*a, *b]),
        _ => 0x10,
    };
    if random.one_in(15) {
        random.pick(&[0x0B, 0x10, 0x04, 0x12])
    } else if own == 0x10 {
        random.pick(super::model::HASHES)
    } else if random.one_in(2) {
        own
    } else {
        0x10
    }
}

fn crypt(
    key: Object,
    auth: crate::authorize::Auth,
    second: bool,
    decrypt: u8,
    mode: u16,
    iv: &[u8],
    data: &[u8],
) -> Step {
    let step = Step::new(if second { 0x193 } else { 0x164 })
        .handle(key.handle)
        .auth(auth);
    if second {
        step.blob(data).u8(decrypt).u16(mode).blob(iv)
    } else {
        step.u8(decrypt).u16(mode).blob(iv).blob(data)
    }
}
