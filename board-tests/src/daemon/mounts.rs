//! Mounts that only a test and the programs it starts see.
//!
//! [`privately`] runs a test's body on a thread of its own in a new mount namespace, which is gone
//! with the thread and its children. Works as root and in a user namespace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// Forbids writing to the file system mounted at `path`, or allows it again.
///
/// # Errors
/// When the machine forbids it.
pub fn read_only(path: &Path, forbid: bool) -> io::Result<()> {
    let none: Option<&str> = None;
    let read_only = if forbid { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    Ok(mount(none, path, none, MsFlags::MS_REMOUNT | read_only, none)?)
}

/// A file system of ext4 on a loop device: one that can be frozen. It goes with the namespace that
/// it was mounted in. For root of the machine only.
#[derive(Debug)]
pub struct Freezable {
    path: PathBuf,
}

impl Freezable {
    /// Makes one of `bytes` in the file `medium` and mounts it at `path`, which must be a directory.
    ///
    /// # Errors
    /// When a program is missing, or the machine forbids it.
    pub fn new(medium: &Path, bytes: u64, path: &Path) -> io::Result<Self> {
        File::create(medium)?.set_len(bytes)?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), medium])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), medium, path])?;
        Ok(Self { path: path.to_owned() })
    }

    /// Whoever writes to it waits until the value is dropped, and no signal ends that.
    ///
    /// # Errors
    /// When it is frozen already.
    pub fn freeze(&self) -> io::Result<Frozen<'_>> {
        run("fsfreeze", &["--freeze".as_ref(), &self.path])?;
        Ok(Frozen { path: &self.path })
    }
}

/// As long as it lives, the file system is frozen.
#[derive(Debug)]
pub struct Frozen<'f> {
    path: &'f Path,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // It fails only when somebody else has done it, which is what is wanted.
        let _ = run("fsfreeze", &["--unfreeze".as_ref(), self.path]);
    }
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[&Path]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).output().map_err(|error| {
        let text = format!("{program}: {error}; apt-get install e2fsprogs util-linux mount");
        io::Error::new(error.kind(), text)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {arguments:?}: {said}")))
}
