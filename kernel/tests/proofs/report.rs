//! How much to prove, where the numbers go, and seeded randomness.

use std::sync::Mutex;

/// Whether everything is to be run, as opposed to a sample.
pub fn full() -> bool {
    std::env::var_os("PROOFS").is_some_and(|value| value == "full")
}

/// `all` when everything is to be run, else `sample`.
pub fn amount<T>(sample: T, all: T) -> T {
    if full() { all } else { sample }
}

/// Merges `numbers` into the JSON object in the file that `PROOFS_JSON` names, if it
/// names one, and prints them.
pub fn record(numbers: &[(&str, u64)]) {
    static FILE: Mutex<()> = Mutex::new(());
    for (key, number) in numbers {
        println!("{key} {number}");
    }
    let Some(path) = std::env::var_os("PROOFS_JSON") else {
        return;
    };
    // A poisoned lock guards nothing but the order of writes.
    let _guard = FILE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut object: serde_json::Map<_, _> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("PROOFS_JSON holds an object"),
        Err(_) => serde_json::Map::new(),
    };
    for (key, number) in numbers {
        object.insert((*key).to_owned(), (*number).into());
    }
    let text = serde_json::to_vec_pretty(&object).expect("numbers serialise");
    std::fs::write(&path, text).expect("PROOFS_JSON can be written");
}

/// A SplitMix64 generator: the same numbers for the same seed, in every run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
