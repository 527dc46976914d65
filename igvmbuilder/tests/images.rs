//! What the boot images promise: they hold the inputs, all of them, in place, and
//! nothing that changes from build to build.

mod common;

use bootinfo::loader::{LoaderParameters, PARAMETERS_ADDRESS};
use bootinfo::{PhysRange, platform};
use common::{inputs, kernel, stage2};
use elf::abi::PT_NOTE;
use igvm::{
    IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IsolationType,
};
use igvm_defs::{IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType};
use igvmbuilder::boot_image::{BootImage, MemoryMapSource};
use igvmbuilder::elf_file::Executable;
use igvmbuilder::platform::{Native, Platform};
use igvmbuilder::{flatten, igvm_file, pvh};
use std::collections::BTreeMap;
use zerocopy::FromBytes;

const PAGE: usize = 4096;

fn igvm_bytes() -> Vec<u8> {
    let (stage2, kernel) = inputs();
    igvm_file::build(&stage2, &kernel, &Native).expect("builds")
}

fn pvh_bytes() -> Vec<u8> {
    let (stage2, kernel) = inputs();
    let image = BootImage::compose(
        &stage2,
        &kernel,
        platform::NATIVE,
        MemoryMapSource::StartInfo,
    )
    .expect("composes");
    pvh::write(&image).expect("writes")
}

/// Memory as a loader would leave it, by address of the page.
type Memory = BTreeMap<u64, Vec<u8>>;

fn memory_of(executable: &Executable) -> Memory {
    let mut memory = Memory::new();
    for segment in &executable.segments {
        let mut bytes = segment.data.clone();
        bytes.resize((segment.end() - segment.address) as usize, 0);
        for (index, page) in bytes.chunks(PAGE).enumerate() {
            memory.insert(segment.address + (index * PAGE) as u64, page.to_vec());
        }
    }
    memory
}

fn bytes_at(memory: &Memory, range: PhysRange) -> Vec<u8> {
    (range.start..range.end())
        .map(|address| memory[&(address & !0xfff)][address as usize % PAGE])
        .collect()
}

/// Checks parameter page, stage2 and payload, whoever loaded them.
fn check_memory(memory: &Memory) -> LoaderParameters {
    let (parameters, rest) =
        LoaderParameters::read_from_prefix(&memory[&PARAMETERS_ADDRESS]).expect("parameters");
    assert!(rest.iter().all(|byte| *byte == 0));
    for (address, page) in memory_of(&stage2()) {
        assert_eq!(memory[&address], page, "stage2 at {address:#x}");
    }
    let stage2_end = stage2().segments[2].end();
    let occupied = PhysRange {
        start: 0x10_1000,
        size: stage2_end - 0x10_1000,
    };
    assert_eq!(parameters.validate(&occupied), Ok(()));
    // The payload is an ELF file with the kernel's segments and nothing else.
    let payload = Executable::parse(&bytes_at(memory, parameters.payload)).expect("a kernel");
    assert_eq!(payload, kernel());
    // Every page of the image is there, and no page outside of it.
    let last = memory.keys().last().expect("pages") + PAGE as u64;
    assert_eq!(memory.keys().next(), Some(&PARAMETERS_ADDRESS));
    assert_eq!(last, parameters.image.end());
    assert_eq!(memory.len() as u64 * PAGE as u64, parameters.image.size);
    parameters
}

#[test]
fn pvh_image_holds_the_inputs() {
    let file = pvh_bytes();
    let executable = Executable::parse(&file).expect("an ELF file");
    assert_eq!(executable.entry, stage2().entry);
    let parameters = check_memory(&memory_of(&executable));
    assert_eq!(parameters.memory_map.size, 0);
    let elf = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&file).expect("parses");
    let notes = elf.segments().expect("segments");
    assert_eq!(notes.iter().filter(|h| h.p_type == PT_NOTE).count(), 1);
    assert!(elf.section_headers().is_none(), "no symbols are left");
}

