//! Reads IGVM files that somebody else may have made or damaged.
//!
//! The format crate trusts offsets and a few counts in a file. [`read`] first walks the
//! headers itself and refuses every file on which that trust would fail, and every
//! header that these tools have no use for.

use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmPlatformHeader};
use igvm_defs::{
    IGVM_FIXED_HEADER, IGVM_FORMAT_VERSION_1, IGVM_FORMAT_VERSION_2, IGVM_MAGIC_VALUE,
    IGVM_VHS_PAGE_DATA, IGVM_VHS_PARAMETER_AREA, IGVM_VHS_SUPPORTED_PLATFORM,
    IGVM_VHS_VARIABLE_HEADER, IGVM_VHS_VP_CONTEXT, IgvmPlatformType, IgvmVariableHeaderType,
    PAGE_SIZE_4K,
};
use zerocopy::FromBytes;

/// Largest file that is read, in bytes.
pub const MAX_FILE_SIZE: usize = 256 << 20;

/// Largest parameter area, in bytes.
const MAX_PARAMETER_AREA: u64 = 16 << 20;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum IgvmReadError {
    /// Too small, too large, wrong magic number, or sizes that contradict each other.
    #[error("not a valid IGVM file: {0}")]
    File(&'static str),
    /// A header is cut off, or refers to data outside the file.
    #[error("IGVM header at offset {0:#x} is damaged")]
    Header(usize),
    /// A header of a type these tools do not know.
    #[error("IGVM header at offset {offset:#x} has type {kind:#x}, which is not supported")]
    Unsupported {
        /// Where in the file.
        offset: usize,
        /// Type or platform number.
        kind: u32,
    },
    /// The format crate refuses it.
    #[error("not a valid IGVM file: {0}")]
    Format(#[from] igvm::Error),
    /// The file has no header for this platform.
    #[error("IGVM file does not support platform {0}")]
    Platform(&'static str),
    /// Two platforms share a compatibility mask.
    #[error("IGVM file gives two platforms the same compatibility mask")]
    AmbiguousMask,
}

/// Reads a file, all platforms.
pub fn read(file: &[u8]) -> Result<IgvmFile, IgvmReadError> {
    screen(file)?;
    Ok(IgvmFile::new_from_binary(file, None)?)
}

/// The compatibility mask of a platform, if the file names it.
pub fn platform_mask(
    file: &IgvmFile,
    platform: IgvmPlatformType,
) -> Result<Option<u32>, IgvmReadError> {
    let mut seen = 0;
    let mut found = None;
    for IgvmPlatformHeader::SupportedPlatform(header) in file.platforms() {
        // The format crate refuses a platform that comes twice, but not a mask.
        if seen & header.compatibility_mask != 0 {
            return Err(IgvmReadError::AmbiguousMask);
        }
        seen |= header.compatibility_mask;
        if header.platform_type == platform {
            found = Some(header.compatibility_mask);
        }
    }
    Ok(found)
}

/// The directives that apply to a platform; those without a mask apply to all.
pub fn directives(file: &IgvmFile, mask: u32) -> impl Iterator<Item = &IgvmDirectiveHeader> {
    file.directives()
        .iter()
        .filter(move |header| header.compatibility_mask().is_none_or(|m| m & mask != 0))
}

/// Checks what the format crate takes on trust.
fn screen(file: &[u8]) -> Result<(), IgvmReadError> {
    use IgvmReadError::{File, Header, Unsupported};
    if file.len() > MAX_FILE_SIZE {
        return Err(File("larger than 256 MiB"));
    }
    let (fixed, _) = IGVM_FIXED_HEADER::read_from_prefix(file).map_err(|_| File("cut off"))?;
    if fixed.magic != IGVM_MAGIC_VALUE {
        return Err(File("wrong magic number"));
    }
    let fixed_size = match fixed.format_version {
        IGVM_FORMAT_VERSION_1 => 24,
        IGVM_FORMAT_VERSION_2 => 32,
        _ => return Err(File("unknown format version")),
    };
    if fixed.total_file_size as usize != file.len() {
        return Err(File("its size is not what its header says"));
    }
    let start = fixed.variable_header_offset as usize;
    let data_start = start
        .checked_add(fixed.variable_header_size as usize)
        .filter(|end| *end < file.len())
        .ok_or(File("headers do not fit the file"))?;
    if start < fixed_size || !start.is_multiple_of(8) {
        return Err(File("headers are out of place"));
    }

    // Data of a header: none, or a range behind the headers.
    let data_fits = |offset: u32, size: u64| {
        offset == 0
            || offset as usize >= data_start
                && (u64::from(offset).checked_add(size)).is_some_and(|e| e <= file.len() as u64)
    };
    let mut offset = start;
    while offset < data_start {
        let headers = &file[offset..data_start];
        let (header, body) =
            IGVM_VHS_VARIABLE_HEADER::read_from_prefix(headers).map_err(|_| Header(offset))?;
        let body = body.get(..header.length as usize).ok_or(Header(offset))?;
        use IgvmVariableHeaderType as Type;
        let good = match header.typ {
            Type::IGVM_VHT_SUPPORTED_PLATFORM => {
                let body = IGVM_VHS_SUPPORTED_PLATFORM::read_from_bytes(body)
                    .map_err(|_| Header(offset))?;
                // VBS contexts are lists of registers, which nothing here reads.
                if body.platform_type == IgvmPlatformType::VSM_ISOLATION {
                    let kind = body.platform_type.0.into();
                    return Err(Unsupported { offset, kind });
                }
                true
            }
            Type::IGVM_VHT_PAGE_DATA => IGVM_VHS_PAGE_DATA::read_from_bytes(body)
                .is_ok_and(|page| data_fits(page.file_offset, PAGE_SIZE_4K)),
            Type::IGVM_VHT_PARAMETER_AREA => IGVM_VHS_PARAMETER_AREA::read_from_bytes(body)
                .is_ok_and(|area| {
                    area.number_of_bytes <= MAX_PARAMETER_AREA
                        && data_fits(area.file_offset, area.number_of_bytes)
                }),
            Type::IGVM_VHT_VP_CONTEXT => IGVM_VHS_VP_CONTEXT::read_from_bytes(body)
                .is_ok_and(|c| c.file_offset != 0 && data_fits(c.file_offset, PAGE_SIZE_4K)),
            Type::IGVM_VHT_GUEST_POLICY
            | Type::IGVM_VHT_PARAMETER_INSERT
            | Type::IGVM_VHT_REQUIRED_MEMORY
            | Type::IGVM_VHT_VP_COUNT_PARAMETER
            | Type::IGVM_VHT_SRAT
            | Type::IGVM_VHT_MADT
            | Type::IGVM_VHT_SLIT
            | Type::IGVM_VHT_PPTT
            | Type::IGVM_VHT_MMIO_RANGES
            | Type::IGVM_VHT_SNP_ID_BLOCK
            | Type::IGVM_VHT_MEMORY_MAP
            | Type::IGVM_VHT_ERROR_RANGE
            | Type::IGVM_VHT_COMMAND_LINE
            | Type::IGVM_VHT_DEVICE_TREE
            | Type::IGVM_VHT_ENVIRONMENT_INFO_PARAMETER => true,
            other => {
                let kind = other.0;
                return Err(Unsupported { offset, kind });
            }
        };
        if !good {
            return Err(Header(offset));
        }
        // Padding belongs to the header and must be there.
        offset = (size_of::<IGVM_VHS_VARIABLE_HEADER>() + body.len())
            .checked_next_multiple_of(8)
            .and_then(|size| offset.checked_add(size))
            .filter(|end| *end <= data_start)
            .ok_or(Header(offset))?;
    }
    Ok(())
}
