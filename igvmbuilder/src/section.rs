//! Sections of the kernel's ELF file that are empty when it is built, and filled here.

use elf::ElfBytes;
use elf::endian::LittleEndian;

/// Why a section cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// The kernel cannot be read.
    #[error("kernel: {0}")]
    Parse(#[from] elf::ParseError),
    /// The kernel has no such section.
    #[error("kernel: no section {name} of {room} bytes; give the file as it was built")]
    Missing {
        /// Its name.
        name: &'static str,
        /// The size that it should have.
        room: usize,
    },
    /// More than there is room for.
    #[error("{len} bytes are more than section {name} of the kernel has room for")]
    TooLarge {
        /// Its name.
        name: &'static str,
        /// How much there is.
        len: usize,
    },
}

/// Whether `kernel`, an ELF file with sections, has the section `name`.
///
/// # Errors
/// [`SectionError`].
pub fn is_there(kernel: &[u8], name: &str) -> Result<bool, SectionError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(kernel)?;
    Ok(elf.section_header_by_name(name)?.is_some())
}

/// `kernel`, an ELF file with sections, with `contents` at the beginning of the section
/// `name`, which has to have `room` bytes.
///
/// # Errors
/// [`SectionError`].
pub fn fill(
    kernel: &[u8],
    name: &'static str,
    room: usize,
    contents: &[u8],
) -> Result<Vec<u8>, SectionError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(kernel)?;
    let missing = || SectionError::Missing { name, room };
    let section = elf.section_header_by_name(name)?.ok_or_else(missing)?;
    let start = usize::try_from(section.sh_offset).map_err(|_| missing())?;
    let mut kernel = kernel.to_vec();
    let place = start
        .checked_add(room)
        .filter(|_| section.sh_size == room as u64)
        .and_then(|end| kernel.get_mut(start..end))
        .ok_or_else(missing)?;
    let len = contents.len();
    place
        .get_mut(..len)
        .ok_or(SectionError::TooLarge { name, len })?
        .copy_from_slice(contents);
    Ok(kernel)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use object::write::Object;
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    /// A kernel with a section of zeros.
    pub(crate) fn kernel(name: &str, room: usize) -> Vec<u8> {
        let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = file.add_section(Vec::new(), name.into(), SectionKind::ReadOnlyData);
        file.append_section_data(section, &vec![0; room], 16);
        file.write().expect("writes")
    }

    #[test]
    fn contents_are_put_in_and_nothing_else_changes() {
        let empty = kernel(".place", 32);
        assert!(is_there(&empty, ".place").unwrap());
        let filled = fill(&empty, ".place", 32, b"contents").unwrap();
        let changed: Vec<_> = (0..empty.len())
            .filter(|n| filled[*n] != empty[*n])
            .collect();
        assert_eq!(changed.len(), 8);
        assert_eq!(
            filled[changed[0]..][..32],
            *b"contents\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn a_kernel_without_the_place_is_refused() {
        let missing = |kernel: &[u8]| {
            assert!(matches!(
                fill(kernel, ".place", 32, b""),
                Err(SectionError::Missing { .. })
            ));
        };
        missing(&kernel(".other", 32));
        missing(&kernel(".place", 31));
        let stripped = crate::elf_file::Executable {
            entry: 0x1000,
            segments: Vec::new(),
        };
        missing(&stripped.write(None).expect("writes"));
        assert!(!is_there(&kernel(".other", 32), ".place").unwrap());
        assert!(matches!(
            fill(b"", ".place", 32, b""),
            Err(SectionError::Parse(_))
        ));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        assert!(matches!(
            fill(&kernel(".place", 32), ".place", 32, &[1; 33]),
            Err(SectionError::TooLarge { len: 33, .. })
        ));
    }
}
