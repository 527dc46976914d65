//! A server of version 0.2.0 that does its half of the exchange, and a proxy in front of
//! it that may change what passes.

use crate::proxy::{Answer, Proxy};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::KwAes256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libaproxy::frame;
use libaproxy::v0_2::*;
use p384::ecdsa::signature::hazmat::PrehashSigner;
use p384::ecdsa::{Signature, SigningKey};
use p384::elliptic_curve::sec1::ToSec1Point;
use p384::{PublicKey as Point, SecretKey};
use sha2::{Digest, Sha256, Sha384};
use svsm::attest::ServerKey;

pub const SECRET: [u8; 32] = *b"a secret of just the right size.";
pub const SESSION_KEY: [u8; 32] = [0x5e; 32];

/// What the server answers to the offer.
pub fn negotiation() -> NegotiationResponse {
    NegotiationResponse {
        version: libaproxy::Version::V0_2_0,
        nonce: Nonce::new("bm9uY2U=").unwrap(),
        binding: Binding::KbsRuntimeDataSha384,
        curves: Curves::new([Curve::P521, Curve::P384]),
    }
}

/// The server's static key.
pub fn signer(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 48]).unwrap()
}

/// The same as the SVSM has it pinned.
pub fn pin(seed: u8) -> ServerKey {
    ServerKey::from_der(&der(&signer(seed))).unwrap()
}

fn der(key: &SigningKey) -> Vec<u8> {
    let head = hex::decode("3076301006072a8648ce3d020106052b81040022036200").unwrap();
    [
        &head[..],
        key.verifying_key().to_sec1_point(false).as_bytes(),
    ]
    .concat()
}

fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign_prehash(&Sha384::digest(message)).unwrap();
    signature.to_bytes().to_vec()
}

