//! The kernel's ELF file, checked.
//!
//! A value of type [`KernelImage`] holds only segments that may be loaded as they are:
//! inside the payload, page-aligned, ascending, not overlapping, inside the kernel's
//! address range, readable, and never both writable and executable.

use crate::PAGE_SIZE;
use bootinfo::{KERNEL_VIRT_BASE, SVSM_REGION_SIZE};
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_TLS};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::{ElfBytes, ParseError};

/// Most segments a kernel may have.
pub const MAX_SEGMENTS: usize = 16;

/// Why a payload is not a kernel.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not an ELF file, or a broken one.
    #[error("kernel is not a valid ELF file: {0}")]
    Elf(ParseError),
    /// An ELF file of another sort.
    #[error("kernel is not a static 64-bit x86 executable")]
    Kind,
    /// More than [`MAX_SEGMENTS`], or none.
    #[error("kernel has {0} loadable segments")]
    Segments(usize),
    /// A segment that cannot be loaded.
    #[error("kernel segment at {address:#x}: {cause}")]
    Segment {
        /// Virtual address of the segment.
        address: u64,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The entry point is not inside an executable segment.
    #[error("kernel entry point {0:#x} is not in executable code")]
    Entry(u64),
}

// `ParseError` has no `PartialEq` and no `core::error::Error` without `std`, so it is
// shown, not chained.
impl From<ParseError> for ImageError {
    fn from(error: ParseError) -> Self {
        Self::Elf(error)
    }
}

/// One loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Distance from the start of the kernel image, in bytes; page-aligned.
    pub offset: u64,
    /// Size in memory in bytes; what `data` does not cover is zero.
    pub size: u64,
    /// Initial contents.
    pub data: &'a [u8],
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

impl Segment<'_> {
    /// First page offset past the segment.
    pub const fn end(&self) -> u64 {
        // Both were checked against the size of the region.
        (self.offset + self.size).next_multiple_of(PAGE_SIZE)
    }
}

/// A kernel that may be loaded.
#[derive(Clone, Debug)]
pub struct KernelImage<'a> {
    segments: [Segment<'a>; MAX_SEGMENTS],
    count: usize,
    entry: u64,
}

