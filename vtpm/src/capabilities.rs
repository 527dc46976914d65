//! What `TPM2_GetCapability` tells (Part 2, 6.12 and 6.13): the fixed properties of this TPM
//! are those of libtpms 0.9.2, so that clients find the TPM they know.

use alloc::vec::Vec;

use crate::{
    constants::{alg, limit},
    pcr,
    state::State,
    table::COMMANDS,
};

/// `TPM_PT_FIRMWARE_VERSION_1` and `_2`.
pub const FIRMWARE_VERSION: u64 = 0x2019_1023_0016_3636;

/// Algorithms and their `TPMA_ALGORITHM`.
pub const ALGORITHMS: &[(u16, u32)] = &[
    (alg::RSA, 0x009),
    (alg::SHA1, 0x004),
    (alg::HMAC, 0x104),
    (alg::AES, 0x002),
    (alg::MGF1, 0x404),
    (alg::KEYEDHASH, 0x30C),
    (alg::XOR, 0x006),
    (alg::SHA256, 0x004),
    (alg::SHA384, 0x004),
    (alg::SHA512, 0x004),
    (alg::RSASSA, 0x101),
    (alg::RSAES, 0x201),
    (alg::RSAPSS, 0x101),
    (alg::OAEP, 0x201),
    (alg::ECDSA, 0x101),
    (alg::ECDH, 0x401),
    (alg::ECDAA, 0x101),
    (alg::ECSCHNORR, 0x101),
    (alg::KDF1_SP800_56A, 0x404),
    (alg::KDF2, 0x404),
    (alg::KDF1_SP800_108, 0x404),
    (alg::ECC, 0x009),
    (alg::SYMCIPHER, 0x008),
    (alg::CTR, 0x202),
    (alg::OFB, 0x202),
    (alg::CBC, 0x202),
    (alg::CFB, 0x202),
    (alg::ECB, 0x202),
];

const fn text(four: [u8; 4]) -> u32 {
    u32::from_be_bytes(four)
}

/// First property of the fixed group, `PT_FIXED`.
pub const PT_FIXED: u32 = 0x100;
/// First property of the variable group, `PT_VAR`.
pub const PT_VAR: u32 = 0x200;

/// All properties, by rising number.
#[must_use]
pub fn properties(state: &State) -> Vec<(u32, u32)> {
    let mut all = alloc::vec![
        (0x100, text(*b"2.0\0")),
        (0x101, 0),
        (0x102, 164),
        (0x103, 75),
        (0x104, 2021),
        (0x105, text(*b"IBM\0")),
        (0x106, text(*b"SW  ")),
        (0x107, text(*b" TPM")),
        (0x108, 0),
        (0x109, 0),
        (0x10A, 1),
        (0x10B, (FIRMWARE_VERSION >> 32) as u32),
        (0x10C, FIRMWARE_VERSION as u32),
        (0x10D, limit::BUFFER as u32),
        (0x10E, limit::LOADED_OBJECTS as u32),
        (0x10F, 7),
        (0x110, limit::LOADED_SESSIONS as u32),
        (0x111, limit::ACTIVE_SESSIONS as u32),
        (0x112, limit::PCR_COUNT as u32),
        (0x113, limit::PCR_SELECT as u32),
        (0x114, limit::CONTEXT_GAP as u32),
        (0x116, 0),
        (0x117, limit::NV_INDEX as u32),
        (0x118, 6),
        (0x119, crate::clock::UPDATE as u32),
        (0x11A, u32::from(alg::SHA512)),
        (0x11B, u32::from(alg::AES)),
        (0x11C, 256),
        (0x11D, 255),
        (0x11E, limit::COMMAND as u32),
        (0x11F, limit::RESPONSE as u32),
        (0x120, limit::DIGEST as u32),
        (0x121, limit::CONTEXT as u32),
        (0x122, 0x194),
        (0x123, text(*b"2.0\0")),
        (0x124, 0),
        (0x125, 164),
        (0x126, 75),
        (0x127, 2021),
        (0x128, limit::SENSITIVE_DATA as u32),
        (0x129, COMMANDS.len() as u32),
        (0x12A, COMMANDS.len() as u32),
        (0x12B, 0),
        (0x12C, limit::NV_BUFFER as u32),
        (0x12D, 0),
        (0x12E, limit::CAP_BUFFER as u32),
    ];
    let bit = |set: bool, bit: u32| u32::from(set) << bit;
    let owners = &state.owners;
    let permanent = bit(!owners.owner.auth.is_empty(), 0)
        | bit(!owners.endorsement.auth.is_empty(), 1)
        | bit(!owners.lockout.auth.is_empty(), 2)
        | bit(owners.disable_clear, 8)
        | bit(state.da.failed >= state.da.max, 9)
        | bit(true, 10);
    let startup = bit(state.ram.platform_enabled, 0)
        | bit(state.clear.storage_enabled, 1)
        | bit(state.clear.endorsement_enabled, 2)
        | bit(state.clear.platform_nv_enabled, 3)
        | bit(state.ram.orderly_start, 31);
    let loaded = state.ram.sessions.len() as u32;
    let active = state.active_sessions() as u32;
    let counters = state
        .nv
        .values()
        .filter(|index| index.public.kind() == 1)
        .count() as u32;
    let used = state
        .ram
        .objects
        .iter()
        .filter(|slot| slot.is_some())
        .count();
    let free_objects = limit::LOADED_OBJECTS.saturating_sub(used) as u32;
    let persistent = state.persistent.len() as u32;
    let free_bytes = limit::NV_TOTAL.saturating_sub(state.nv_used());
    all.extend([
        (PT_VAR, permanent),
        (0x201, startup),
        (0x202, state.nv.len() as u32),
        (0x203, loaded),
        (
            0x204,
            (limit::LOADED_SESSIONS as u32).saturating_sub(loaded),
        ),
        (0x205, active),
        (
            0x206,
            (limit::ACTIVE_SESSIONS as u32).saturating_sub(active),
        ),
        (0x207, free_objects),
        (0x208, persistent),
        (0x209, (free_bytes / 2712).min(65) as u32),
        (0x20A, counters),
        (0x20B, (free_bytes / 80).min(25) as u32),
        (0x20C, 0),
        (0x20D, 8),
        (0x20E, state.da.failed),
        (0x20F, state.da.max),
        (0x210, state.da.recovery),
        (0x211, state.da.lockout_recovery),
        (0x212, 0),
        (0x213, (state.settings.audit_counter >> 32) as u32),
        (0x214, state.settings.audit_counter as u32),
    ]);
    all
}

/// PCR properties (`TPM_PT_PCR`) and the PCRs they hold for.
#[must_use]
pub fn pcr_properties() -> Vec<(u32, u32)> {
    let mut all = alloc::vec![(0, pcr::SAVED)];
    for (n, (extend, reset)) in (0u32..).zip(pcr::EXTEND.iter().zip(pcr::RESET)) {
        all.push((1 + 2 * n, *extend));
        all.push((2 + 2 * n, reset));
    }
    all.extend([
        (0x11, pcr::NO_INCREMENT),
        (0x12, pcr::DRTM_RESET),
        (0x13, pcr::POLICY),
        (0x14, pcr::AUTH),
    ]);
    all
}
