//! The page that tells stage2 what else is in its boot image.
//!
//! `igvmbuilder` writes it at [`PARAMETERS_ADDRESS`], one page below stage2; stage2
//! believes nothing in it before [`LoaderParameters::validate`] has passed. It is
//! part of the measured image. Addresses are physical.

use crate::{PhysRange, platform};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where the parameter page lies.
pub const PARAMETERS_ADDRESS: u64 = 0x10_0000;

/// Where stage2 is linked and starts (see `stage2/stage2.lds`).
pub const STAGE2_ADDRESS: u64 = 0x10_1000;

/// "SVSMLOAD", little endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SVSMLOAD");

/// Layout version of [`LoaderParameters`]; grows with every change.
pub const VERSION: u32 = 1;

/// Memory below this address is all that stage2 can reach.
pub const REACHABLE_END: u64 = 4 << 30;

/// What stage2 needs to know about its boot image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoaderParameters {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Size of this structure in bytes.
    pub size: u32,
    /// One of [`platform`].
    pub platform: u32,
    /// Zero.
    pub reserved: u32,
    /// All that the boot image occupies: this page, stage2 with its zeroed data, the
    /// payload and the memory map.
    pub image: PhysRange,
    /// The kernel's ELF file, to the byte.
    pub payload: PhysRange,
    /// Where an IGVM loader puts the memory map (`IGVM_VHS_MEMORY_MAP_ENTRY`); size 0
    /// in a PVH image, whose memory map comes with `hvm_start_info`.
    pub memory_map: PhysRange,
}

const _: () = assert!(size_of::<LoaderParameters>() == 0x48);

/// Why a parameter page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error("parameter page has a wrong magic number")]
    Magic,
    #[error("parameter page has version {0}, this stage2 needs version {VERSION}")]
    Version(u32),
    #[error("parameter page is {0} bytes long")]
    Size(u32),
    #[error("platform {0} is not supported")]
    Platform(u32),
    #[error("parameter page is inconsistent: {0}")]
    Layout(&'static str),
}

impl LoaderParameters {
    /// Parameters of an image that occupies `image`, still without payload and memory map.
    pub fn new(platform: u32, image: PhysRange) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            size: size_of::<Self>() as u32,
            platform,
            reserved: 0,
            image,
            payload: PhysRange::default(),
            memory_map: PhysRange::default(),
        }
    }

    /// Checks everything that stage2 relies on. `stage2` is what stage2 itself
    /// occupies, including its zeroed data.
    pub fn validate(&self, stage2: &PhysRange) -> Result<(), ParameterError> {
        use ParameterError::Layout;
        if self.magic != MAGIC {
            return Err(ParameterError::Magic);
        }
        if self.version != VERSION {
            return Err(ParameterError::Version(self.version));
        }
        if self.size as usize != size_of::<Self>() {
            return Err(ParameterError::Size(self.size));
        }
        if self.platform != platform::NATIVE {
            return Err(ParameterError::Platform(self.platform));
        }
        if self.reserved != 0 {
            return Err(Layout("reserved field is not zero"));
        }
        if self.image.start != PARAMETERS_ADDRESS || self.image.end() > REACHABLE_END {
            return Err(Layout("image is out of place"));
        }
        if !self.image.contains(stage2)
            || !self.image.contains(&self.payload)
            || !self.image.contains(&self.memory_map) && self.memory_map.size != 0
        {
            return Err(Layout("a part lies outside the image"));
        }
        if self.payload.size == 0 {
            return Err(Layout("there is no payload"));
        }
        // Everything below the end of stage2 is the parameter page and stage2.
        if self.payload.start < stage2.end()
            || self.memory_map.size != 0 && self.memory_map.start < stage2.end()
            || self.payload.overlaps(&self.memory_map)
        {
            return Err(Layout("parts overlap"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE2: PhysRange = PhysRange {
        start: STAGE2_ADDRESS,
        size: 0x2_0000,
    };

    fn sample() -> LoaderParameters {
        LoaderParameters {
            payload: PhysRange {
                start: 0x12_1000,
                size: 0x1234,
            },
            memory_map: PhysRange {
                start: 0x12_3000,
                size: 0x1000,
            },
            ..LoaderParameters::new(
                platform::NATIVE,
                PhysRange {
                    start: PARAMETERS_ADDRESS,
                    size: 0x2_4000,
                },
            )
        }
    }

    #[test]
    fn sample_is_valid_with_and_without_memory_map() {
        let mut parameters = sample();
        assert_eq!(parameters.validate(&STAGE2), Ok(()));
        parameters.memory_map = PhysRange::default();
        assert_eq!(parameters.validate(&STAGE2), Ok(()));
    }

    #[test]
    fn every_broken_field_is_refused() {
        let broken: [fn(&mut LoaderParameters); 15] = [
            |p| p.magic ^= 1,
            |p| p.version += 1,
            |p| p.size += 8,
            |p| p.platform = platform::SNP,
            |p| p.reserved = 1,
            |p| p.image.start += 0x1000,
            |p| p.image.size = REACHABLE_END,
            |p| p.image.size = u64::MAX,
            |p| p.image.size = 0x1000,
            |p| p.payload.size = 0,
            |p| p.payload.size = u64::MAX,
            |p| p.payload.start = STAGE2.end() - 1,
            |p| p.payload.size = 0x2001,
            |p| p.memory_map.start = STAGE2_ADDRESS,
            |p| p.memory_map.size = 0x1001,
        ];
        for (index, breakage) in broken.iter().enumerate() {
            let mut parameters = sample();
            breakage(&mut parameters);
            assert!(parameters.validate(&STAGE2).is_err(), "case {index}");
        }
    }
}
