//! What the launch digest depends on, and what it does not depend on.

mod common;

use common::{SNP, all_directives, inputs, page, pattern, platform, serialized, vmsa};
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmRevision};
use igvm_defs::{IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType};
use igvmbuilder::igvm_reader::IgvmReadError;
use igvmbuilder::measure::{DIGEST_SIZE, MeasureError, Options, Platform, VMSA_GPA, measure};
use igvmbuilder::platform::Native;
use igvmbuilder::{igvm_file, igvm_reader};

fn try_measure(
    directives: Vec<IgvmDirectiveHeader>,
    options: &Options,
) -> Result<[u8; DIGEST_SIZE], MeasureError> {
    measure(&common::snp_file(directives), options)
}

fn digest(directives: Vec<IgvmDirectiveHeader>) -> [u8; DIGEST_SIZE] {
    try_measure(directives, &Options::default()).expect("a digest")
}

fn normal_page(gpa: u64, data: Vec<u8>) -> IgvmDirectiveHeader {
    let none = IgvmPageDataFlags::new();
    page(SNP, gpa, none, IgvmPageDataType::NORMAL, data)
}

/// The expected values come from the GCTX class of sev-snp-measure 0.0.13, by way of
/// `scripts/check-measurement.py`.
#[test]
fn digests_are_those_of_an_independent_implementation() {
    let bytes = serialized(&common::snp_file(all_directives()));
    let file = igvm_reader::read(&bytes).expect("reads");
    for (native_zero, expected) in [
        (
            false,
            "e06dcad8e00626941265fff47b84da97c9715713c8e442b1b7b5dfbf938bec38\
             21f2bcbef7b0451f064eae2daa2b6fa9",
        ),
        (
            true,
            "d807481c3ceb5a6b97f97678ce7f1536a860d480bf18c6e129fa041fa3faf03e\
             52fc538580910acbd524d135538effa0",
        ),
    ] {
        let options = Options {
            native_zero,
            ..Options::default()
        };
        let digest = measure(&file, &options).expect("a digest");
        assert_eq!(hex::encode(digest), expected);
    }
}

#[test]
fn nothing_loaded_is_the_initial_digest() {
    assert_eq!(digest(Vec::new()), [0; DIGEST_SIZE]);
}

#[test]
fn every_measured_thing_changes_the_digest() {
    let good = digest(all_directives());
    let mut changed = 0;
    for index in 0..all_directives().len() {
        let mut directives = all_directives();
        let measured = match &mut directives[index] {
            IgvmDirectiveHeader::PageData {
                gpa,
                compatibility_mask,
                flags,
                ..
            } => {
                *gpa += 0x1000_0000;
                *compatibility_mask & SNP != 0 && !flags.shared()
            }
            IgvmDirectiveHeader::ParameterInsert(insert) => {
                insert.gpa += 0x1000_0000;
                insert.compatibility_mask & SNP != 0
            }
            IgvmDirectiveHeader::SnpVpContext { vmsa, .. } => {
                vmsa.rip += 1;
                true
            }
            // The area inserted for SEV-SNP.
            IgvmDirectiveHeader::ParameterArea {
                number_of_bytes, ..
            } => {
                *number_of_bytes += 0x1000;
                index == 1
            }
            IgvmDirectiveHeader::RequiredMemory { gpa, .. } => {
                *gpa += 0x1000_0000;
                false
            }
            IgvmDirectiveHeader::MemoryMap(parameter) | IgvmDirectiveHeader::VpCount(parameter) => {
                parameter.byte_offset += 8;
                false
            }
            other => panic!("unexpected directive {other}"),
        };
        assert_eq!(digest(directives) != good, measured, "directive {index}");
        changed += usize::from(measured);
    }
    assert_eq!(changed, 12);
}

#[test]
fn contents_count_for_normal_pages_only() {
    let good = digest(all_directives());
    for index in 0..all_directives().len() {
        let mut directives = all_directives();
        let IgvmDirectiveHeader::PageData {
            data,
            compatibility_mask,
            flags,
            data_type,
            ..
        } = &mut directives[index]
        else {
            continue;
        };
        data.resize(4096, 0);
        data[4095] ^= 1;
        let measured = *data_type == IgvmPageDataType::NORMAL
            && *compatibility_mask & SNP != 0
            && !flags.shared()
            && !flags.unmeasured();
        assert_eq!(digest(directives) != good, measured, "directive {index}");
    }
}

#[test]
fn order_of_pages_counts() {
    let first = || normal_page(0x1000, pattern(1, 4096));
    let second = || normal_page(0x2000, pattern(2, 4096));
    assert_ne!(
        digest(vec![first(), second()]),
        digest(vec![second(), first()])
    );
}

