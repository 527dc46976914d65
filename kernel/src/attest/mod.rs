//! The attestation client.
#![forbid(unsafe_code)]
