//! The page that the builder of boot images fills with keys.

#![allow(unsafe_code)]

use bootinfo::trusted_keys::PAGE_LEN;
use core::hint::black_box;

/// Empty as the compiler sees it; the image builder writes the page in the file.
// SAFETY: a section of its own, which the linker script puts among the constants.
#[cfg_attr(target_os = "svsm", unsafe(link_section = ".trusted_keys"))]
#[used]
static PAGE: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// The page, in the format of [`bootinfo::trusted_keys`].
pub fn page() -> &'static [u8] {
    // What the compiler knows of the constant is not what is in the image.
    black_box(&PAGE)
}