#[test]
fn igvm_file_read_back_holds_the_inputs() {
    let file = IgvmFile::new_from_binary(&igvm_bytes(), Some(IsolationType::NotIsolated))
        .expect("the format crate reads it");
    let [IgvmPlatformHeader::SupportedPlatform(header)] = file.platforms() else {
        panic!("one platform");
    };
    assert_eq!(header.platform_type, IgvmPlatformType::NATIVE);
    assert!(file.initializations().is_empty());

    let mut memory = Memory::new();
    let (mut required, mut inserted, mut entry, mut map_area) = (None, None, None, None);
    let mut areas = Vec::new();
    for directive in file.directives() {
        if let Some(mask) = directive.compatibility_mask() {
            assert_eq!(mask, header.compatibility_mask);
        }
        match directive {
            IgvmDirectiveHeader::PageData {
                gpa,
                flags,
                data_type,
                data,
                ..
            } => {
                assert_eq!(*data_type, IgvmPageDataType::NORMAL);
                assert_eq!(flags.into_bits(), 0);
                assert_eq!(data.len(), PAGE, "zeroes are spelled out");
                assert!(memory.insert(*gpa, data.clone()).is_none(), "loaded twice");
            }
            IgvmDirectiveHeader::RequiredMemory {
                gpa,
                number_of_bytes,
                ..
            } => {
                required = Some(PhysRange {
                    start: *gpa,
                    size: (*number_of_bytes).into(),
                });
            }
            IgvmDirectiveHeader::ParameterArea {
                number_of_bytes,
                parameter_area_index,
                ..
            } => areas.push((*parameter_area_index, *number_of_bytes)),
            IgvmDirectiveHeader::MemoryMap(parameter) => {
                assert_eq!(parameter.byte_offset, 0);
                map_area = Some(parameter.parameter_area_index);
            }
            IgvmDirectiveHeader::ParameterInsert(insert) => inserted = Some(*insert),
            IgvmDirectiveHeader::X64NativeVpContext {
                vp_index, context, ..
            } => {
                assert_eq!(*vp_index, 0);
                entry = Some(context.clone());
            }
            other => panic!("unexpected directive {other}"),
        }
    }
    let context = entry.expect("a CPU state");
    assert_eq!(context.rip, stage2().entry);
    assert_eq!((context.cr0, context.rflags, context.efer), (0x11, 2, 0));
    assert_eq!(
        (
            context.code_attributes,
            context.code_limit,
            context.code_base
        ),
        (0xc09b, u32::MAX, 0)
    );
    assert_eq!(
        (
            context.data_attributes,
            context.data_limit,
            context.data_base
        ),
        (0xc093, u32::MAX, 0)
    );
    let inserted = inserted.expect("a memory map page");
    assert_eq!(areas, [(inserted.parameter_area_index, PAGE as u64)]);
    assert_eq!(map_area, Some(inserted.parameter_area_index));
    assert!(memory.insert(inserted.gpa, vec![0; PAGE]).is_none());
    let parameters = check_memory(&memory);
    assert_eq!(parameters.memory_map.start, inserted.gpa);
    assert_eq!(required, Some(parameters.image));
}

#[test]
fn flattened_file_has_its_pages_and_a_memory_map() {
    let file = flatten::flatten(&igvm_bytes(), 64).expect("flattens");
    let executable = Executable::parse(&file).expect("an ELF file");
    let mut memory = memory_of(&executable);
    // The shim lies behind the image: EBX cleared, jump to stage2.
    let shim = memory.remove(&executable.entry).expect("the entry point");
    assert_eq!(shim[..9], [0x31, 0xdb, 0xb8, 0, 0x10, 0x10, 0, 0xff, 0xe0]);
    let parameters = check_memory(&memory);
    assert_eq!(executable.entry, parameters.image.end());
    let map = stage2::memory_map::MemoryMap::from_igvm(&memory[&parameters.memory_map.start])
        .expect("a memory map");
    let all = PhysRange {
        start: 0,
        size: 64 << 20,
    };
    assert_eq!(map.ranges(), [all]);
    assert!(flatten::flatten(&igvm_bytes(), 0).is_err());
    assert!(flatten::flatten(&igvm_bytes(), 3073).is_err());
}

