//! A server that does its half of the exchange: checks the binding, encrypts the
//! secret to the key in the request.

use crate::proxy::{Answer, Proxy};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::KwAes256;
use libaproxy::frame;
use libaproxy::v0_1::*;
use libaproxy::{Base64, Version};
use p521::elliptic_curve::sec1::ToSec1Point;
use p521::{PublicKey, SecretKey};
use sha2::{Digest, Sha256, Sha512};

pub const NONCE: [u8; 32] = [0xc4; 32];

/// What the SVSM is expected to answer to an honest negotiation.
pub fn negotiation() -> NegotiationResponse {
    NegotiationResponse {
        challenge: NONCE.into(),
        params: vec![Param::EcPublicKeyBytes, Param::Challenge],
        version: None,
    }
}

/// A P-521 point as the wire has it.
pub fn point(key: &PublicKey) -> EcPublicKey {
    let point = key.to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(66);
    EcPublicKey {
        x: x.into(),
        y: y.into(),
    }
}

/// Releases `secret` to whoever sent `request`.
pub fn release(request: &[u8], secret: &[u8]) -> AttestationResponse {
    let request: AttestationRequest = frame::decode(request).unwrap();
    check_binding(&request);
    let (x, y) = (&request.key.x, &request.key.y);
    let recipient = PublicKey::from_sec1_bytes(&[&[4], &x[..], &y[..]].concat()).unwrap();

    let ephemeral = SecretKey::from_slice(&[0x77; 65]).unwrap();
    let z = ephemeral.diffie_hellman(&recipient);
    let mut info = vec![0, 0, 0, 1];
    info.extend_from_slice(z.raw_secret_bytes());
    info.extend_from_slice(b"\0\0\0\x0eECDH-ES+A256KW\0\0\0\0\0\0\0\0\0\0\x01\0");
    let kek: [u8; 32] = Sha256::digest(info).into();
    let (cek, iv, aad) = ([0x3c; 32], [0x1f; 12], b"eyJoZWFkZXIiOjB9");
    let mut wrapped = [0; 40];
    KwAes256::new(&kek.into())
        .wrap_key(&cek, &mut wrapped)
        .unwrap();
    let mut text = secret.to_vec();
    let tag = Aes256Gcm::new(&cek.into())
        .encrypt_inout_detached(&iv.into(), aad, text.as_mut_slice().into())
        .unwrap();

    AttestationResponse {
        success: true,
        secret: Some(text.into()),
        decryption: Some(Decryption {
            epk: point(&ephemeral.public_key()),
            wrapped_cek: wrapped.into(),
            aad: (*aad).into(),
            iv: iv.into(),
            tag: Base64(tag.to_vec()),
        }),
        token: Some(Token::Jwt("a.b.c".into())),
        error: None,
    }
}

fn check_binding(request: &AttestationRequest) {
    assert_eq!(request.tee, request.evidence.tee());
    assert_eq!(request.challenge[..], NONCE);
    let Evidence::Sample { report_data, .. } = &request.evidence else {
        panic!("not sample evidence");
    };
    let bound = [&request.key.x[..], &request.key.y[..], &NONCE].concat();
    assert_eq!(report_data[..], Sha512::digest(bound)[..]);
}

/// A proxy in front of a server whose every answer passes through one of the two
/// functions first.
pub fn tampering<'a>(
    secret: &'a [u8],
    negotiated: impl FnOnce(&mut NegotiationResponse) + 'a,
    released: impl FnOnce(&mut AttestationResponse) + 'a,
) -> Proxy<'a> {
    let (mut negotiated, mut released) = (Some(negotiated), Some(released));
    let first: Answer<'a> = Box::new(move |request| {
        let request: NegotiationRequest = frame::decode(request).unwrap();
        // The offer of 0.2.0, which this server does not understand.
        assert_eq!(
            (request.version, request.tee),
            (Version::V0_2_0, Tee::Sample)
        );
        let mut answer = negotiation();
        negotiated.take().expect("asked once")(&mut answer);
        frame::encode(&answer).unwrap()
    });
    let second: Answer<'a> = Box::new(move |request| {
        let mut answer = release(request, secret);
        released.take().expect("asked once")(&mut answer);
        frame::encode(&answer).unwrap()
    });
    Proxy::new([first, second])
}

/// A proxy in front of a server, both honest.
pub fn honest(secret: &[u8]) -> Proxy<'_> {
    tampering(secret, |_| {}, |_| {})
}

/// A proxy that negotiates honestly and then says `json`.
pub fn deciding<'a>(json: &str) -> Proxy<'a> {
    Proxy::saying([
        frame::encode(&negotiation()).unwrap(),
        framed(json.as_bytes()),
    ])
}

/// Any bytes as a message.
pub fn framed(json: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json].concat()
}
