//! The architectures of OpenWrt that packages are made for.

use object::elf;

use crate::error::CrossError;

/// One of OpenWrt's package architectures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    /// OpenWrt's name for it.
    pub(crate) name: &'static str,
    /// What its programs say of themselves in their ELF header.
    pub(super) machine: elf::Machine,
    /// Whether they are little-endian.
    pub(super) little_endian: bool,
    /// The profile in `config/boards` for what such boards have.
    pub(super) profile: &'static str,
}

/// Boards with these cores have 64 MB or so.
const SMALL: &str = "small-64mb";

/// Boards with these have 256 MB or more.
const MEDIUM: &str = "medium-256mb";

/// All of them.
pub(crate) const ARCHES: [Arch; 5] = [
    Arch { name: "mips_24kc", machine: elf::EM_MIPS, little_endian: false, profile: SMALL },
    Arch { name: "mipsel_24kc", machine: elf::EM_MIPS, little_endian: true, profile: SMALL },
    Arch { name: "arm_cortex-a7", machine: elf::EM_ARM, little_endian: true, profile: MEDIUM },
    Arch {
        name: "aarch64_cortex-a53",
        machine: elf::EM_AARCH64,
        little_endian: true,
        profile: MEDIUM,
    },
    Arch { name: "x86_64", machine: elf::EM_X86_64, little_endian: true, profile: MEDIUM },
];

/// The one of that name.
pub(crate) fn find(name: &str) -> Result<&'static Arch, CrossError> {
    ARCHES.iter().find(|arch| arch.name == name).ok_or_else(|| {
        let known: Vec<&str> = ARCHES.iter().map(|arch| arch.name).collect();
        CrossError::Usage(format!("no such target: {name}; there are {}, all", known.join(", ")))
    })
}
