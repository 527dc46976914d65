//! RSA encryption and decryption.

use super::{Generator, templates::Kind};
use crate::{
    random::Random,
    step::{Step, split_blob},
};

impl Generator {
    pub(super) fn rsa(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.object(random, |object| object.kind == Kind::RsaDecrypt) else {
            return self.provide(random, Kind::RsaDecrypt);
        };
        let bytes = split_blob(key.unique(0)).map_or(256, |(modulus, _)| modulus.len());
        let own = key
            .parameters(0)
            .get(2..4)
            .map_or(0x10, |b| u16::from_be_bytes([b[0], b[1]]));
        let mut scheme: Vec<u8> = match own {
            0x10 => random
                .pick(&[
                    &[0, 0x10][..],
                    &[0, 0x15],
                    &[0, 0x17, 0, 0x0B],
                    &[0, 0x17, 0, 4],
                ])
                .to_vec(),
            _ if random.one_in(2) => vec![0, 0x10],
            0x15 => vec![0, 0x15],
            _ => key.parameters(0).get(2..6).unwrap_or_default().to_vec(),
        };
        if random.one_in(15) {
            scheme = random
                .pick(&[
                    &[0, 0x14, 0, 0x0B][..],
                    &[0, 0x17, 0, 0x0C],
                    &[0, 0x15],
                    &[0, 0x10],
                ])
                .to_vec();
        }
        let plain = own == 0x10 && scheme == [0, 0x10];
        let size = if random.one_in(12) {
            random.pick(&[0, 1, 20, 200, 256, 257])
        } else if plain {
            bytes
        } else {
            random.pick(&[1, 16, 20, 32])
        };
        let mut message = random.bytes(size);
        if plain && let Some(first) = message.first_mut() {
            *first &= 0x7F;
        }
        let label = if random.one_in(8) {
            random.pick(&[&b"label"[..], b"la\0bel\0"])
        } else {
            random.pick(&[&b""[..], b"label\0"])
        };
        let step = Step::new(0x174)
            .handle(key.handle.clone())
            .blob(&message)
            .bytes(&scheme)
            .blob(label);
        if key.public_only {
            return step;
        }
        step.then(move |generator, answer| {
            let text = answer.blob(0);
            generator.soon(move |generator, random| {
                // What the other side encrypted, if it is the same key.
                let mut text = text;
                if key.handle.name[0] == key.handle.name[1] && random.one_in(2) {
                    text.reverse();
                }
                let broken = random.one_in(6);
                Some(
                    generator.with_object(random, key, 0x159, move |_, _, key, auth| {
                        let step = Step::new(0x159).handle(key.handle).auth(auth);
                        let step = if broken {
                            step.blob(vec![1; bytes])
                        } else {
                            step.each_blob(&text)
                        };
                        let step = step.bytes(scheme).blob(label);
                        if broken {
                            step
                        } else {
                            step.expecting(&message)
                        }
                    }),
                )
            });
        })
    }
}
