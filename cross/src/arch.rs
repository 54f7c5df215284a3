//! The architectures of OpenWrt that programs and packages are made for.

use object::elf;

use crate::error::CrossError;

/// One of OpenWrt's package architectures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    /// OpenWrt's name for it.
    pub(crate) name: &'static str,
    /// What its programs say of themselves in their ELF header.
    pub(crate) machine: elf::Machine,
    /// Whether they are little-endian.
    pub(crate) little_endian: bool,
    /// The profile in `config/boards` for what such boards have.
    pub(crate) profile: &'static str,
    /// Rust's name of the target.
    pub(crate) rust: &'static str,
    /// Zig's name of the same.
    pub(crate) zig: &'static str,
    /// Zig's name of the least processor.
    pub(crate) cpu: &'static str,
    /// The program of QEMU that runs such programs here, and the processor that it is to be: one
    /// that has no more than the boards, so that an instruction too many shows.
    pub(crate) emulator: [&'static str; 2],
}

/// Boards with these cores have 64 MB or so.
const SMALL: &str = "small-64mb";

/// Boards with these have 256 MB or more.
const MEDIUM: &str = "medium-256mb";

/// All of them.
pub(crate) const ARCHES: [Arch; 5] = [
    Arch {
        name: "mips_24kc",
        machine: elf::EM_MIPS,
        little_endian: false,
        profile: SMALL,
        rust: "mips-unknown-linux-musl",
        zig: "mips-linux-musleabi",
        cpu: "mips32r2+soft_float",
        emulator: ["qemu-mips-static", "24Kc"],
    },
    Arch {
        name: "mipsel_24kc",
        machine: elf::EM_MIPS,
        little_endian: true,
        profile: SMALL,
        rust: "mipsel-unknown-linux-musl",
        zig: "mipsel-linux-musleabi",
        cpu: "mips32r2+soft_float",
        emulator: ["qemu-mipsel-static", "24Kc"],
    },
    Arch {
        name: "arm_cortex-a7",
        machine: elf::EM_ARM,
        little_endian: true,
        profile: MEDIUM,
        rust: "armv7-unknown-linux-musleabihf",
        zig: "arm-linux-musleabihf",
        cpu: "generic+v7a",
        emulator: ["qemu-arm-static", "cortex-a7"],
    },
    Arch {
        name: "aarch64_cortex-a53",
        machine: elf::EM_AARCH64,
        little_endian: true,
        profile: MEDIUM,
        rust: "aarch64-unknown-linux-musl",
        zig: "aarch64-linux-musl",
        cpu: "generic",
        emulator: ["qemu-aarch64-static", "cortex-a53"],
    },
    Arch {
        name: "x86_64",
        machine: elf::EM_X86_64,
        little_endian: true,
        profile: MEDIUM,
        rust: "x86_64-unknown-linux-musl",
        zig: "x86_64-linux-musl",
        cpu: "x86_64",
        emulator: ["qemu-x86_64-static", "qemu64"],
    },
];

/// The one of that name.
pub(crate) fn find(name: &str) -> Result<&'static Arch, CrossError> {
    ARCHES.iter().find(|arch| arch.name == name).ok_or_else(|| {
        let known: Vec<&str> = ARCHES.iter().map(|arch| arch.name).collect();
        CrossError::Usage(format!("no such target: {name}; there are {}, all", known.join(", ")))
    })
}