/// A compact JWS with ES384.
pub fn jws(key: &SigningKey, header: &str, payload: &str) -> String {
    let head = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = head.join(".");
    let signature = URL_SAFE_NO_PAD.encode(sign(key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A secret that its owner signed.
pub fn signed_secret(key: &SigningKey, secret: &[u8]) -> String {
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(48);
    let [x, y] = [x, y].map(|c| URL_SAFE_NO_PAD.encode(c));
    let header = format!(
        r#"{{"alg":"ES384","typ":"svsm-secret+jws","jwk":{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}}}"#
    );
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let payload = format!(r#"{{"secret":"{secret}","volume":"a/b/c","generation":2}}"#);
    jws(key, &header, &payload)
}

/// The plaintext of an authenticated answer.
pub fn release() -> Release {
    Release {
        secret: SECRET.to_vec().into(),
        volume: VolumeName::new("default/sample/test").unwrap(),
        generation: 1,
        state: VolumeState::New,
        identity: None,
        epoch: 4,
        counter: 77,
        ledger: Ledger::Off,
        session_key: SessionKey::new(SESSION_KEY),
    }
}

/// Encrypts `plaintext` to a P-384 key.
pub fn encrypt(key: &PublicKey, plaintext: &[u8]) -> Jwe {
    let recipient = Point::from_sec1_bytes(&[&[4], &key.x[..], &key.y[..]].concat()).unwrap();
    let ephemeral = SecretKey::from_slice(&[0x77; 48]).unwrap();
    let z = ephemeral.diffie_hellman(&recipient);
    let mut info = vec![0, 0, 0, 1];
    info.extend_from_slice(z.raw_secret_bytes());
    info.extend_from_slice(b"\0\0\0\x0eECDH-ES+A256KW\0\0\0\0\0\0\0\0\0\0\x01\0");
    let kek: [u8; 32] = Sha256::digest(info).into();
    let (cek, iv) = ([0x3c; 32], [0x1f; 12]);
    let mut wrapped = [0; 40];
    KwAes256::new(&kek.into())
        .wrap_key(&cek, &mut wrapped)
        .unwrap();
    let point = ephemeral.public_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(48);
    let [x, y] = [x, y].map(|c| URL_SAFE_NO_PAD.encode(c));
    let protected = URL_SAFE_NO_PAD.encode(format!(
        r#"{{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}}}"#
    ));
    let mut text = plaintext.to_vec();
    let tag = Aes256Gcm::new(&cek.into())
        .encrypt_inout_detached(&iv.into(), protected.as_bytes(), text.as_mut_slice().into())
        .unwrap();
    Jwe {
        protected,
        encrypted_key: URL_SAFE_NO_PAD.encode(wrapped),
        iv: URL_SAFE_NO_PAD.encode(iv),
        ciphertext: URL_SAFE_NO_PAD.encode(text),
        tag: URL_SAFE_NO_PAD.encode(tag),
    }
}

/// A token of the server about the exchange of `request`.
pub fn token(key: &SigningKey, request: &AttestationRequest) -> Token {
    let [x, y] = [&request.key.x, &request.key.y].map(|c| URL_SAFE_NO_PAD.encode(c));
    let (nonce, crv) = (&request.nonce, request.key.crv);
    let claims =
        format!(r#"{{"nonce":"{nonce}","tee-pubkey":{{"crv":"{crv}","x":"{x}","y":"{y}"}}}}"#);
    Token::Jwt(jws(key, r#"{"alg":"ES384","typ":"JWT"}"#, &claims))
}

/// The server's signature over the exchange.
pub fn authentication(
    key: &SigningKey,
    request: &AttestationRequest,
    jwe: &Jwe,
    volume: &VolumeName,
) -> Authentication {
    let mut evidence = Sha384::new();
    evidence_digest_input(&request.evidence, |bytes| evidence.update(bytes));
    let mut transcript = Vec::new();
    Transcript {
        tee: request.tee,
        nonce: &request.nonce,
        key: &request.key,
        evidence_digest: &evidence.finalize().into(),
        volume,
        jwe: &jwe.parts().unwrap(),
    }
    .feed(|bytes| transcript.extend_from_slice(bytes));
    Authentication {
        key: der(key).into(),
        signature: sign(key, &transcript).into(),
    }
}

/// Releases `release` to whoever sent `request`, after checking the binding.
pub fn answer(
    key: &SigningKey,
    request: &AttestationRequest,
    release: &Release,
) -> AttestationResponse {
    check_binding(request);
    let jwe = encrypt(&request.key, &release.to_json().unwrap());
    AttestationResponse {
        success: true,
        authentication: Some(authentication(key, request, &jwe, &release.volume)),
        jwe: Some(jwe),
        token: Some(token(key, request)),
        session: true,
        error: None,
    }
}

fn check_binding(request: &AttestationRequest) {
    assert_eq!(request.tee, request.evidence.tee());
    assert_eq!(request.nonce, negotiation().nonce);
    assert_eq!(request.key.crv, Curve::P384, "the preferred curve");
    let Evidence::Sample { report_data, .. } = &request.evidence else {
        panic!("not sample evidence");
    };
    let digest = Sha384::digest(runtime_data(&request.nonce, &request.key));
    assert_eq!(report_data[..], digest[..]);
}

/// An honest server with key 1 that releases `release`, behind a proxy that changes its
/// answers with `negotiated` and `decided`; the latter sees the request too.
pub fn changing<'a>(
    release: Release,
    negotiated: impl FnOnce(&mut NegotiationResponse) + 'a,
    decided: impl FnOnce(&AttestationRequest, &mut AttestationResponse) + 'a,
) -> Proxy<'a> {
    let (mut negotiated, mut decided) = (Some(negotiated), Some(decided));
    let first: Answer<'a> = Box::new(move |json| {
        let request: NegotiationRequest = frame::decode(json).unwrap();
        assert_eq!(request.version, libaproxy::Version::V0_2_0);
        let mut answer = negotiation();
        negotiated.take().expect("asked once")(&mut answer);
        frame::encode(&answer).unwrap()
    });
    let second: Answer<'a> = Box::new(move |json| {
        let request: AttestationRequest = frame::decode(json).unwrap();
        let mut answer = self::answer(&signer(1), &request, &release);
        decided.take().expect("asked once")(&request, &mut answer);
        frame::encode(&answer).unwrap()
    });
    Proxy::new([first, second])
}

/// The same without the negotiation.
pub fn deciding<'a>(
    decided: impl FnOnce(&AttestationRequest, &mut AttestationResponse) + 'a,
) -> Proxy<'a> {
    changing(release(), |_| {}, decided)
}

/// An honest server behind an honest proxy.
pub fn honest<'a>() -> Proxy<'a> {
    deciding(|_, _| {})
}
