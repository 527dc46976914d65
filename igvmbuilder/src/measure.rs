//! The SEV-SNP launch digest of an IGVM file.
//!
//! The secure processor keeps a 48-byte digest that starts as zeroes. Every page given
//! to it replaces the digest by the SHA-384 of a PAGE_INFO structure, which holds the
//! old digest, the SHA-384 of the page (or zeroes for pages that are not measured by
//! contents), the kind of page and its address (SEV Secure Nested Paging Firmware ABI
//! Specification, revision 1.55, sections 8.17.2 and 8.17.3). The directives of a file
//! are followed in their order:
//!
//! - page data: NORMAL with its contents; UNMEASURED, SECRETS and CPUID without; shared
//!   pages are not given to the secure processor at all;
//! - parameter insert: one UNMEASURED page for each page of the area;
//! - CPU state: a VMSA page, at the address the file names;
//! - everything else (parameters, required memory, ID block) leaves no trace.
//!
//! A file without SEV-SNP is measured by the same rules for its native platform, with
//! the CPU state as a VMSA page at [`VMSA_GPA`]. That number identifies the image; no
//! hardware will ever report it.

use crate::PAGE_SIZE;
use crate::igvm_reader::{IgvmReadError, directives, platform_mask};
use igvm::{IgvmDirectiveHeader, IgvmFile};
use igvm_defs::{IgvmPageDataType, IgvmPlatformType};
use sha2::{Digest, Sha384};
use std::collections::BTreeMap;
use zerocopy::{Immutable, IntoBytes};

/// Size of a launch digest in bytes.
pub const DIGEST_SIZE: usize = 48;

/// The address under which KVM measures every VMSA: all ones, cut to the 52 bits of a
/// page-aligned physical address.
pub const VMSA_GPA: u64 = 0xffff_ffff_f000;

/// What a file is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// No isolation.
    Native,
    /// AMD SEV-SNP.
    Snp,
}

/// How to measure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Pages without data are imported as the processor's ZERO pages, as some loaders
    /// do, instead of as normal pages of zeroes.
    pub native_zero: bool,
    /// Refuse files that QEMU with KVM would not launch exactly as they say.
    pub check_kvm: bool,
    /// The platform; by default SEV-SNP where the file has it, else native.
    pub platform: Option<Platform>,
}

/// Why a file has no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The file cannot be read, or lacks the platform.
    #[error(transparent)]
    Read(#[from] IgvmReadError),
    /// A page that is not 4 KiB.
    #[error("page at {0:#x} is not a 4 KiB page")]
    PageSize(u64),
    /// A page of an unknown type.
    #[error("page at {gpa:#x} has type {kind:#x}, which is not supported")]
    PageType {
        /// Guest physical address.
        gpa: u64,
        /// The type in the file.
        kind: u16,
    },
    /// An insert without an area.
    #[error("parameter area {0} is inserted but not declared")]
    ParameterArea(u32),
    /// KVM would do something else than the file says.
    #[error("KVM would not launch this file as it is: {0}")]
    Kvm(&'static str),
}

/// Page types of PAGE_INFO (table 68 of the ABI specification).
#[derive(Clone, Copy)]
#[repr(u8)]
enum PageType {
    Normal = 1,
    Vmsa = 2,
    Zero = 3,
    Unmeasured = 4,
    Secrets = 5,
    Cpuid = 6,
}

/// PAGE_INFO (table 67 of the ABI specification).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct PageInfo {
    digest: [u8; DIGEST_SIZE],
    contents: [u8; DIGEST_SIZE],
    length: u16,
    page_type: u8,
    imi_page: u8,
    /// VMPL3, VMPL2, VMPL1, reserved.
    permissions: [u8; 4],
    gpa: u64,
}

const _: () = assert!(size_of::<PageInfo>() == 0x70);

/// The digest under way.
struct LaunchDigest([u8; DIGEST_SIZE]);

impl LaunchDigest {
    fn page(&mut self, page_type: PageType, gpa: u64, contents: Option<&[u8]>) {
        let info = PageInfo {
            digest: self.0,
            contents: contents.map_or([0; DIGEST_SIZE], |page| Sha384::digest(page).into()),
            length: size_of::<PageInfo>() as u16,
            page_type: page_type as u8,
            imi_page: 0,
            permissions: [0; 4],
            gpa,
        };
        self.0 = Sha384::digest(info.as_bytes()).into();
    }
}

