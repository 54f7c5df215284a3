//! Mounts that only a test and the programs it starts see.
//!
//! [`privately`] runs a test's body on a thread of its own in a new mount namespace, which is gone
//! with the thread and its children. Works as root and in a user namespace.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `body` with mounts of its own.
///
/// # Errors
/// When the machine forbids it, and those of `body`.
pub fn privately<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let inside = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        body()
    };
    let result = thread::scope(|scope| scope.spawn(inside).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A file system in memory of `bytes` at `path`, which must be a directory.
///
/// # Errors
/// When the machine forbids it.
pub fn tmpfs(path: &Path, bytes: u64) -> io::Result<()> {
    let options = format!("size={bytes},mode=755");
    Ok(mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?)
}

/// Shows the file or directory `from` at `to` as well.
///
/// # Errors
/// When one of them is not there.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(Some(from), to, none, MsFlags::MS_BIND, none)?)
}

/// Puts a `/dev` in place that holds what programs need and whatever is in `directory`.
///
/// # Errors
/// When the machine forbids it.
pub fn dev(directory: &Path) -> io::Result<()> {
    for name in ["null", "urandom", "random", "zero"] {
        let place = directory.join(name);
        File::create(&place)?;
        bind(&Path::new("/dev").join(name), &place)?;
    }
    let none: Option<&str> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(&fs::canonicalize(directory)?), "/dev", none, flags, none)?)
}
