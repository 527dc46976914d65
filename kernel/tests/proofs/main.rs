//! Proofs by exhaustion: what a power cut, a hostile disk and a full volume can do.
//!
//! By default a sample runs, small enough for every `cargo test`; with `PROOFS=full`
//! everything does (`make proofs`). Documentation/PROOFS.md says what each proves.
#![cfg(feature = "cocoonfs")]

mod device;
mod disk_full;
mod hostile_disk;
mod power_cut;
mod replay;
mod report;
mod state;
#[path = "../persistence/support.rs"]
#[allow(
    dead_code,
    reason = "shared with the scenario tests, which use more of it"
)]
mod support;
#[cfg(feature = "vtpm")]
mod tpm_power_cut;
#[cfg(feature = "uefivars")]
mod uefi_power_cut;
