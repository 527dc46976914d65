//! What the builder of boot images fills in: sections that are empty as the compiler sees
//! them, and that the builder writes in the file. They are measured with the rest of the
//! image.

#![allow(unsafe_code)]

use bootinfo::trusted_keys::PAGE_LEN;
use core::hint::black_box;

// SAFETY: a section of its own, which the linker script puts among the constants.
#[cfg_attr(target_os = "svsm", unsafe(link_section = ".trusted_keys"))]
#[used]
static TRUSTED_KEYS: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// Keys of the servers that this image trusts, in the format of [`bootinfo::trusted_keys`].
pub fn trusted_keys() -> &'static [u8] {
    // What the compiler knows of the constant is not what is in the image.
    black_box(&TRUSTED_KEYS)
}

#[cfg(feature = "secureboot")]
// SAFETY: as above.
#[cfg_attr(target_os = "svsm", unsafe(link_section = ".initial_set"))]
#[used]
static INITIAL_SET: [u8; uefivars::initial::ROOM] = [0; uefivars::initial::ROOM];

/// The first Secure Boot keys, in the format of [`uefivars::initial`].
#[cfg(feature = "secureboot")]
pub fn initial_set() -> &'static [u8] {
    black_box(&INITIAL_SET)
}
