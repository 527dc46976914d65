//! The boot image as an IGVM file.
//!
//! Order of the directives: required memory, the memory map parameter, all pages
//! ascending, the platform's own pages, the CPU state. Pages of zeroes carry their
//! zeroes (the file keeps one copy), because loaders differ in what they measure for a
//! page without data.

use crate::PAGE_SIZE;
use crate::boot_image::{BootImage, ImageBuildError, MemoryMapSource};
use crate::features::{self, FeatureError};
use crate::platform::Platform;
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmRevision};
use igvm_defs::{
    IGVM_VHS_PARAMETER, IGVM_VHS_PARAMETER_INSERT, IgvmPageDataFlags, IgvmPageDataType,
};

/// Why no IGVM file was written.
#[derive(Debug, thiserror::Error)]
pub enum IgvmWriteError {
    /// The image cannot be composed.
    #[error(transparent)]
    Image(#[from] ImageBuildError),
    /// The kernel is no production kernel.
    #[error("kernel: {0}")]
    Features(#[from] FeatureError),
    /// The file format has no room for it.
    #[error("cannot write IGVM file: {0}")]
    Format(#[from] igvm::Error),
    /// More than a 32-bit size field can say.
    #[error("boot image is too large")]
    Size,
}

/// Composes the image for `platform` and writes it.
pub fn build(
    stage2: &[u8],
    kernel: &[u8],
    platform: &dyn Platform,
) -> Result<Vec<u8>, IgvmWriteError> {
    if platform.isolates() {
        features::check_production(kernel)?;
    }
    let image = BootImage::compose(
        stage2,
        kernel,
        platform.number(),
        MemoryMapSource::IgvmParameter,
    )?;
    write(&image, platform)
}

/// Index of the only parameter area.
const MEMORY_MAP_AREA: u32 = 0;

/// Writes an image.
pub fn write(image: &BootImage, platform: &dyn Platform) -> Result<Vec<u8>, IgvmWriteError> {
    let mask = platform.mask();
    let whole = image.parameters.image;
    let memory_map = image.parameters.memory_map;
    let mut directives = vec![
        IgvmDirectiveHeader::RequiredMemory {
            gpa: whole.start,
            compatibility_mask: mask,
            number_of_bytes: u32::try_from(whole.size).map_err(|_| IgvmWriteError::Size)?,
            vtl2_protectable: false,
        },
        IgvmDirectiveHeader::ParameterArea {
            number_of_bytes: PAGE_SIZE,
            parameter_area_index: MEMORY_MAP_AREA,
            initial_data: Vec::new(),
        },
        IgvmDirectiveHeader::MemoryMap(IGVM_VHS_PARAMETER {
            parameter_area_index: MEMORY_MAP_AREA,
            byte_offset: 0,
        }),
        IgvmDirectiveHeader::ParameterInsert(IGVM_VHS_PARAMETER_INSERT {
            gpa: memory_map.start,
            compatibility_mask: mask,
            parameter_area_index: MEMORY_MAP_AREA,
        }),
    ];
    directives.extend(
        image
            .pages()
            .map(|(gpa, data)| IgvmDirectiveHeader::PageData {
                gpa,
                compatibility_mask: mask,
                flags: IgvmPageDataFlags::new(),
                data_type: IgvmPageDataType::NORMAL,
                data,
            }),
    );
    directives.extend(platform.extra_pages(image));
    directives.push(platform.vp_context(image));
    let file = IgvmFile::new(
        // The loaders in use read version 1; version 2 is still being worked on.
        IgvmRevision::V1,
        vec![platform.header()],
        platform.initialization(),
        directives,
    )?;
    let mut bytes = Vec::new();
    file.serialize(&mut bytes)?;
    Ok(bytes)
}
