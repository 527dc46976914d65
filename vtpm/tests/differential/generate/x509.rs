//! TPM2_CertifyX509: partial certificates (Part 3, 18.8).

use super::{
    Generator,
    model::{Object, SIGN},
    sign::scheme_for,
    templates::Kind,
};
use crate::{
    random::Random,
    step::{ENGINE, Step},
};

/// Tag, length, contents: short ones.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    match contents.len() {
        size @ 0..0x80 => [&[tag, size as u8][..], contents].concat(),
        size => [&[tag, 0x81, size as u8][..], contents].concat(),
    }
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    der(0x30, &[der(0x06, oid), der(0x04, value)].concat())
}

/// Issuer, validity, subject and extensions.
fn partial(random: &mut Random, object: &Object) -> Vec<u8> {
    let name = |text: &[u8]| {
        let attribute = [der(0x06, &[0x55, 4, 3]), der(0x0C, text)].concat();
        der(0x30, &der(0x31, &der(0x30, &attribute)))
    };
    let validity = der(
        0x30,
        &[der(0x17, b"260101000000Z"), der(0x17, b"360101000000Z")].concat(),
    );
    // digitalSignature; or what the object cannot do.
    let usage = if random.one_in(10) {
        random.next() as u8
    } else {
        0x80
    };
    let mut extensions = extension(&[0x55, 0x1D, 0x0F], &der(0x03, &[0, usage]));
    if random.one_in(3) {
        let mut attributes = object.attributes();
        if random.one_in(5) {
            attributes ^= 1;
        }
        let bits = [&[0][..], &attributes.to_be_bytes()].concat();
        extensions.extend(extension(
            &[0x67, 0x81, 0x05, 0x0A, 1, 1, 1],
            &der(0x03, &bits),
        ));
    }
    if random.one_in(12) {
        extensions.clear();
    }
    let extensions = der(0xA3, &der(0x30, &extensions));
    der(
        0x30,
        &[name(b"issuer"), validity, name(b"subject"), extensions].concat(),
    )
}

impl Generator {
    pub(super) fn certify_x509(&mut self, random: &mut Random) -> Step {
        let signs = |object: &Object| {
            object.has(SIGN) && !object.public_only && matches!(object.algorithm(), 1 | 0x23)
        };
        let (Some(object), Some(key)) = (
            self.object(random, |object| signs(object) && object.has(1 << 19)),
            self.object(random, signs),
        ) else {
            return self.provide(random, Kind::Signing);
        };
        let partial = partial(random, &object);
        self.with_object(
            random,
            object,
            0x197,
            move |generator, random, object, auth| {
                let scheme = scheme_for(random, &key);
                Step::new(0x197)
                    .handle(object.handle)
                    .handle(key.handle.clone())
                    .auth(auth)
                    .auth(generator.auth(random, key.handle.handle[ENGINE], &key.auth))
                    .blob(b"")
                    .bytes(scheme)
                    .blob(partial)
            },
        )
    }
}
