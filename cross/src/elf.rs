//! What a program's ELF header says: whether a board of this architecture can start it.
//!
//! Looks at machine, byte order and dynamic linker. Does not look at instructions: a program of
//! the right machine may still use more of it than the board has.

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endian as _, Endianness, FileKind, elf};

use crate::arch::Arch;

/// What a program needs of the board's C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// Nothing: it has its own.
    Static,
    /// OpenWrt's musl.
    Musl,
}

/// How `program` is linked, if it is one for `arch`.
///
/// # Errors
/// Why such a board cannot start it.
pub(crate) fn check(program: &[u8], arch: &Arch) -> Result<Linkage, String> {
    let facts = facts(program)?;
    if !facts.executable {
        return Err("is no executable".to_owned());
    }
    if (facts.machine, facts.little_endian) != (arch.machine, arch.little_endian) {
        let order = if facts.little_endian { "little" } else { "big" };
        return Err(format!(
            "is for another machine than {}: ELF machine {}, {order}-endian",
            arch.name, facts.machine.0
        ));
    }
    match facts.interpreter.as_deref() {
        None => Ok(Linkage::Static),
        Some(linker) if linker.starts_with("/lib/ld-musl-") => Ok(Linkage::Musl),
        Some(linker) => Err(format!("needs {linker}, which OpenWrt does not have")),
    }
}

/// Bytes of the segments of `program` that can be written to, as they are in memory.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn writable(program: &[u8]) -> Result<u64, String> {
    facts(program).map(|it| it.writable)
}

fn facts(program: &[u8]) -> Result<Facts, String> {
    let facts = match FileKind::parse(program) {
        Ok(FileKind::Elf32) => Facts::of::<elf::FileHeader32<Endianness>>(program),
        Ok(FileKind::Elf64) => Facts::of::<elf::FileHeader64<Endianness>>(program),
        Ok(_) | Err(_) => return Err("is no ELF program".to_owned()),
    };
    facts.map_err(|error| format!("is damaged: {error}"))
}

/// What the header and the program headers say.
struct Facts {
    executable: bool,
    machine: elf::Machine,
    little_endian: bool,
    interpreter: Option<String>,
    writable: u64,
}

impl Facts {
    fn of<E: FileHeader<Endian = Endianness>>(program: &[u8]) -> object::Result<Self> {
        let header = E::parse(program)?;
        let endian = header.endian()?;
        let (mut interpreter, mut writable) = (None, 0u64);
        for segment in header.program_headers(endian, program)? {
            if let Some(name) = segment.interpreter(endian, program)? {
                interpreter = Some(String::from_utf8_lossy(name).into_owned());
            }
            let flags = segment.p_flags(endian);
            if segment.p_type(endian) == elf::PT_LOAD && flags.contains(elf::PF_W) {
                writable = writable.saturating_add(segment.p_memsz(endian).into());
            }
        }
        Ok(Self {
            executable: matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN),
            machine: header.e_machine(endian),
            little_endian: endian.is_little_endian(),
            interpreter,
            writable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Linkage, check};
    use crate::arch::{ARCHES, Arch};

    fn arch(name: &str) -> &'static Arch {
        ARCHES.iter().find(|it| it.name == name).unwrap()
    }

    /// A 32-bit executable without anything in it.
    fn header(machine: u16, little: bool) -> Vec<u8> {
        let two = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let mut bytes = vec![0; 52];
        bytes[..7].copy_from_slice(&[0x7F, b'E', b'L', b'F', 1, if little { 1 } else { 2 }, 1]);
        bytes[16..18].copy_from_slice(&two(2));
        bytes[18..20].copy_from_slice(&two(machine));
        bytes[20..24].copy_from_slice(&if little { [1, 0, 0, 0] } else { [0, 0, 0, 1] });
        bytes
    }

    #[test]
    fn byte_order_tells_mips_from_mipsel() {
        let (big, little) = (header(8, false), header(8, true));
        assert_eq!(check(&big, arch("mips_24kc")), Ok(Linkage::Static));
        assert_eq!(check(&little, arch("mipsel_24kc")), Ok(Linkage::Static));
        assert!(check(&little, arch("mips_24kc")).unwrap_err().contains("little-endian"));
        assert!(check(&big, arch("mipsel_24kc")).unwrap_err().contains("big-endian"));
        assert!(check(&little, arch("arm_cortex-a7")).unwrap_err().contains("machine 8"));
    }

    #[test]
    fn a_program_of_another_c_library_is_refused() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let own = ARCHES.iter().find(|it| it.name.starts_with(std::env::consts::ARCH)).unwrap();
        let fault = check(&this, own).unwrap_err();
        assert!(fault.contains("ld-linux"), "{fault}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(check(b"#!/bin/sh\n", arch("x86_64")).is_err());
        assert!(check(&[], arch("x86_64")).is_err());
        assert!(check(&header(8, false)[..40], arch("mips_24kc")).is_err());
    }
}
