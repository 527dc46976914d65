//! The cryptography against published vectors (`tests/vectors/crypto`), and as a caller
//! sees it: what one side makes, the other accepts.

mod round_trips;
mod vectors;

use std::collections::BTreeMap;

use vtpm::crypto::{Curve, HashAlg, KdfRng};

/// One line of a vector file: words of the form name=value.
struct Vector(BTreeMap<&'static str, &'static str>);

impl Vector {
    fn text(&self, name: &str) -> &'static str {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("the vector has no {name}"))
    }
    fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn hash(&self) -> HashAlg {
        match self.text("alg") {
            "sha1" => HashAlg::Sha1,
            "sha256" => HashAlg::Sha256,
            "sha384" => HashAlg::Sha384,
            "sha512" => HashAlg::Sha512,
            other => panic!("hash {other}"),
        }
    }
    fn curve(&self) -> Curve {
        match self.text("curve") {
            "256" => Curve::P256,
            "384" => Curve::P384,
            "521" => Curve::P521,
            other => panic!("curve {other}"),
        }
    }
}

/// The vectors of a file; never none.
fn vectors(file: &'static str) -> Vec<Vector> {
    let found: Vec<_> = file
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            Vector(
                line.split(' ')
                    .map(|word| word.split_once('=').unwrap())
                    .collect(),
            )
        })
        .collect();
    assert!(!found.is_empty());
    found
}

/// A random source that gives the same bytes in every run.
fn rng(label: &str) -> KdfRng {
    KdfRng::new(HashAlg::Sha256, b"test seed", label, &[])
}
