//! A stream of TPM commands with right headers and authorizations, power cycles and failing
//! storage in between: what was committed is there again, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| svsm_fuzz::tpm::stream(data));
