//! Numbers of proofs, and moments that are spread evenly.

use std::fs;

use anyhow::{Context, Result};

/// Prints `numbers` and adds them to the JSON object in the file that `PROOFS_JSON`
/// names, if it names one.
pub fn record(numbers: &[(&str, u64)]) -> Result<()> {
    for (key, number) in numbers {
        println!("{key} {number}");
    }
    let Some(path) = std::env::var_os("PROOFS_JSON") else {
        return Ok(());
    };
    let mut object: serde_json::Map<_, _> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).context("PROOFS_JSON holds an object")?,
        Err(_) => serde_json::Map::new(),
    };
    for (key, number) in numbers {
        object.insert((*key).to_owned(), (*number).into());
    }
    fs::write(&path, serde_json::to_vec_pretty(&object)?)?;
    Ok(())
}

/// The `n`-th of a sequence of numbers in 0..1 that fills the range evenly however many
/// are taken (multiples of the golden ratio).
pub fn fraction(n: u64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let n = f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    ((n + 1.0) * GOLDEN).fract()
}
