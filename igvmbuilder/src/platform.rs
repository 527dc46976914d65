//! What differs between platforms in an IGVM file: everything else is the same for
//! all of them.
//!
//! There is one platform so far. SEV-SNP joins as a second type here, with its policy,
//! its secrets and CPUID pages and its VMSA, once stage2 can start there; a file never
//! names a platform that its stage2 cannot boot.

use crate::boot_image::BootImage;
use igvm::{IgvmDirectiveHeader, IgvmInitializationHeader, IgvmPlatformHeader};
use igvm_defs::{
    IGVM_NATIVE_PLATFORM_VERSION, IGVM_VHS_SUPPORTED_PLATFORM, IgvmNativeVpContextX64,
    IgvmPlatformType,
};
use zerocopy::FromZeros;

/// A platform that an IGVM file can be loaded on.
pub trait Platform {
    /// The bit that stands for the platform in compatibility masks; one bit only.
    fn mask(&self) -> u32;

    /// Number of the platform in the parameter page ([`bootinfo::platform`]).
    fn number(&self) -> u32;

    /// Whether the platform isolates a VM from its host, so that people rely on what an
    /// image for it has and has not.
    fn isolates(&self) -> bool;

    /// The header that names the platform.
    fn header(&self) -> IgvmPlatformHeader;

    /// Headers of the initialization section, such as a guest policy.
    fn initialization(&self) -> Vec<IgvmInitializationHeader>;

    /// Pages that only this platform has, such as secrets and CPUID.
    fn extra_pages(&self, image: &BootImage) -> Vec<IgvmDirectiveHeader>;

    /// The state in which the first CPU enters stage2.
    fn vp_context(&self, image: &BootImage) -> IgvmDirectiveHeader;
}

/// An ordinary VM without isolation.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Native {
    /// Flat 32-bit code segment: present, executable, readable, accessed, 4 KiB limit
    /// granularity.
    const CODE_ATTRIBUTES: u16 = 0xc09b;

    /// Flat data segment: present, writable, accessed, 32-bit, 4 KiB limit granularity.
    const DATA_ATTRIBUTES: u16 = 0xc093;

    /// CR0: protected mode, and the bit that is always one.
    const CR0: u64 = 0x11;

    /// RFLAGS: the bit that is always one; interrupts are off.
    const RFLAGS: u64 = 2;
}

impl Platform for Native {
    fn mask(&self) -> u32 {
        // Bit 0 is for SEV-SNP.
        1 << 1
    }

    fn number(&self) -> u32 {
        bootinfo::platform::NATIVE
    }

    fn isolates(&self) -> bool {
        false
    }

    fn header(&self) -> IgvmPlatformHeader {
        IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
            compatibility_mask: self.mask(),
            highest_vtl: 0,
            platform_type: IgvmPlatformType::NATIVE,
            platform_version: IGVM_NATIVE_PLATFORM_VERSION,
            shared_gpa_boundary: 0,
        })
    }

    fn initialization(&self) -> Vec<IgvmInitializationHeader> {
        Vec::new()
    }

    fn extra_pages(&self, _image: &BootImage) -> Vec<IgvmDirectiveHeader> {
        Vec::new()
    }

    /// The entry state of the PVH boot protocol, with EBX zero.
    fn vp_context(&self, image: &BootImage) -> IgvmDirectiveHeader {
        let mut context = Box::new(IgvmNativeVpContextX64::new_zeroed());
        context.rip = image.entry;
        context.rflags = Self::RFLAGS;
        context.cr0 = Self::CR0;
        context.code_selector = 0x08;
        context.code_attributes = Self::CODE_ATTRIBUTES;
        context.code_limit = u32::MAX;
        context.data_selector = 0x10;
        context.data_attributes = Self::DATA_ATTRIBUTES;
        context.data_limit = u32::MAX;
        IgvmDirectiveHeader::X64NativeVpContext {
            compatibility_mask: self.mask(),
            vp_index: 0,
            context,
        }
    }
}