#[test]
fn page_without_data_is_a_page_of_zeroes_unless_told_otherwise() {
    let empty = || vec![normal_page(0x1000, Vec::new())];
    let zeroes = || vec![normal_page(0x1000, vec![0; 4096])];
    let native_zero = Options {
        native_zero: true,
        ..Options::default()
    };
    assert_eq!(digest(empty()), digest(zeroes()));
    let with_zero_page = try_measure(empty(), &native_zero).expect("a digest");
    assert_ne!(with_zero_page, digest(zeroes()));
    // Spelled-out zeroes are the same under both rules: why our images have them.
    let spelled_out = try_measure(zeroes(), &native_zero).expect("a digest");
    assert_eq!(spelled_out, digest(zeroes()));
}

#[test]
fn native_platform_is_measured_where_there_is_no_other() {
    let (stage2, kernel) = inputs();
    let build = |kernel: &[u8]| {
        let bytes = igvm_file::build(&stage2, kernel, &Native).expect("builds");
        let file = igvm_reader::read(&bytes).expect("reads");
        let options = |platform| Options {
            check_kvm: true,
            platform,
            ..Options::default()
        };
        let digest = measure(&file, &options(None)).expect("a digest");
        let native = measure(&file, &options(Some(Platform::Native))).expect("a digest");
        assert_eq!(digest, native);
        assert!(matches!(
            measure(&file, &options(Some(Platform::Snp))),
            Err(MeasureError::Read(_))
        ));
        digest
    };
    assert_eq!(build(&kernel), build(&kernel));
    let mut other = common::kernel();
    other.segments[1].data[0] ^= 1;
    assert_ne!(build(&kernel), build(&other.write(None).expect("writes")));

    // With both platforms in the file, each has its own digest.
    let both = || vec![normal_page(0x1000, pattern(1, 4096)), vmsa(VMSA_GPA, 0)];
    let native = Options {
        platform: Some(Platform::Native),
        ..Options::default()
    };
    assert_eq!(try_measure(both(), &native).expect("a digest"), [0; 48]);
    assert_ne!(digest(both()), [0; 48]);
}

#[test]
fn native_cpu_state_counts() {
    let (stage2, kernel) = inputs();
    let bytes = igvm_file::build(&stage2, &kernel, &Native).expect("builds");
    let file = igvm_reader::read(&bytes).expect("reads");
    let mut directives = file.directives().to_vec();
    let Some(IgvmDirectiveHeader::X64NativeVpContext { context, .. }) = directives.last_mut()
    else {
        panic!("the CPU state comes last");
    };
    context.rip += 1;
    let changed = IgvmFile::new(
        IgvmRevision::V1,
        file.platforms().to_vec(),
        Vec::new(),
        directives,
    )
    .expect("a valid file");
    let digest = |file| measure(file, &Options::default()).expect("a digest");
    assert_ne!(digest(&file), digest(&changed));
}

#[test]
fn what_kvm_would_do_otherwise_is_refused_on_request() {
    let options = Options {
        check_kvm: true,
        ..Options::default()
    };
    let good = || vec![normal_page(0x1000, pattern(1, 4096)), vmsa(VMSA_GPA, 0)];
    assert_eq!(
        try_measure(good(), &options).expect("a digest"),
        digest(good())
    );
    let shared = page(
        SNP,
        0x2000,
        IgvmPageDataFlags::new().with_shared(true),
        IgvmPageDataType::NORMAL,
        Vec::new(),
    );
    let refused = [
        ("no CPU state", vec![normal_page(0x1000, Vec::new())]),
        ("two CPU states", vec![vmsa(VMSA_GPA, 0), vmsa(VMSA_GPA, 0)]),
        ("another CPU", vec![vmsa(VMSA_GPA, 1)]),
        ("another address", vec![vmsa(0x1000, 0)]),
        (
            "CPU state first",
            vec![vmsa(VMSA_GPA, 0), normal_page(0x1000, Vec::new())],
        ),
        ("shared page", vec![shared, vmsa(VMSA_GPA, 0)]),
    ];
    for (name, directives) in refused {
        assert!(
            matches!(
                try_measure(directives.clone(), &options),
                Err(MeasureError::Kvm(_))
            ),
            "{name}"
        );
        assert!(
            try_measure(directives, &Options::default()).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn large_page_is_refused() {
    let flags = IgvmPageDataFlags::new().with_is_2mb_page(true);
    let large = page(SNP, 0, flags, IgvmPageDataType::NORMAL, Vec::new());
    assert!(matches!(
        try_measure(vec![large], &Options::default()),
        Err(MeasureError::PageSize(0))
    ));
}

#[test]
fn platforms_that_share_a_mask_are_refused() {
    let file = IgvmFile::new(
        IgvmRevision::V1,
        vec![
            platform(SNP, IgvmPlatformType::SEV_SNP),
            platform(SNP, IgvmPlatformType::NATIVE),
        ],
        Vec::new(),
        Vec::new(),
    )
    .expect("the format crate lets it pass");
    assert!(matches!(
        measure(&file, &Options::default()),
        Err(MeasureError::Read(IgvmReadError::AmbiguousMask))
    ));
}
