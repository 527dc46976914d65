//! ELF files with nothing but loadable segments: read and written.

use crate::PAGE_SIZE;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use object::Endianness;
use object::elf as raw;
use object::write::elf::{FileHeader, ProgramHeader, Writer};

/// Why an ELF file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not an ELF file, or a broken one.
    #[error("not a valid ELF file: {0}")]
    Parse(#[from] elf::ParseError),
    /// An ELF file of another sort.
    #[error("not a static 64-bit x86 executable")]
    Kind,
    /// A segment without sense.
    #[error("segment at {0:#x} is inconsistent")]
    Segment(u64),
    /// The result cannot be written.
    #[error("cannot write ELF file: {0}")]
    Write(#[from] object::write::Error),
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual and physical address in bytes.
    pub address: u64,
    /// Initial contents; the rest of `memory_size` is zero.
    pub data: Vec<u8>,
    /// Size in memory in bytes, at least that of `data`.
    pub memory_size: u64,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

impl Segment {
    /// First address past the segment, rounded up to a page.
    pub fn end(&self) -> u64 {
        (self.address + self.memory_size).next_multiple_of(PAGE_SIZE)
    }
}

/// An executable: its entry point and its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Address of the first instruction.
    pub entry: u64,
    /// The segments, in the order of the file.
    pub segments: Vec<Segment>,
}

/// A PT_NOTE segment.
#[derive(Clone, Debug)]
pub struct Note<'a> {
    /// Owner, without the closing zero.
    pub name: &'a str,
    /// Type, as the owner defines it.
    pub kind: u32,
    /// Contents.
    pub description: &'a [u8],
}

impl Executable {
    /// Reads a static executable. Symbols, sections and notes are dropped.
    pub fn parse(file: &[u8]) -> Result<Self, ElfError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64 || header.e_type != ET_EXEC || header.e_machine != EM_X86_64
        {
            return Err(ElfError::Kind);
        }
        let mut segments = Vec::new();
        for header in elf.segments().ok_or(ElfError::Kind)?.iter() {
            if header.p_type != PT_LOAD || header.p_memsz == 0 {
                continue;
            }
            let wrong = ElfError::Segment(header.p_vaddr);
            // Room for rounding up to a page.
            let end = header.p_vaddr.checked_add(header.p_memsz);
            if header.p_filesz > header.p_memsz || end.is_none_or(|end| end > u64::MAX - PAGE_SIZE)
            {
                return Err(wrong);
            }
            segments.push(Segment {
                address: header.p_vaddr,
                data: elf.segment_data(&header)?.to_vec(),
                memory_size: header.p_memsz,
                write: header.p_flags & PF_W != 0,
                execute: header.p_flags & PF_X != 0,
            });
        }
        Ok(Self {
            entry: header.e_entry,
            segments,
        })
    }

    /// Writes the executable, page-aligned in the file, without sections or symbols.
    pub fn write(&self, note: Option<&Note<'_>>) -> Result<Vec<u8>, ElfError> {
        let note = note.map(Note::encode);
        let mut file = Vec::new();
        let mut writer = Writer::new(Endianness::Little, true, &mut file);
        let count = self.segments.len() + usize::from(note.is_some());
        writer.reserve_file_header();
        writer.reserve_program_headers(count as u32);
        let note_offset = note
            .as_ref()
            .map(|note| writer.reserve(note.len() as u64, 8));
        let offsets: Vec<_> = self
            .segments
            .iter()
            .map(|segment| {
                let size = segment.data.len() as u64;
                // A segment of zeroes takes no room in the file.
                let alignment = if size == 0 { 1 } else { PAGE_SIZE };
                writer.reserve(size, alignment)
            })
            .collect();
        writer.write_file_header(&FileHeader {
            os_abi: raw::ELFOSABI_NONE,
            abi_version: 0,
            e_type: raw::ET_EXEC,
            e_machine: raw::EM_X86_64,
            e_entry: self.entry,
            e_flags: raw::FileFlags(0),
        })?;
        writer.write_align_program_headers();
        if let (Some(note), Some(offset)) = (&note, note_offset) {
            writer.write_program_header(&ProgramHeader {
                p_type: raw::PT_NOTE,
                p_flags: raw::PF_R,
                p_offset: offset,
                p_vaddr: 0,
                p_paddr: 0,
                p_filesz: note.len() as u64,
                p_memsz: note.len() as u64,
                p_align: 4,
            });
        }
        for (segment, offset) in self.segments.iter().zip(&offsets) {
            let mut flags = raw::PF_R;
            if segment.write {
                flags |= raw::PF_W;
            }
            if segment.execute {
                flags |= raw::PF_X;
            }
            writer.write_program_header(&ProgramHeader {
                p_type: raw::PT_LOAD,
                p_flags: flags,
                p_offset: *offset,
                p_vaddr: segment.address,
                p_paddr: segment.address,
                p_filesz: segment.data.len() as u64,
                p_memsz: segment.memory_size,
                p_align: PAGE_SIZE,
            });
        }
        if let (Some(note), Some(offset)) = (&note, note_offset) {
            writer.pad_until(offset);
            writer.write(note);
        }
        for (segment, offset) in self.segments.iter().zip(&offsets) {
            writer.pad_until(*offset);
            writer.write(&segment.data);
        }
        Ok(file)
    }
}

impl Note<'_> {
    /// `Elf64_Nhdr`, name and description, each padded to four bytes.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((self.name.len() as u32 + 1).to_le_bytes());
        bytes.extend((self.description.len() as u32).to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(self.description);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Executable {
        let segment = |address, data: &[u8], memory_size| Segment {
            address,
            data: data.to_vec(),
            memory_size,
            write: false,
            execute: false,
        };
        Executable {
            entry: 0x10_1000,
            segments: vec![
                Segment {
                    execute: true,
                    ..segment(0x10_1000, &[0x90; 5000], 5000)
                },
                segment(0x10_3000, b"constants", 9),
                Segment {
                    write: true,
                    ..segment(0x10_4000, b"", 0x3000)
                },
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let file = sample().write(None).expect("writes");
        assert_eq!(Executable::parse(&file).expect("reads"), sample());
        assert!(file.len() < 3 * 4096 + 100);
    }

    #[test]
    fn note_is_found_by_an_independent_reader() {
        let note = Note {
            name: "Xen",
            kind: 18,
            description: &0x10_1000_u64.to_le_bytes(),
        };
        let file = sample().write(Some(&note)).expect("writes");
        assert_eq!(Executable::parse(&file).expect("reads"), sample());
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&file).expect("reads");
        let header = elf
            .segments()
            .expect("segments")
            .iter()
            .find(|h| h.p_type == elf::abi::PT_NOTE)
            .expect("a note");
        let notes: Vec<_> = elf.segment_data_as_notes(&header).expect("notes").collect();
        assert_eq!(notes.len(), 1);
        let elf::note::Note::Unknown(note) = &notes[0] else {
            panic!("not a Xen note");
        };
        assert_eq!((note.n_type, note.name), (18, &b"Xen\0"[..]));
        assert_eq!(note.desc, 0x10_1000_u64.to_le_bytes());
    }

    #[test]
    fn broken_files_are_refused() {
        assert!(Executable::parse(b"").is_err());
        assert!(Executable::parse(b"\x7fELF").is_err());
        let good = sample().write(None).expect("writes");
        for length in 0..good.len().min(300) {
            assert!(Executable::parse(&good[..length]).is_err());
        }
        for offset in 0..64 + 3 * 56 {
            let mut file = good.clone();
            file[offset] ^= 0xff;
            let _ = Executable::parse(&file);
        }
    }
}
