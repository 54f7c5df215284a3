//! Which boards there are, and what each is made of.

use std::io::{self, Write};
use std::path::Path;

use super::kernel::{Packaged, Source};

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
    /// Where the cards of LAN and WAN are plugged in, if that matters.
    pub(super) slots: [&'static str; 2],
    pub(super) flash: Flash,
    /// What its kernel needs at least.
    pub(super) memory_mib: u32,
    /// Where its kernel comes from.
    pub(super) kernel: Source,
}

const ANY_SLOTS: [&str; 2] = [""; 2];
/// Each of malta's cards has an interrupt of its own here. Its interrupt controller is left as it
/// is after a reset, where it sees only edges: when one of two cards on a line asks while the other
/// is still served, there is no edge, and both stand still from then on.
/// The first slot is for a disk.
const MALTA_SLOTS: [&str; 2] = [",addr=0x13", ",addr=0x14"];

/// The serial port of a PC or of a malta that comes second.
const SECOND_PORT: (&str, &[&str]) = ("/dev/ttyS1", &["-serial", "chardev:channel"]);
/// For machines with one serial port.
const VIRTIO_PORT: (&str, &[&str]) = (
    "/dev/vport0p1",
    &["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=channel,nr=1"],
);
/// The same, where virtio devices are memory-mapped.
const VIRTIO_PORT_MAPPED: (&str, &[&str]) = (
    "/dev/vport0p1",
    &["-device", "virtio-serial-device", "-device", "virtserialport,chardev=channel,nr=1"],
);

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
    slots: MALTA_SLOTS,
    flash: Flash::Chip,
    memory_mib: 32,
    kernel: Source::Built("malta-be"),
};

/// A 64-bit ARM with Debian's kernel.
pub const AARCH64: Model = Model {
    name: "aarch64",
    arch: "aarch64_cortex-a53",
    default_tier: true,
    big_endian: false,
    emulator: "qemu-system-aarch64",
    machine: &["-M", "virt", "-cpu", "cortex-a53"],
    console: "ttyAMA0",
    channel: VIRTIO_PORT,
    bus: "pci",
    slots: ANY_SLOTS,
    flash: Flash::Disk(16),
    memory_mib: 256,
    kernel: Source::Debian(Packaged {
        arch: "arm64",
        package: "linux-image-cloud-arm64",
        modules: &CLOUD,
    }),
};

/// A little-endian MIPS 24Kc with Debian's kernel: what OpenWrt's ramips is.
const MALTA_LE: Model = Model {
    name: "malta-le",
    arch: "mipsel_24kc",
    default_tier: false,
    big_endian: false,
    emulator: "qemu-system-mipsel",
    machine: &["-M", "malta", "-cpu", "24Kc"],
    console: "ttyS0",
    channel: SECOND_PORT,
    bus: "pci",
    slots: MALTA_SLOTS,
    flash: Flash::DiskAsChip(4),
    memory_mib: 128,
    kernel: Source::Debian(Packaged {
        arch: "mipsel",
        package: "linux-image-4kc-malta",
        modules: &MALTA_MODULES,
    }),
};

/// A 32-bit ARM with Debian's kernel.
const ARMV7: Model = Model {
    name: "armv7",
    arch: "arm_cortex-a7",
    default_tier: false,
    big_endian: false,
    emulator: "qemu-system-arm",
    machine: &["-M", "virt", "-cpu", "cortex-a15"],
    console: "ttyAMA0",
    channel: VIRTIO_PORT_MAPPED,
    bus: "device",
    slots: ANY_SLOTS,
    flash: Flash::Disk(16),
    memory_mib: 256,
    kernel: Source::Debian(Packaged {
        arch: "armhf",
        package: "linux-image-armmp",
        modules: &ARM_MODULES,
    }),
};

/// A PC with Debian's kernel.
const X86_64: Model = Model {
    name: "x86_64",
    arch: "x86_64",
    default_tier: false,
    big_endian: false,
    emulator: "qemu-system-x86_64",
    machine: &["-M", "q35", "-accel", "tcg"],
    console: "ttyS0",
    channel: SECOND_PORT,
    bus: "pci",
    slots: ANY_SLOTS,
    flash: Flash::Disk(16),
    memory_mib: 256,
    kernel: Source::Debian(Packaged {
        arch: "amd64",
        package: "linux-image-cloud-amd64",
        modules: &CLOUD,
    }),
};

/// All of them.
pub static MODELS: [Model; 5] = [MALTA_BE, AARCH64, MALTA_LE, ARMV7, X86_64];

/// What every one of Debian's kernels has as modules.
macro_rules! with_router_modules {
    ($($module:literal),*) => {
        [
            $($module,)*
            "virtio_pci",
            "virtio_blk",
            "virtio_net",
            "nf_conntrack",
            "nf_conntrack_netlink",
            "nf_tables",
            "nft_ct",
            "nft_chain_nat",
            "nft_masq",
        ]
    };
}

const CLOUD: [&str; 11] = with_router_modules!["virtio_console", "ext4"];
const ARM_MODULES: [&str; 12] = with_router_modules!["virtio_mmio", "virtio_console", "ext4"];
/// The disk first: it is to be there when it is shown as a chip.
const MALTA_MODULES: [&str; 14] = with_router_modules![
    "virtio_pci",
    "virtio_blk",
    "mtdblock",
    "block2mtd block2mtd=/dev/vda,64KiB",
    "jffs2"
];

impl Flash {
    /// Makes an empty one.
    pub(super) fn make(self, path: &Path) -> io::Result<()> {
        let mib = match self {
            Self::Chip => 4,
            Self::DiskAsChip(mib) => mib,
            Self::Disk(mib) => return disk(path, mib),
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

/// A disk with an empty file system.
fn disk(path: &Path, mib: u32) -> io::Result<()> {
    std::fs::File::create(path)?.set_len(u64::from(mib) << 20)?;
    let mut mkfs = std::process::Command::new("/sbin/mkfs.ext4");
    let done = mkfs.args(["-q", "-F"]).arg(path).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("mkfs.ext4: {}", String::from_utf8_lossy(&done.stderr))))
}