/// Computes the launch digest.
pub fn measure(file: &IgvmFile, options: &Options) -> Result<[u8; DIGEST_SIZE], MeasureError> {
    let (platform, mask) = select(file, options.platform)?;
    let mut digest = LaunchDigest([0; DIGEST_SIZE]);
    let mut areas = BTreeMap::new();
    let mut kvm = KvmRules::default();
    for directive in directives(file, mask) {
        if options.check_kvm {
            kvm.check(directive)?;
        }
        match directive {
            IgvmDirectiveHeader::PageData {
                gpa,
                flags,
                data_type,
                data,
                ..
            } => {
                if flags.is_2mb_page() || data.len() as u64 > PAGE_SIZE {
                    return Err(MeasureError::PageSize(*gpa));
                }
                if flags.shared() {
                    continue;
                }
                match *data_type {
                    IgvmPageDataType::NORMAL if flags.unmeasured() => {
                        digest.page(PageType::Unmeasured, *gpa, None);
                    }
                    IgvmPageDataType::NORMAL if data.is_empty() && options.native_zero => {
                        digest.page(PageType::Zero, *gpa, None);
                    }
                    IgvmPageDataType::NORMAL => {
                        let mut page = data.clone();
                        page.resize(PAGE_SIZE as usize, 0);
                        digest.page(PageType::Normal, *gpa, Some(&page));
                    }
                    IgvmPageDataType::SECRETS => digest.page(PageType::Secrets, *gpa, None),
                    IgvmPageDataType::CPUID_DATA | IgvmPageDataType::CPUID_XF => {
                        digest.page(PageType::Cpuid, *gpa, None);
                    }
                    other => {
                        return Err(MeasureError::PageType {
                            gpa: *gpa,
                            kind: other.0,
                        });
                    }
                }
            }
            IgvmDirectiveHeader::ParameterArea {
                number_of_bytes,
                parameter_area_index,
                ..
            } => {
                areas.insert(*parameter_area_index, *number_of_bytes);
            }
            IgvmDirectiveHeader::ParameterInsert(insert) => {
                let index = insert.parameter_area_index;
                let size = areas
                    .get(&index)
                    .ok_or(MeasureError::ParameterArea(index))?;
                for offset in (0..*size).step_by(PAGE_SIZE as usize) {
                    let gpa = insert.gpa.wrapping_add(offset);
                    digest.page(PageType::Unmeasured, gpa, None);
                }
            }
            IgvmDirectiveHeader::SnpVpContext { gpa, vmsa, .. } => {
                digest.page(PageType::Vmsa, *gpa, Some(vmsa.as_bytes()));
            }
            IgvmDirectiveHeader::X64NativeVpContext { context, .. } => {
                let mut page = context.as_bytes().to_vec();
                page.resize(PAGE_SIZE as usize, 0);
                digest.page(PageType::Vmsa, VMSA_GPA, Some(&page));
            }
            _ => {}
        }
    }
    if options.check_kvm {
        kvm.finish(platform)?;
    }
    Ok(digest.0)
}

/// The platform to measure for, and its compatibility mask.
fn select(file: &IgvmFile, wanted: Option<Platform>) -> Result<(Platform, u32), MeasureError> {
    let snp = platform_mask(file, IgvmPlatformType::SEV_SNP)?;
    let native = platform_mask(file, IgvmPlatformType::NATIVE)?;
    let snp = snp.map(|mask| (Platform::Snp, mask));
    let native = native.map(|mask| (Platform::Native, mask));
    let (found, name) = match wanted {
        Some(Platform::Snp) => (snp, "snp"),
        Some(Platform::Native) => (native, "native"),
        None => (snp.or(native), "snp or native"),
    };
    Ok(found.ok_or(IgvmReadError::Platform(name))?)
}

/// What QEMU with KVM does whatever a file says: one CPU state, for CPU 0, measured
/// after everything else, under [`VMSA_GPA`]. And what it does not do: shared pages.
#[derive(Default)]
struct KvmRules {
    cpu_states: usize,
}

impl KvmRules {
    fn check(&mut self, directive: &IgvmDirectiveHeader) -> Result<(), MeasureError> {
        use MeasureError::Kvm;
        match directive {
            IgvmDirectiveHeader::SnpVpContext { gpa, vp_index, .. } => {
                self.cpu_states += 1;
                if *gpa != VMSA_GPA {
                    return Err(Kvm("the VMSA has another address than 0xfffffffff000"));
                }
                if *vp_index != 0 {
                    return Err(Kvm("there is a CPU state for another CPU than the first"));
                }
            }
            IgvmDirectiveHeader::X64NativeVpContext { vp_index, .. } => {
                self.cpu_states += 1;
                if *vp_index != 0 {
                    return Err(Kvm("there is a CPU state for another CPU than the first"));
                }
            }
            IgvmDirectiveHeader::PageData { flags, .. } if flags.shared() => {
                return Err(Kvm("it has shared pages"));
            }
            IgvmDirectiveHeader::PageData { .. } | IgvmDirectiveHeader::ParameterInsert(_)
                if self.cpu_states != 0 =>
            {
                return Err(Kvm("the CPU state is not the last measured item"));
            }
            _ => {}
        }
        if self.cpu_states > 1 {
            return Err(Kvm("there is more than one CPU state"));
        }
        Ok(())
    }

    fn finish(&self, platform: Platform) -> Result<(), MeasureError> {
        // Without a state in the file, KVM measures the reset state, which is not here.
        if platform == Platform::Snp && self.cpu_states == 0 {
            return Err(MeasureError::Kvm("there is no CPU state"));
        }
        Ok(())
    }
}
