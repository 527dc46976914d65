//! What lies in memory when stage2 starts, whatever brings it there.
//!
//! From [`PARAMETERS_ADDRESS`] upwards: the parameter page, stage2 with its zeroed
//! data, the kernel's ELF file, and for IGVM the page for the memory map.

use crate::PAGE_SIZE;
use crate::elf_file::{ElfError, Executable, Segment};
use bootinfo::PhysRange;
use bootinfo::loader::{
    LoaderParameters, PARAMETERS_ADDRESS, ParameterError, REACHABLE_END, STAGE2_ADDRESS,
};
use stage2::image::{ImageError, KernelImage};
use zerocopy::IntoBytes;

/// Why there is no boot image.
#[derive(Debug, thiserror::Error)]
pub enum ImageBuildError {
    /// stage2 cannot be read.
    #[error("stage2: {0}")]
    Stage2(#[source] ElfError),
    /// stage2 is not linked where it is loaded.
    #[error("stage2: {0}")]
    Stage2Layout(&'static str),
    /// The kernel cannot be read or stripped.
    #[error("kernel: {0}")]
    Kernel(#[source] ElfError),
    /// stage2 would refuse the kernel.
    #[error("{0}")]
    KernelLayout(String),
    /// stage2 would refuse the parameters.
    #[error("{0}")]
    Parameters(#[from] ParameterError),
}

impl From<ImageError> for ImageBuildError {
    fn from(error: ImageError) -> Self {
        Self::KernelLayout(error.to_string())
    }
}

/// Where the memory map comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMapSource {
    /// `hvm_start_info` of the PVH boot protocol.
    StartInfo,
    /// A page behind the payload that the IGVM loader fills.
    IgvmParameter,
}

/// The composed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootImage {
    /// Address of the 32-bit entry point.
    pub entry: u64,
    /// What has contents or must be zero, ascending, page-aligned addresses.
    pub segments: Vec<Segment>,
    /// What the parameter page says.
    pub parameters: LoaderParameters,
}

impl BootImage {
    /// Composes an image from stage2's and the kernel's ELF files, both of which may
    /// still carry symbols.
    pub fn compose(
        stage2: &[u8],
        kernel: &[u8],
        platform: u32,
        memory_map: MemoryMapSource,
    ) -> Result<Self, ImageBuildError> {
        let stage2 = Executable::parse(stage2).map_err(ImageBuildError::Stage2)?;
        let stage2_range = check_stage2(&stage2)?;
        let kernel = Executable::parse(kernel)
            .and_then(|kernel| kernel.write(None))
            .map_err(ImageBuildError::Kernel)?;
        // The loader's own rules, so that no image is built that it would refuse.
        KernelImage::parse(&kernel)?;

        let payload = PhysRange {
            start: stage2_range.end(),
            size: kernel.len() as u64,
        };
        let payload_end = payload.end().next_multiple_of(PAGE_SIZE);
        let memory_map = match memory_map {
            MemoryMapSource::StartInfo => PhysRange::default(),
            MemoryMapSource::IgvmParameter => PhysRange {
                start: payload_end,
                size: PAGE_SIZE,
            },
        };
        let image = PhysRange {
            start: PARAMETERS_ADDRESS,
            size: payload_end + memory_map.size - PARAMETERS_ADDRESS,
        };
        let parameters = LoaderParameters {
            payload,
            memory_map,
            ..LoaderParameters::new(platform, image)
        };
        parameters.validate(&stage2_range)?;

        let read_only = |address, data: Vec<u8>| Segment {
            address,
            memory_size: (data.len() as u64).next_multiple_of(PAGE_SIZE),
            data,
            write: false,
            execute: false,
        };
        let mut segments = vec![read_only(
            PARAMETERS_ADDRESS,
            parameters.as_bytes().to_vec(),
        )];
        segments.extend(stage2.segments);
        segments.push(read_only(payload.start, kernel));
        Ok(Self {
            entry: stage2.entry,
            segments,
            parameters,
        })
    }

    /// Every page of the image with its address, zeroed ones included.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.segments.iter().flat_map(|segment| {
            (segment.address..segment.end())
                .step_by(PAGE_SIZE as usize)
                .map(|address| {
                    let start = (address - segment.address) as usize;
                    let rest = segment.data.get(start..).unwrap_or_default();
                    let mut page = rest[..rest.len().min(PAGE_SIZE as usize)].to_vec();
                    page.resize(PAGE_SIZE as usize, 0);
                    (address, page)
                })
        })
    }
}

/// Checks that stage2 is one ascending piece that starts with its entry point, and
/// returns what it occupies.
fn check_stage2(stage2: &Executable) -> Result<PhysRange, ImageBuildError> {
    let wrong = ImageBuildError::Stage2Layout;
    let mut end = STAGE2_ADDRESS;
    for segment in &stage2.segments {
        if !segment.address.is_multiple_of(PAGE_SIZE) || segment.address < end {
            return Err(wrong("segments are not page-aligned and ascending"));
        }
        end = segment.end();
        if end > REACHABLE_END {
            return Err(wrong("linked above 4 GiB"));
        }
    }
    if stage2.entry != STAGE2_ADDRESS
        || !stage2
            .segments
            .first()
            .is_some_and(|first| first.address == STAGE2_ADDRESS && first.execute)
    {
        return Err(wrong("not linked one page above its parameter page"));
    }
    Ok(PhysRange {
        start: STAGE2_ADDRESS,
        size: end - STAGE2_ADDRESS,
    })
}
