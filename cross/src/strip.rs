//! What a board does not load, taken off a program.
//!
//! The linker leaves section headers and sections that are not part of the running program; on MIPS
//! one of them, `.pdr`, is a tenth of the file. OpenWrt cuts its own programs in the same way. Of
//! the ELF header only the fields that tell of section headers are changed.

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, elf};

/// Where the header tells of section headers: the offset, and their size, number and names.
struct Fields {
    offset: std::ops::Range<usize>,
    about: std::ops::Range<usize>,
}

const OF_32_BITS: Fields = Fields { offset: 32..36, about: 46..52 };
const OF_64_BITS: Fields = Fields { offset: 40..48, about: 58..64 };

/// Cuts `program` behind what is loaded.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn strip(program: &mut Vec<u8>) -> Result<(), String> {
    let (fields, end) = match FileKind::parse(program.as_slice()) {
        Ok(FileKind::Elf32) => (OF_32_BITS, end::<elf::FileHeader32<Endianness>>(program)),
        Ok(FileKind::Elf64) => (OF_64_BITS, end::<elf::FileHeader64<Endianness>>(program)),
        Ok(_) | Err(_) => return Err("is no ELF program".to_owned()),
    };
    let end = end.map_err(|error| format!("is damaged: {error}"))?;
    let end = usize::try_from(end).unwrap_or(usize::MAX).max(fields.about.end);
    for field in [fields.offset, fields.about] {
        program.get_mut(field).ok_or("is shorter than its header")?.fill(0);
    }
    if program.len() < end {
        return Err("is shorter than its segments".to_owned());
    }
    program.truncate(end);
    Ok(())
}

/// Where the last byte of a segment ends, and the table of segments.
fn end<E: FileHeader<Endian = Endianness>>(program: &[u8]) -> object::Result<u64> {
    let header = E::parse(program)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, program)?;
    let table = header.e_phoff(endian).into()
        + u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian));
    let ends = segments
        .iter()
        .map(|it| it.p_offset(endian).into().saturating_add(it.p_filesz(endian).into()));
    Ok(ends.fold(table, u64::max))
}

#[cfg(test)]
mod tests {
    use super::strip;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_cut_program_is_smaller_and_runs() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("true");
        let mut program = std::fs::read("/bin/true").unwrap();
        let before = program.len();
        strip(&mut program).unwrap();
        assert!(program.len() < before);
        std::fs::write(&path, &program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new(&path).status().unwrap().success());
        let once = program.clone();
        strip(&mut program).unwrap();
        assert!(program == once);
    }

    #[test]
    fn what_is_no_whole_program_is_refused() {
        let whole = std::fs::read("/bin/true").unwrap();
        for part in [&b"#!/bin/sh\n"[..], &whole[..40], &whole[..whole.len() / 2]] {
            assert!(strip(&mut part.to_vec()).is_err());
        }
    }
}
