//! The file systems of the kernel, and the one in memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use board_guest::error::{Context, LabError};
use nix::mount::{MsFlags, mount};

/// Mounts what every board has. `/var` is in memory, as on OpenWrt.
pub(crate) fn kernel() -> Result<(), LabError> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(place).context(place)?;
        // The kernel may have mounted /dev itself.
        let mounted = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if !mounted.lines().any(|line| line.split(' ').nth(2) == Some(kind)) {
            at(kind, Path::new(place), kind)?;
        }
    }
    fs::create_dir_all("/tmp/run").context("/tmp/run")?;
    symlink("/tmp", "/var").context("/var")
}

/// Mounts `source` with a file system of type `kind`.
pub(crate) fn at(source: &str, place: &Path, kind: &str) -> Result<(), LabError> {
    let doing = || format!("mounting {source} ({kind}) on {}", place.display());
    mount(Some(source), place, Some(kind), MsFlags::empty(), None::<&str>).context(&doing())
}

/// The id of this boot.
pub(crate) fn boot_id() -> Result<String, LabError> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the boot id")?;
    Ok(id.trim().to_owned())
}