impl<'a> KernelImage<'a> {
    /// Checks `file` and takes it apart.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64 || header.e_type != ET_EXEC || header.e_machine != EM_X86_64
        {
            return Err(ImageError::Kind);
        }
        let empty = Segment {
            offset: 0,
            size: 0,
            data: &[],
            write: false,
            execute: false,
        };
        let mut image = Self {
            segments: [empty; MAX_SEGMENTS],
            count: 0,
            entry: header.e_entry,
        };
        let table = elf.segments().ok_or(ImageError::Segments(0))?;
        for program_header in table.iter() {
            match program_header.p_type {
                // Neither relocation nor thread-local storage is done here.
                PT_DYNAMIC | PT_INTERP | PT_TLS => return Err(ImageError::Kind),
                PT_LOAD if program_header.p_memsz != 0 => {
                    let segment = image.check(&program_header, file)?;
                    *image
                        .segments
                        .get_mut(image.count)
                        .ok_or(ImageError::Segments(image.count + 1))? = segment;
                    image.count += 1;
                }
                _ => {}
            }
        }
        if image.count == 0 {
            return Err(ImageError::Segments(0));
        }
        let inside = |segment: &Segment<'_>| {
            let start = KERNEL_VIRT_BASE + segment.offset;
            segment.execute && (start..start + segment.size).contains(&image.entry)
        };
        if !image.segments().iter().any(inside) {
            return Err(ImageError::Entry(image.entry));
        }
        Ok(image)
    }

    /// Checks one segment against all rules and the one before it.
    fn check(
        &self,
        header: &elf::segment::ProgramHeader,
        file: &'a [u8],
    ) -> Result<Segment<'a>, ImageError> {
        let refuse = |cause| ImageError::Segment {
            address: header.p_vaddr,
            cause,
        };
        if !header.p_vaddr.is_multiple_of(PAGE_SIZE) {
            return Err(refuse("not page-aligned"));
        }
        let offset = header
            .p_vaddr
            .checked_sub(KERNEL_VIRT_BASE)
            .ok_or(refuse("below the kernel's address range"))?;
        let end = offset.checked_add(header.p_memsz);
        if end.is_none_or(|end| end > SVSM_REGION_SIZE) {
            return Err(refuse("larger than the SVSM region"));
        }
        if header.p_filesz > header.p_memsz {
            return Err(refuse("has more contents than size"));
        }
        let data = usize::try_from(header.p_offset)
            .ok()
            .zip(usize::try_from(header.p_filesz).ok())
            .and_then(|(start, size)| file.get(start..start.checked_add(size)?))
            .ok_or(refuse("contents lie outside the file"))?;
        let flag = |bit| header.p_flags & bit != 0;
        if !flag(PF_R) {
            return Err(refuse("not readable"));
        }
        if flag(PF_W) && flag(PF_X) {
            return Err(refuse("both writable and executable"));
        }
        if self.segments().last().is_some_and(|s| s.end() > offset) {
            return Err(refuse("overlaps the segment before it, or is out of order"));
        }
        Ok(Segment {
            offset,
            size: header.p_memsz,
            data,
            write: flag(PF_W),
            execute: flag(PF_X),
        })
    }

    /// The segments, ascending.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments[..self.count]
    }

    /// Virtual address of the entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Bytes from the start of the region to the end of the last segment's last page.
    pub fn size(&self) -> u64 {
        self.segments().last().map_or(0, Segment::end)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// One program header for [`elf_file`].
    #[derive(Clone, Copy)]
    pub struct Header {
        pub kind: u32,
        pub flags: u32,
        pub offset: u64,
        pub address: u64,
        pub file_size: u64,
        pub memory_size: u64,
    }

    /// An ELF file of 0x4000 bytes, whose byte at offset `i` past the headers is `i / 7`.
    pub fn elf_file(entry: u64, headers: &[Header]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&2_u16.to_le_bytes());
        file[18..20].copy_from_slice(&62_u16.to_le_bytes());
        file[20] = 1;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32] = 64; // program headers follow
        file[52] = 64;
        file[54] = 56;
        file[56..58].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        file[58] = 64;
        for header in headers {
            file.extend(header.kind.to_le_bytes());
            file.extend(header.flags.to_le_bytes());
            for value in [
                header.offset,
                header.address,
                header.address,
                header.file_size,
                header.memory_size,
                0x1000,
            ] {
                file.extend(value.to_le_bytes());
            }
        }
        file.extend((file.len()..0x4000).map(|i| (i / 7) as u8));
        file
    }

    /// Code, read-only data behind a guard page, data with zeroed tail.
    pub fn sample_headers() -> [Header; 3] {
        let load = |flags, offset, page: u64, file_size, memory_size| Header {
            kind: PT_LOAD,
            flags,
            offset,
            address: KERNEL_VIRT_BASE + page * PAGE_SIZE,
            file_size,
            memory_size,
        };
        [
            load(PF_R | PF_X, 0x1000, 0, 0x1234, 0x1234),
            load(PF_R, 0x3000, 3, 0x800, 0x800),
            load(PF_R | PF_W, 0x3800, 4, 0x100, 0x2001),
        ]
    }

    pub const ENTRY: u64 = KERNEL_VIRT_BASE + 0x10;

    #[test]
    fn good_kernel_is_taken_apart() {
        let file = elf_file(ENTRY, &sample_headers());
        let image = KernelImage::parse(&file).expect("a good kernel");
        assert_eq!(image.entry(), ENTRY);
        assert_eq!(image.size(), 7 * PAGE_SIZE);
        let [code, constants, data] = image.segments() else {
            panic!("three segments");
        };
        assert_eq!((code.offset, code.size), (0, 0x1234));
        assert!(code.execute && !code.write);
        assert_eq!(code.data, &file[0x1000..0x2234]);
        assert_eq!(constants.offset, 0x3000);
        assert!(!constants.execute && !constants.write);
        assert_eq!(
            (data.offset, data.size, data.data.len()),
            (0x4000, 0x2001, 0x100)
        );
        assert!(!data.execute && data.write);
    }

    #[test]
    fn every_broken_segment_is_refused() {
        type Breakage = fn(&mut [Header; 3]);
        let broken: [(&str, Breakage); 14] = [
            ("writable code", |h| h[0].flags |= PF_W),
            ("executable data", |h| h[2].flags |= PF_X),
            ("unreadable", |h| h[1].flags = PF_X),
            ("unaligned", |h| h[1].address += 8),
            ("below the base", |h| h[0].address -= PAGE_SIZE),
            ("low half", |h| h[0].address = 0x10_0000),
            ("wraps", |h| h[2].memory_size = u64::MAX),
            ("larger than the region", |h| {
                h[2].memory_size = SVSM_REGION_SIZE
            }),
            ("contents larger than size", |h| h[0].memory_size -= 1),
            ("contents past the file", |h| h[1].offset = 0x3801),
            ("contents far past the file", |h| h[1].offset = u64::MAX),
            ("overlap", |h| h[1].address = h[0].address + PAGE_SIZE),
            ("out of order", |h| h.swap(1, 2)),
            ("dynamic", |h| h[1].kind = PT_DYNAMIC),
        ];
        for (name, breakage) in broken {
            let mut headers = sample_headers();
            breakage(&mut headers);
            let file = elf_file(ENTRY, &headers);
            assert!(KernelImage::parse(&file).is_err(), "{name}");
        }
    }

    #[test]
    fn entry_outside_code_is_refused() {
        for entry in [
            0,
            KERNEL_VIRT_BASE - 1,
            KERNEL_VIRT_BASE + 0x1234,
            KERNEL_VIRT_BASE + 0x3000,
            u64::MAX,
        ] {
            let file = elf_file(entry, &sample_headers());
            assert!(matches!(KernelImage::parse(&file), Err(ImageError::Entry(e)) if e == entry));
        }
    }

    #[test]
    fn files_of_another_sort_are_refused() {
        let good = elf_file(ENTRY, &sample_headers());
        for (offset, value) in [(4, 1), (5, 2), (16, 3), (18, 3), (0, 0)] {
            let mut file = good.clone();
            file[offset] = value;
            assert!(KernelImage::parse(&file).is_err(), "offset {offset}");
        }
        assert!(KernelImage::parse(&elf_file(ENTRY, &[])).is_err());
        let headers = [sample_headers()[0]; MAX_SEGMENTS + 1];
        let mut page = 0;
        let headers = headers.map(|header| {
            page += 2;
            Header {
                address: KERNEL_VIRT_BASE + page * PAGE_SIZE,
                ..header
            }
        });
        let entry = headers[0].address;
        assert!(KernelImage::parse(&elf_file(entry, &headers[1..])).is_err());
        assert!(KernelImage::parse(&elf_file(entry, &headers[..MAX_SEGMENTS])).is_ok());
        assert!(matches!(
            KernelImage::parse(&elf_file(entry, &headers)),
            Err(ImageError::Segments(n)) if n == MAX_SEGMENTS + 1
        ));
    }

    #[test]
    fn no_prefix_and_no_changed_byte_panics() {
        let good = elf_file(ENTRY, &sample_headers());
        for length in 0..0x120 {
            let _ = KernelImage::parse(&good[..length]);
        }
        for offset in 0..64 + 3 * 56 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[offset] = value;
                let _ = KernelImage::parse(&file);
            }
        }
    }
}
