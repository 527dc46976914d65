//! Any records as the stored state of a TPM: it starts from them or says which one is
//! damaged, and never writes over what it could not read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| svsm_fuzz::tpm::records(data));
