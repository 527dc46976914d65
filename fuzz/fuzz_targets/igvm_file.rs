//! A file somebody hands to the image tools. Measuring and flattening must end, with a
//! result or with an error.

#![no_main]

use igvmbuilder::{flatten, igvm_reader, measure};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(file) = igvm_reader::read(input) {
        let _ = measure::measure(&file, &measure::Options::default());
    }
    let _ = flatten::flatten(input, 64);
});
