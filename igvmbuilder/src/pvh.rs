//! The boot image as an ELF file for the PVH boot protocol (QEMU's `-kernel`).

use crate::boot_image::BootImage;
use crate::elf_file::{ElfError, Executable, Note};

/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen, "x86/HVM direct boot ABI"): the address at which
/// the host enters the image in 32-bit protected mode.
const PHYS32_ENTRY: u32 = 18;

/// Writes the image.
pub fn write(image: &BootImage) -> Result<Vec<u8>, ElfError> {
    write_executable(&Executable {
        entry: image.entry,
        segments: image.segments.clone(),
    })
}

/// Writes any executable so that a PVH loader enters it.
pub(crate) fn write_executable(executable: &Executable) -> Result<Vec<u8>, ElfError> {
    executable.write(Some(&Note {
        name: "Xen",
        kind: PHYS32_ENTRY,
        description: &executable.entry.to_le_bytes(),
    }))
}
