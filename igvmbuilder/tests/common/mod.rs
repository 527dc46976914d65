//! Inputs for the tests: small programs in the shape of stage2 and the kernel, and an
//! IGVM file with a directive of every kind that is measured.

#![allow(dead_code, reason = "each test uses its part")]

use igvm::snp_defs::SevVmsa;
use igvm::{
    IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision,
};
use igvm_defs::{
    IGVM_VHS_PARAMETER, IGVM_VHS_PARAMETER_INSERT, IGVM_VHS_SUPPORTED_PLATFORM, IgvmPageDataFlags,
    IgvmPageDataType, IgvmPlatformType,
};
use igvmbuilder::elf_file::{Executable, Segment};
use igvmbuilder::measure::VMSA_GPA;
use zerocopy::FromZeros;

/// `length` bytes that differ from place to place and from `seed` to `seed`.
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i * 7 + i / 251) as u8 ^ seed)
        .collect()
}

fn segment(address: u64, data: Vec<u8>, memory_size: u64) -> Segment {
    Segment {
        address,
        data,
        memory_size,
        write: false,
        execute: false,
    }
}

/// A program linked like stage2: code, constants, zeroed data.
pub fn stage2() -> Executable {
    Executable {
        entry: 0x10_1000,
        segments: vec![
            Segment {
                execute: true,
                ..segment(0x10_1000, pattern(1, 0x2345), 0x2345)
            },
            segment(0x10_4000, pattern(2, 0x100), 0x100),
            Segment {
                write: true,
                ..segment(0x10_5000, Vec::new(), 0x8000)
            },
        ],
    }
}

/// A program linked like the kernel: code, constants, data with a zeroed tail.
pub fn kernel() -> Executable {
    let base = bootinfo::KERNEL_VIRT_BASE;
    Executable {
        entry: base + 0x10,
        segments: vec![
            Segment {
                execute: true,
                ..segment(base, pattern(3, 0x3001), 0x3001)
            },
            segment(base + 0x4000, pattern(4, 0x800), 0x800),
            Segment {
                write: true,
                ..segment(base + 0x6000, pattern(5, 0x1234), 0x4_0000)
            },
        ],
    }
}

/// Both as files.
pub fn inputs() -> (Vec<u8>, Vec<u8>) {
    let write = |program: Executable| program.write(None).expect("a valid program");
    (write(stage2()), write(kernel()))
}

/// Compatibility masks of [`all_directives`].
pub const SNP: u32 = 1;
pub const NATIVE: u32 = 2;

pub fn platform(mask: u32, platform_type: IgvmPlatformType) -> IgvmPlatformHeader {
    IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
        compatibility_mask: mask,
        highest_vtl: if platform_type == IgvmPlatformType::SEV_SNP {
            2
        } else {
            0
        },
        platform_type,
        platform_version: 1,
        shared_gpa_boundary: 0,
    })
}

pub fn page(
    mask: u32,
    gpa: u64,
    flags: IgvmPageDataFlags,
    data_type: IgvmPageDataType,
    data: Vec<u8>,
) -> IgvmDirectiveHeader {
    IgvmDirectiveHeader::PageData {
        gpa,
        compatibility_mask: mask,
        flags,
        data_type,
        data,
    }
}

pub fn vmsa(gpa: u64, vp_index: u16) -> IgvmDirectiveHeader {
    let mut vmsa = SevVmsa::new_box_zeroed().expect("memory for a page");
    vmsa.rip = 0x10_1000;
    vmsa.cr0 = 0x11;
    vmsa.cs.selector = 8;
    IgvmDirectiveHeader::SnpVpContext {
        gpa,
        compatibility_mask: SNP,
        vp_index,
        vmsa,
    }
}

/// Every kind of directive that has to do with the measurement, for SEV-SNP and for a
/// second platform whose pages must leave no trace.
pub fn all_directives() -> Vec<IgvmDirectiveHeader> {
    let none = IgvmPageDataFlags::new();
    let normal = IgvmPageDataType::NORMAL;
    vec![
        IgvmDirectiveHeader::RequiredMemory {
            gpa: 0x10_0000,
            compatibility_mask: SNP | NATIVE,
            number_of_bytes: 0x20_0000,
            vtl2_protectable: false,
        },
        IgvmDirectiveHeader::ParameterArea {
            number_of_bytes: 0x3000,
            parameter_area_index: 0,
            initial_data: Vec::new(),
        },
        IgvmDirectiveHeader::ParameterArea {
            number_of_bytes: 0x1000,
            parameter_area_index: 1,
            initial_data: pattern(6, 0x1000),
        },
        IgvmDirectiveHeader::MemoryMap(IGVM_VHS_PARAMETER {
            parameter_area_index: 0,
            byte_offset: 0,
        }),
        IgvmDirectiveHeader::VpCount(IGVM_VHS_PARAMETER {
            parameter_area_index: 1,
            byte_offset: 8,
        }),
        page(SNP | NATIVE, 0x10_0000, none, normal, pattern(7, 0x1000)),
        page(SNP, 0x10_1000, none, normal, pattern(8, 0x1000)),
        page(NATIVE, 0x10_1000, none, normal, pattern(9, 0x1000)),
        page(SNP, 0x10_2000, none, normal, Vec::new()),
        page(SNP, 0x10_3000, none, normal, vec![0; 0x1000]),
        page(
            SNP,
            0x10_4000,
            none.with_unmeasured(true),
            normal,
            pattern(10, 0x1000),
        ),
        page(
            SNP,
            0x10_5000,
            none.with_shared(true),
            normal,
            pattern(11, 0x1000),
        ),
        page(SNP, 0x10_6000, none, IgvmPageDataType::SECRETS, Vec::new()),
        page(
            SNP,
            0x10_7000,
            none,
            IgvmPageDataType::CPUID_DATA,
            pattern(12, 0x1000),
        ),
        page(SNP, 0x10_8000, none, IgvmPageDataType::CPUID_XF, Vec::new()),
        IgvmDirectiveHeader::ParameterInsert(IGVM_VHS_PARAMETER_INSERT {
            gpa: 0x20_0000,
            compatibility_mask: SNP,
            parameter_area_index: 0,
        }),
        IgvmDirectiveHeader::ParameterInsert(IGVM_VHS_PARAMETER_INSERT {
            gpa: 0x30_0000,
            compatibility_mask: NATIVE,
            parameter_area_index: 1,
        }),
        page(SNP, 0x8_0000_0000, none, normal, pattern(13, 0x1000)),
        vmsa(VMSA_GPA, 0),
    ]
}

/// A file with these directives, for SEV-SNP and the native platform.
pub fn snp_file(directives: Vec<IgvmDirectiveHeader>) -> IgvmFile {
    IgvmFile::new(
        IgvmRevision::V1,
        vec![
            platform(SNP, IgvmPlatformType::SEV_SNP),
            platform(NATIVE, IgvmPlatformType::NATIVE),
        ],
        vec![IgvmInitializationHeader::GuestPolicy {
            policy: 0x3_0000,
            compatibility_mask: SNP,
        }],
        directives,
    )
    .expect("a valid file")
}

pub fn serialized(file: &IgvmFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.serialize(&mut bytes).expect("serializes");
    bytes
}