#[test]
fn file_that_cannot_be_flattened_is_refused() {
    let refused = |directives| {
        let file = common::serialized(&common::snp_file(directives));
        flatten::flatten(&file, 64)
            .expect_err("refused")
            .to_string()
    };
    let normal = |gpa| {
        let none = IgvmPageDataFlags::new();
        let data = vec![1; PAGE];
        common::page(common::NATIVE, gpa, none, IgvmPageDataType::NORMAL, data)
    };
    let says = |message: String, part| assert!(message.contains(part), "{message}");
    says(refused(vec![normal(0x1000)]), "no CPU state");
    says(
        refused(vec![normal(0x1000), normal(0x1000)]),
        "loaded twice",
    );
    says(refused(vec![normal(!0xfff)]), "not below 4 GiB");
    says(refused(vec![normal(0xffff_f000)]), "no CPU state");
    let secrets = common::page(
        common::NATIVE,
        0,
        IgvmPageDataFlags::new(),
        IgvmPageDataType::SECRETS,
        vec![1; PAGE],
    );
    says(refused(vec![secrets]), "secure processor");
}

#[test]
fn same_inputs_give_the_same_bytes() {
    assert_eq!(igvm_bytes(), igvm_bytes());
    assert_eq!(pvh_bytes(), pvh_bytes());
}

#[test]
fn symbols_of_the_inputs_do_not_reach_the_images() {
    let (mut stage2, mut kernel) = inputs();
    let plain = igvm_file::build(&stage2, &kernel, &Native).expect("builds");
    for file in [&mut stage2, &mut kernel] {
        file.extend(b"debugging information /home/somebody");
    }
    let with_symbols = igvm_file::build(&stage2, &kernel, &Native).expect("builds");
    assert!(plain == with_symbols);
}

#[test]
fn kernel_that_stage2_would_refuse_gives_no_image() {
    let (stage2, _) = inputs();
    let breakages: [fn(&mut Executable); 4] = [
        |k| k.segments[0].write = true,
        |k| k.segments[1].address += 0x10,
        |k| k.segments[2].memory_size = 64 << 20,
        |k| k.entry = 0x1000,
    ];
    for breakage in breakages {
        let mut kernel = kernel();
        breakage(&mut kernel);
        let file = kernel.write(None).expect("writes");
        assert!(igvm_file::build(&stage2, &file, &Native).is_err());
    }
    assert!(igvm_file::build(&stage2, b"no kernel", &Native).is_err());
}

#[test]
fn misplaced_stage2_gives_no_image() {
    let (_, kernel) = inputs();
    let breakages: [fn(&mut Executable); 6] = [
        |s| s.entry += 0x10,
        |s| s.segments[0].address += 0x1000,
        |s| s.segments[0].execute = false,
        |s| s.segments.swap(1, 2),
        |s| s.segments[2].memory_size = 4 << 30,
        |s| s.segments.clear(),
    ];
    for breakage in breakages {
        let mut stage2 = stage2();
        breakage(&mut stage2);
        let file = stage2.write(None).expect("writes");
        assert!(igvm_file::build(&file, &kernel, &Native).is_err());
    }
}

/// The native platform, had it isolation.
struct Isolating;

impl Platform for Isolating {
    fn isolates(&self) -> bool {
        true
    }

    fn mask(&self) -> u32 {
        Native.mask()
    }

    fn number(&self) -> u32 {
        Native.number()
    }

    fn header(&self) -> IgvmPlatformHeader {
        Native.header()
    }

    fn initialization(&self) -> Vec<IgvmInitializationHeader> {
        Native.initialization()
    }

    fn extra_pages(&self, image: &BootImage) -> Vec<IgvmDirectiveHeader> {
        Native.extra_pages(image)
    }

    fn vp_context(&self, image: &BootImage) -> IgvmDirectiveHeader {
        Native.vp_context(image)
    }
}

#[test]
fn a_kernel_that_does_not_tell_its_features_gets_no_image_for_a_platform_with_isolation() {
    let (stage2, kernel) = inputs();
    assert!(igvm_file::build(&stage2, &kernel, &Native).is_ok());
    let error = igvm_file::build(&stage2, &kernel, &Isolating).expect_err("is refused");
    assert!(
        error.to_string().contains("does not tell its features"),
        "{error}"
    );
}
