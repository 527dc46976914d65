//! Properties that no published vector states.

use vtpm::crypto::{
    CipherMode, Crypto, CryptoError, Curve, EccSignature, HashAlg, HashState, HmacState, Native,
    Point, RsaPadding, RsaPrivate, RsaPublic, RsaScheme, ct_eq, hash, kdfa,
};

use crate::rng;

#[test]
fn rsa_signatures_and_messages_survive_the_round_trip() {
    let mut rng = rng("rsa");
    for bits in [1024, 2048, 3072] {
        let (n, p) = Native.rsa_generate(bits, 65537, &mut rng).unwrap();
        assert_eq!(n.len() * 8, usize::from(bits));
        let key = RsaPrivate {
            n: &n,
            e: 65537,
            p: &p,
        };
        Native.rsa_check(&key).unwrap();
        for alg in HashAlg::ALL.iter().copied() {
            let digest = hash(alg, &[b"message"]);
            for scheme in [RsaScheme::Rsassa(alg), RsaScheme::Pss(alg)] {
                let mut signature = Native.rsa_sign(&key, scheme, &digest, &mut rng).unwrap();
                Native
                    .rsa_verify(&key.public(), scheme, &digest, &signature)
                    .unwrap();
                signature[20] ^= 1;
                let refused = Native.rsa_verify(&key.public(), scheme, &digest, &signature);
                assert_eq!(refused, Err(CryptoError::Signature));
            }
            let oaep = RsaPadding::Oaep {
                hash: alg,
                label: b"DUPLICATE\0",
            };
            for padding in [RsaPadding::Rsaes, oaep] {
                if bits == 1024 && alg == HashAlg::Sha512 {
                    continue; // no room for two digests
                }
                for data in [&b""[..], b"\0", b"\x01\x00\x02", b"fourteen bytes"] {
                    let data = if bits == 1024 && alg == HashAlg::Sha384 {
                        &data[..data.len().min(3)]
                    } else {
                        data
                    };
                    let cipher = Native
                        .rsa_encrypt(&key.public(), padding, data, &mut rng)
                        .unwrap();
                    assert_eq!(
                        *Native
                            .rsa_decrypt(&key, padding, &cipher, &mut rng)
                            .unwrap(),
                        data
                    );
                    let mut damaged = cipher.clone();
                    damaged[100] ^= 1;
                    assert_ne!(
                        Native.rsa_decrypt(&key, padding, &damaged, &mut rng).ok(),
                        Some(data.to_vec().into())
                    );
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_rsa_key() {
    let make = |label| Native.rsa_generate(1024, 65537, &mut rng(label)).unwrap();
    assert_eq!(make("one"), make("one"));
    assert_ne!(make("one"), make("two"));
}

#[test]
fn rsa_keys_that_do_not_fit_are_refused() {
    let mut rng = rng("bad keys");
    let (n, p) = Native.rsa_generate(1024, 65537, &mut rng).unwrap();
    let (_, other) = Native.rsa_generate(1024, 65537, &mut rng).unwrap();
    let check = |n: &[u8], e, p: &[u8]| Native.rsa_check(&RsaPrivate { n, e, p });
    assert_eq!(check(&n, 65537, &p), Ok(()));
    assert_eq!(check(&n, 65537, &other), Err(CryptoError::Key));
    assert_eq!(check(&n, 65537, &p[1..]), Err(CryptoError::Key));
    assert_eq!(check(&n, 65537, &[0xFF; 64]), Err(CryptoError::Key));
    let mut even = n.clone();
    even[127] ^= 1;
    assert_eq!(check(&even, 65537, &p), Err(CryptoError::Key));
    assert_eq!(check(&n[1..], 65537, &p), Err(CryptoError::Value));
    assert_eq!(check(&n, 65536, &p), Err(CryptoError::Value));
    assert_eq!(check(&[], 65537, &[]), Err(CryptoError::Value));
    assert_eq!(
        Native.rsa_generate(2047, 65537, &mut rng),
        Err(CryptoError::Value)
    );
    assert_eq!(
        Native.rsa_generate(2048, 3, &mut rng),
        Err(CryptoError::Value)
    );
    assert_eq!(
        Native.rsa_generate(512, 65537, &mut rng),
        Err(CryptoError::Value)
    );
}

/// A composite in the place of a prime gives results that fail their check.
#[test]
fn a_wrong_private_result_never_leaves() {
    let mut rng = rng("fault");
    let (n, p) = Native.rsa_generate(1024, 65537, &mut rng).unwrap();
    // (n - 1) is even, so e = 3 may still pass the load; the wrong exponent shows in the result.
    for e in [5, 9, 15] {
        let key = RsaPrivate { n: &n, e, p: &p };
        let result = Native.rsa_decrypt(&key, RsaPadding::Null, &[2; 128], &mut rng);
        if let Ok(plain) = result {
            let public = RsaPublic { n: &n, e };
            assert_eq!(
                Native
                    .rsa_encrypt(&public, RsaPadding::Null, &plain, &mut rng)
                    .unwrap(),
                [2; 128]
            );
        }
    }
}

#[test]
fn rsa_refuses_numbers_and_data_out_of_range() {
    let mut rng = rng("range");
    let (n, p) = Native.rsa_generate(1024, 65537, &mut rng).unwrap();
    let key = RsaPrivate {
        n: &n,
        e: 65537,
        p: &p,
    };
    let public = key.public();
    let value = Err(CryptoError::Value);
    assert_eq!(
        Native.rsa_encrypt(&public, RsaPadding::Null, &n, &mut rng),
        value
    );
    assert_eq!(
        Native.rsa_encrypt(&public, RsaPadding::Null, &[1; 129], &mut rng),
        value
    );
    assert_eq!(
        Native.rsa_encrypt(&public, RsaPadding::Rsaes, &[1; 118], &mut rng),
        value
    );
    let oaep = RsaPadding::Oaep {
        hash: HashAlg::Sha256,
        label: b"",
    };
    assert_eq!(Native.rsa_encrypt(&public, oaep, &[1; 63], &mut rng), value);
    assert!(
        Native
            .rsa_encrypt(&public, oaep, &[1; 62], &mut rng)
            .is_ok()
    );
    assert_eq!(
        Native.rsa_decrypt(&key, oaep, &n, &mut rng).err(),
        Some(CryptoError::Value)
    );
    assert_eq!(
        Native.rsa_sign(&key, RsaScheme::Pss(HashAlg::Sha256), &[0; 31], &mut rng),
        value
    );
    assert_eq!(
        Native.rsa_sign(&key, RsaScheme::Rsassa(HashAlg::Sha256), &[0; 33], &mut rng),
        value
    );
}

#[test]
fn a_dead_random_source_is_an_error_and_never_a_key() {
    let mut dead = |_: &mut [u8]| -> Result<(), ()> { Err(()) };
    let mut zeros = |out: &mut [u8]| -> Result<(), ()> {
        out.fill(0);
        Ok(())
    };
    let (n, p) = Native.rsa_generate(1024, 65537, &mut rng("alive")).unwrap();
    let key = RsaPrivate {
        n: &n,
        e: 65537,
        p: &p,
    };
    let scheme = RsaScheme::Rsassa(HashAlg::Sha256);
    assert_eq!(
        Native.rsa_generate(1024, 65537, &mut dead),
        Err(CryptoError::Random)
    );
    assert_eq!(
        Native.rsa_sign(&key, scheme, &[0; 32], &mut dead),
        Err(CryptoError::Random)
    );
    assert_eq!(
        Native.rsa_sign(&key, scheme, &[0; 32], &mut zeros),
        Err(CryptoError::Random)
    );
    assert_eq!(
        Native.rsa_encrypt(&key.public(), RsaPadding::Rsaes, b"x", &mut zeros),
        Err(CryptoError::Random)
    );
    for curve in Curve::ALL.iter().copied() {
        assert_eq!(
            Native.ecc_generate(curve, &mut dead),
            Err(CryptoError::Random)
        );
        assert_eq!(
            Native.ecc_generate(curve, &mut zeros),
            Err(CryptoError::Random)
        );
    }
}

#[test]
fn ecc_signatures_survive_the_round_trip() {
    let mut rng = rng("ecc");
    for curve in Curve::ALL.iter().copied() {
        let (d, point) = Native.ecc_generate(curve, &mut rng).unwrap();
        assert_eq!(
            (d.len(), point.x.len(), point.y.len()),
            (curve.size(), curve.size(), curve.size())
        );
        assert!(Native.ecc_on_curve(curve, &point));
        for alg in HashAlg::ALL.iter().copied() {
            let digest = hash(alg, &[b"message"]);
            let plain = Native.ecdsa_sign(curve, &d, &digest, &mut rng).unwrap();
            let schnorr = Native
                .ecschnorr_sign(curve, &d, alg, &digest, &mut rng)
                .unwrap();
            Native.ecdsa_verify(curve, &point, &digest, &plain).unwrap();
            Native
                .ecschnorr_verify(curve, &point, alg, &digest, &schnorr)
                .unwrap();
            let refused = Err(CryptoError::Signature);
            assert_eq!(
                Native.ecdsa_verify(curve, &point, &digest, &schnorr),
                refused
            );
            assert_eq!(
                Native.ecschnorr_verify(curve, &point, alg, &digest, &plain),
                refused
            );
            let zero = EccSignature {
                r: vec![0; curve.size()],
                s: plain.s,
            };
            assert_eq!(Native.ecdsa_verify(curve, &point, &digest, &zero), refused);
            assert_eq!(
                Native.ecschnorr_verify(curve, &point, alg, &digest, &zero),
                refused
            );
        }
    }
}

#[test]
fn points_and_numbers_out_of_range_are_refused() {
    let mut rng = rng("range");
    for curve in Curve::ALL.iter().copied() {
        let (d, point) = Native.ecc_generate(curve, &mut rng).unwrap();
        let parameters = Native.ecc_parameters(curve);
        let value = Some(CryptoError::Value);
        assert_eq!(Native.ecc_public(curve, &parameters.n).err(), value);
        assert_eq!(Native.ecc_public(curve, &[]).err(), value);
        assert_eq!(Native.ecc_multiply(curve, &[0], &point).err(), value);
        assert_eq!(Native.ecc_multiply(curve, &[1; 80], &point).err(), value);
        let mut off = point.clone();
        off.y[curve.size() - 1] ^= 1;
        assert!(!Native.ecc_on_curve(curve, &off));
        assert_eq!(Native.ecc_multiply(curve, &d, &off).err(), value);
        let padded = Point {
            x: [&[0; 5][..], &point.x].concat(),
            y: point.y.clone(),
        };
        assert!(Native.ecc_on_curve(curve, &padded));
        let large = Point {
            x: parameters.p.clone(),
            y: point.y.clone(),
        };
        assert!(!Native.ecc_on_curve(curve, &large));
        assert!(!Native.ecc_on_curve(
            curve,
            &Point {
                x: vec![],
                y: vec![]
            }
        ));
    }
}

/// The parameters satisfy the curve's own laws, with arithmetic that is not the library's.
#[test]
fn curve_parameters_are_those_of_the_curve() {
    for curve in Curve::ALL.iter().copied() {
        let parameters = Native.ecc_parameters(curve);
        assert_eq!(Native.ecc_public(curve, &[1]).unwrap(), parameters.g);
        // (n - 1)·G = -G: the same x.
        let mut less_one = parameters.n.clone();
        *less_one.last_mut().unwrap() -= 1;
        let negative = Native.ecc_public(curve, &less_one).unwrap();
        assert_eq!(negative.x, parameters.g.x);
        assert_ne!(negative.y, parameters.g.y);
        if curve == Curve::BnP256 {
            assert!(parameters.a.iter().all(|&byte| byte == 0));
            continue;
        }
        // a = p - 3
        let mut a = parameters.p.clone();
        let last = a.last_mut().unwrap();
        assert_eq!(*last, 0xFF);
        *last = 0xFC;
        assert_eq!(parameters.a, a);
    }
}

#[test]
fn sums_of_products_agree_between_numbers_and_points() {
    let mut rng = rng("sums");
    for curve in Curve::ALL.iter().copied() {
        let (a, _) = Native.ecc_generate(curve, &mut rng).unwrap();
        let (b, point_b) = Native.ecc_generate(curve, &mut rng).unwrap();
        let (c, _) = Native.ecc_generate(curve, &mut rng).unwrap();
        let g = Native.ecc_parameters(curve).g;
        let number = Native.ecc_scalar_multiply_add(curve, &a, &b, &c).unwrap();
        let expected = Native.ecc_public(curve, &number).unwrap();
        assert_eq!(
            Native
                .ecc_multiply_add(curve, &a, &point_b, &c, &g)
                .unwrap(),
            expected
        );
        let infinity = Native.ecc_multiply_add(curve, &[0], &point_b, &[0], &g);
        assert_eq!(infinity.err(), Some(CryptoError::Value));
        assert_eq!(
            Native
                .ecc_scalar_multiply_add(curve, &[1; 300], &b, &c)
                .err(),
            Some(CryptoError::Value)
        );
    }
}

#[test]
fn ciphers_refuse_wrong_sizes_and_change_nothing() {
    let mut data = [7; 20];
    for mode in [CipherMode::Cbc, CipherMode::Ecb] {
        let iv: &mut [u8] = if mode == CipherMode::Ecb {
            &mut []
        } else {
            &mut [0; 16]
        };
        assert_eq!(
            Native.aes(&[0; 16], mode, true, iv, &mut data),
            Err(CryptoError::Value)
        );
    }
    assert_eq!(
        Native.aes(&[0; 15], CipherMode::Cfb, true, &mut [0; 16], &mut data),
        Err(CryptoError::Value)
    );
    assert_eq!(
        Native.aes(&[0; 16], CipherMode::Cfb, true, &mut [0; 15], &mut data),
        Err(CryptoError::Value)
    );
    assert_eq!(data, [7; 20]);
    Native
        .aes(&[0; 16], CipherMode::Cfb, true, &mut [0; 16], &mut data)
        .unwrap();
    Native
        .aes(&[0; 16], CipherMode::Cfb, false, &mut [0; 16], &mut data)
        .unwrap();
    assert_eq!(data, [7; 20]);
}

#[test]
fn damaged_hash_states_are_refused() {
    let state = HashState::new(HashAlg::Sha256).to_bytes();
    assert!(HashState::from_bytes(HashAlg::Sha512, &state).is_none());
    assert!(HashState::from_bytes(HashAlg::Sha256, &state[1..]).is_none());
    assert!(HmacState::from_bytes(HashAlg::Sha256, &state).is_none());
    assert!(HmacState::from_bytes(HashAlg::Sha256, &[]).is_none());
}

#[test]
fn bits_above_those_asked_for_are_zero() {
    let out = kdfa(HashAlg::Sha256, b"key", "LABEL", b"", b"", 521);
    assert_eq!(out.len(), 66);
    assert!(out[0] <= 1);
    assert!(kdfa(HashAlg::Sha256, b"key", "LABEL", b"", b"", 0).is_empty());
    assert!(ct_eq(b"ab", b"ab") && !ct_eq(b"ab", b"ac") && !ct_eq(b"ab", b"abc"));
}
