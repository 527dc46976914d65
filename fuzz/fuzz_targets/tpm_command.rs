//! Any bytes as one TPM command, with a started TPM that has an object, a session and an NV
//! index: every answer is a whole response, and the TPM goes on working.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| svsm_fuzz::tpm::one_command(data));
