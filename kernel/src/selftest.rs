//! The self-test build: checks that only the booted kernel can make.
//!
//! Each check writes `selftest: NAME: ok` or ends the boot. After the checks the
//! kernel does what the fw_cfg file [`TRAP_FILE`] asks for, which has to end in an
//! exception: the end-to-end tests look for its report.

use crate::arch::cpu::Features;
use crate::arch::probe;
use crate::drivers::fw_cfg::FwCfg;
use crate::entropy::Entropy;
use crate::mm::shared::{POOL_SIZE, SharedBuffer};
use crate::persistence::Volume;
use crate::persistence::boot_counter::BOOT_COUNTER;
use crate::platform::Platform;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use alloc::vec::Vec;
use core::hint::black_box;
use sha2::{Digest, Sha256};

/// Names the trap to walk into: `stack-overflow`, `write-text`, `execute-data`,
/// `read-null` or `panic`.
const TRAP_FILE: &str = "opt/org.coconut-svsm/selftest";

/// Longest name of a trap, in bytes.
const TRAP_LIMIT: usize = 32;

/// A check that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("selftest: {0}: failed")]
pub struct CheckFailed(&'static str);

/// Makes all checks, then walks into the trap that the host asks for, if any.
pub fn run(
    platform: &dyn Platform,
    entropy: &dyn Entropy,
    volume: Option<&dyn Volume>,
) -> Result<(), CheckFailed> {
    check_crypto(volume)?;
    check(
        "exceptions keep the SSE state",
        probe::sse_state_survives_exceptions(),
    )?;
    check("random words differ", random_words_differ(entropy))?;
    check("huge allocation fails", huge_allocation_fails())?;
    check("shared memory comes back", shared_memory_comes_back())?;
    walk_into_trap(platform);
    Ok(())
}

fn check(name: &'static str, holds: bool) -> Result<(), CheckFailed> {
    if !holds {
        return Err(CheckFailed(name));
    }
    log::info!("selftest: {name}: ok");
    Ok(())
}

/// The instructions for cryptography are executed exactly where the CPU has them,
/// seen by stepping through the code that the services use.
fn check_crypto(volume: Option<&dyn Volume>) -> Result<(), CheckFailed> {
    let features = Features::detect();
    let used = |count: u32, present: bool| (count > 0) == present;

    let gcm = probe::count_instructions(aes_gcm_once);
    log::info!("selftest: AES-GCM of one block: {gcm}");
    check(
        "AES-GCM uses AES-NI where present",
        used(gcm.aes, features.aes),
    )?;
    check(
        "AES-GCM uses PCLMULQDQ where present",
        used(gcm.clmul, features.pclmul),
    )?;

    let sha = probe::count_instructions(|| {
        black_box(Sha256::digest(black_box([0u8; 64])));
    });
    log::info!("selftest: SHA-256 of one block: {sha}");
    check(
        "SHA-256 uses SHA-NI where present",
        used(sha.sha, features.sha),
    )?;

    if let Some(volume) = volume {
        let mut read = false;
        let file = probe::count_instructions(|| read = volume.read(BOOT_COUNTER).is_ok());
        log::info!("selftest: reading a file: {file}");
        check("a file can be read step by step", read)?;
        check(
            "CocoonFs uses AES-NI where present",
            used(file.aes, features.aes),
        )?;
        check(
            "CocoonFs uses SHA-NI where present",
            used(file.sha, features.sha),
        )?;
    }
    Ok(())
}

fn aes_gcm_once() {
    let cipher = Aes256Gcm::new(&[1; 32].into());
    let mut block = [2u8; 16];
    let tag = cipher.encrypt_inout_detached(&[3; 12].into(), b"", block.as_mut_slice().into());
    black_box((block, tag.is_ok()));
}

fn random_words_differ(entropy: &dyn Entropy) -> bool {
    let mut words = [[0u8; 32]; 2];
    let filled = words.each_mut().map(|word| entropy.fill(word).is_ok());
    filled == [true, true] && words[0] != words[1] && words[0] != [0; 32]
}

fn huge_allocation_fails() -> bool {
    let mut huge = Vec::<u8>::new();
    huge.try_reserve_exact(1 << 30).is_err()
}

fn shared_memory_comes_back() -> bool {
    let take_all = || {
        core::iter::from_fn(|| SharedBuffer::allocate(64 << 10).ok())
            .take(POOL_SIZE)
            .collect::<Vec<_>>()
            .len()
    };
    let first = take_all();
    first > 0 && first == take_all()
}

fn walk_into_trap(platform: &dyn Platform) {
    let device = FwCfg::open(platform.ports());
    let file = device.and_then(|device| device.read_file(TRAP_FILE, TRAP_LIMIT).ok().flatten());
    match file.as_deref() {
        Some(b"stack-overflow") => {
            black_box(probe::overflow_stack(0));
        }
        Some(b"write-text") => probe::write_text(),
        Some(b"execute-data") => probe::execute_data(),
        Some(b"read-null") => probe::read_null(),
        Some(b"panic") => panic!("the self-test asked for it"),
        _ => {}
    }
}
