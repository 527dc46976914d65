//! Published vectors for every path.

use vtpm::crypto::{
    CipherMode, Crypto, CryptoError, EccSignature, HashState, HmacState, Native, Point, RsaPadding,
    RsaPrivate, RsaPublic, RsaScheme, hash, hmac, kdfa, kdfe,
};

use crate::{Vector, rng, vectors};

macro_rules! file {
    ($name:literal) => {
        vectors(include_str!(concat!("../vectors/crypto/", $name)))
    };
}

#[test]
fn hashes_are_the_published_ones_whole_and_in_saved_pieces() {
    for vector in file!("hash.txt") {
        let (alg, message, digest) = (vector.hash(), vector.bytes("msg"), vector.bytes("md"));
        assert_eq!(hash(alg, &[&message]), digest);
        let (first, second) = message.split_at(message.len() / 2);
        let mut state = HashState::new(alg);
        state.update(first);
        let mut state = HashState::from_bytes(alg, &state.to_bytes()).unwrap();
        state.update(second);
        assert_eq!(state.finish(), digest);
    }
}

#[test]
fn macs_are_the_published_ones_whole_and_in_saved_pieces() {
    for vector in file!("hmac.txt") {
        let (alg, key, message, mac) = (
            vector.hash(),
            vector.bytes("key"),
            vector.bytes("msg"),
            vector.bytes("mac"),
        );
        // The truncated case of RFC 4231 gives fewer bytes.
        assert_eq!(hmac(alg, &key, &[&message])[..mac.len()], mac);
        let (first, second) = message.split_at(message.len() / 3);
        let mut state = HmacState::new(alg, &key);
        state.update(first);
        let mut state = HmacState::from_bytes(alg, &state.to_bytes()).unwrap();
        state.update(second);
        assert_eq!(state.finish()[..mac.len()], mac);
    }
}

#[test]
fn derived_keys_are_those_of_another_implementation() {
    for vector in file!("kdf.txt") {
        let derive = if vector.text("kdf") == "a" {
            kdfa
        } else {
            kdfe
        };
        let bits = vector.text("bits").parse().unwrap();
        let (key, u, v) = (vector.bytes("key"), vector.bytes("u"), vector.bytes("v"));
        let out = derive(vector.hash(), &key, vector.text("label"), &u, &v, bits);
        assert_eq!(*out, vector.bytes("out"));
    }
}

#[test]
fn block_cipher_modes_are_the_published_ones_whole_and_in_pieces() {
    for vector in file!("aes.txt") {
        let mode = match vector.text("mode") {
            "ctr" => CipherMode::Ctr,
            "ofb" => CipherMode::Ofb,
            "cbc" => CipherMode::Cbc,
            "cfb" => CipherMode::Cfb,
            "ecb" => CipherMode::Ecb,
            other => panic!("mode {other}"),
        };
        let (key, plain, cipher) = (
            vector.bytes("key"),
            vector.bytes("plain"),
            vector.bytes("cipher"),
        );
        let encrypt = vector.text("op") == "encrypt";
        let (from, to) = if encrypt {
            (plain, cipher)
        } else {
            (cipher, plain)
        };
        for piece in [from.len(), 16] {
            let mut iv = vector.bytes("iv");
            let mut data = from.clone();
            for part in data.chunks_mut(piece) {
                Native.aes(&key, mode, encrypt, &mut iv, part).unwrap();
            }
            assert_eq!(data, to);
        }
    }
}

fn exponent(vector: &Vector) -> u32 {
    u32::from_str_radix(vector.text("e"), 16).unwrap()
}

#[test]
fn rsa_signatures_verify_as_published() {
    for vector in file!("rsa_verify.txt") {
        let scheme = match vector.text("scheme") {
            "rsassa" => RsaScheme::Rsassa(vector.hash()),
            _ => RsaScheme::Pss(vector.hash()),
        };
        let n = vector.bytes("n");
        let key = RsaPublic {
            n: &n,
            e: exponent(&vector),
        };
        let result = Native.rsa_verify(&key, scheme, &vector.bytes("digest"), &vector.bytes("sig"));
        let expected = if vector.text("ok") == "P" {
            Ok(())
        } else {
            Err(CryptoError::Signature)
        };
        assert_eq!(result, expected);
    }
}

#[test]
fn rsa_pss_signs_as_published_when_the_salt_is_given() {
    for vector in file!("rsa_pss_sign.txt") {
        let (n, p, salt) = (vector.bytes("n"), vector.bytes("p"), vector.bytes("salt"));
        let key = RsaPrivate {
            n: &n,
            e: exponent(&vector),
            p: &p,
        };
        let mut random = rng("blinding");
        let mut first = Some(salt);
        let mut source = |out: &mut [u8]| -> Result<(), ()> {
            match first.take() {
                Some(salt) => out.copy_from_slice(&salt),
                None => random.generate(out),
            }
            Ok(())
        };
        let scheme = RsaScheme::Pss(vtpm::crypto::HashAlg::Sha1);
        let signature = Native
            .rsa_sign(&key, scheme, &vector.bytes("digest"), &mut source)
            .unwrap();
        assert_eq!(signature, vector.bytes("sig"));
    }
}

#[test]
fn rsa_oaep_is_the_published_one_in_both_directions() {
    for vector in file!("rsa_oaep.txt") {
        let (n, p, seed) = (vector.bytes("n"), vector.bytes("p"), vector.bytes("seed"));
        let key = RsaPrivate {
            n: &n,
            e: exponent(&vector),
            p: &p,
        };
        let padding = RsaPadding::Oaep {
            hash: vtpm::crypto::HashAlg::Sha1,
            label: b"",
        };
        let mut source = |out: &mut [u8]| -> Result<(), ()> {
            out.copy_from_slice(&seed);
            Ok(())
        };
        let (message, cipher) = (vector.bytes("msg"), vector.bytes("cipher"));
        assert_eq!(
            Native
                .rsa_encrypt(&key.public(), padding, &message, &mut source)
                .unwrap(),
            cipher
        );
        assert_eq!(
            *Native
                .rsa_decrypt(&key, padding, &cipher, &mut rng("oaep"))
                .unwrap(),
            message
        );
    }
}

fn point(vector: &Vector) -> Point {
    Point {
        x: vector.bytes("x"),
        y: vector.bytes("y"),
    }
}

#[test]
fn ecc_public_keys_are_the_published_ones() {
    for vector in file!("ecc_keypair.txt") {
        assert_eq!(
            Native
                .ecc_public(vector.curve(), &vector.bytes("d"))
                .unwrap(),
            point(&vector)
        );
    }
}

#[test]
fn ecdh_gives_the_published_secrets() {
    for vector in file!("ecdh.txt") {
        let z = Native
            .ecc_multiply(vector.curve(), &vector.bytes("d"), &point(&vector))
            .unwrap();
        assert_eq!(z.x, vector.bytes("z"));
    }
}

#[test]
fn ecdsa_signatures_verify_as_published() {
    for vector in file!("ecdsa_verify.txt") {
        let signature = EccSignature {
            r: vector.bytes("r"),
            s: vector.bytes("s"),
        };
        let result = Native.ecdsa_verify(
            vector.curve(),
            &point(&vector),
            &vector.bytes("digest"),
            &signature,
        );
        let expected = if vector.text("ok") == "P" {
            Ok(())
        } else {
            Err(CryptoError::Signature)
        };
        // Some of the refused ones have a point that is not on the curve.
        assert!(result == expected || (expected.is_err() && result == Err(CryptoError::Value)));
    }
}
