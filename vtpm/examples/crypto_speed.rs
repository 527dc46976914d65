//! Median time of each public-key operation, in microseconds.
use std::time::Instant;
use vtpm::crypto::{Crypto, Curve, HashAlg, KdfRng, Native, RsaPrivate, RsaScheme, hash};

fn median(name: &str, rounds: usize, mut run: impl FnMut()) {
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    println!(
        "crypto.{name}.us {} (max {})",
        times[rounds / 2],
        times[rounds - 1]
    );
}

fn main() {
    let mut rng = KdfRng::new(HashAlg::Sha256, b"speed", "speed", &[]);
    for bits in [2048, 3072] {
        let mut made = Vec::new();
        median(&format!("rsa{bits}.generate"), 40, || {
            made.push(Native.rsa_generate(bits, 65537, &mut rng).unwrap());
        });
        let (n, p) = &made[0];
        let key = RsaPrivate { n, e: 65537, p };
        let digest = hash(HashAlg::Sha256, &[b"x"]);
        let mut rng = KdfRng::new(HashAlg::Sha256, b"speed", "sign", &[]);
        median(&format!("rsa{bits}.load"), 50, || {
            Native.rsa_check(&key).unwrap()
        });
        median(&format!("rsa{bits}.sign"), 50, || {
            Native
                .rsa_sign(&key, RsaScheme::Rsassa(HashAlg::Sha256), &digest, &mut rng)
                .unwrap();
        });
    }
    for curve in Curve::ALL.iter().copied() {
        let (d, point) = Native.ecc_generate(curve, &mut rng).unwrap();
        median(&format!("{curve:?}.generate"), 50, || {
            Native.ecc_generate(curve, &mut rng).unwrap();
        });
        median(&format!("{curve:?}.ecdsa_sign"), 50, || {
            Native.ecdsa_sign(curve, &d, &[7; 32], &mut rng).unwrap();
        });
        median(&format!("{curve:?}.ecdh"), 50, || {
            Native.ecc_multiply(curve, &d, &point).unwrap();
        });
    }
}
