//! Which boards there are, and what each is made of.

use std::io::{self, Write};
use std::path::Path;

use super::kernel::Source;

/// What outlives a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flash {
    /// malta's flash chip (CFI, 4 MiB, erase blocks of 64 KiB), its partition `User FS` with jffs2.
    Chip,
    /// A virtio disk of so many MiB, empty, that the kernel shows as a flash chip, with jffs2.
    DiskAsChip(u32),
    /// A virtio disk of so many MiB with ext4.
    Disk(u32),
}

/// One kind of board.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// OpenWrt's name of its architecture.
    pub arch: &'static str,
    /// Whether the tests run on it when no board is named.
    pub default_tier: bool,
    /// Whether its first byte is the highest.
    pub big_endian: bool,
    /// The emulator.
    pub(super) emulator: &'static str,
    /// What machine it is to be.
    pub(super) machine: &'static [&'static str],
    /// The kernel's name of the first serial port.
    pub(super) console: &'static str,
    /// The second serial port: its device on the board, and what makes it.
    pub(super) channel: (&'static str, &'static [&'static str]),
    /// How virtio devices are plugged in: `pci` or `device` (memory-mapped).
    pub(super) bus: &'static str,
    pub(super) flash: Flash,
    /// Where its kernel comes from.
    pub(super) kernel: Source,
}

/// The serial port of a PC or of a malta that comes second.
const SECOND_PORT: (&str, &[&str]) = ("/dev/ttyS1", &["-serial", "chardev:channel"]);
/// A big-endian MIPS 24Kc with a kernel of our own: what OpenWrt's ath79 is.
pub const MALTA_BE: Model = Model {
    name: "malta-be",
    arch: "mips_24kc",
    default_tier: true,
    big_endian: true,
    emulator: "qemu-system-mips",
    machine: &["-M", "malta", "-cpu", "24Kc"],
    console: "ttyS0",
    channel: SECOND_PORT,
    bus: "pci",
    flash: Flash::Chip,
    kernel: Source::Built("malta-be"),
};

/// All of them.
pub static MODELS: [Model; 1] = [MALTA_BE];

impl Flash {
    /// Makes an empty one.
    pub(super) fn make(self, path: &Path) -> io::Result<()> {
        let mib = match self {
            Self::Chip => 4,
            Self::DiskAsChip(mib) | Self::Disk(mib) => mib,
        };
        let erased = vec![0xff; 1 << 20];
        let mut file = std::fs::File::create(path)?;
        (0..mib).try_for_each(|_| file.write_all(&erased))
    }

    /// What the board's first process is told of it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Chip => "mtd:User_FS",
            Self::DiskAsChip(_) => "/dev/mtdblock0:jffs2",
            Self::Disk(_) => "/dev/vda:ext4",
        }
    }
}
