//! Kernels of boards: our own, built from Debian's sources with a configuration of ours, or
//! Debian's, fetched from its archive.
//!
//! Kept below the target directory under a key of version and configuration, so that each is built
//! or fetched once. A lock makes whoever needs one wait for whoever builds it.

mod debian;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use super::firmware::root;
use super::model::Model;
use crate::load::sys;
pub use debian::Packaged;

/// Where a kernel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built with `boards/NAME.config`.
    Built(&'static str),
    /// Debian's.
    Debian(Packaged),
}

/// A module that is loaded at boot.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file.
    pub path: PathBuf,
    /// Its parameters.
    pub options: String,
}

/// A kernel, and the modules that are loaded at boot, in that order.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel's file.
    pub path: PathBuf,
    /// Its modules.
    pub modules: Vec<Module>,
}

impl Kernel {
    /// That of a model. `say` is told what is being done when that takes long.
    ///
    /// # Errors
    /// What is missing, with what to install; what failed, with the end of its output.
    pub fn get(model: &Model, say: &mut dyn FnMut(&str)) -> io::Result<Self> {
        match model.kernel {
            Source::Built(name) => build(name, say),
            Source::Debian(wanted) => debian::get(&wanted, say),
        }
    }
}

const SOURCES: &str = "linux-source-6.1";
const ARCHIVE: &str = "/usr/src/linux-source-6.1.tar.xz";
/// What a build needs.
const NEEDED: &str = "linux-source-6.1 gcc-mips-linux-gnu flex bison bc make";

fn build(name: &str, say: &mut dyn FnMut(&str)) -> io::Result<Kernel> {
    let fragment = root().join("board-tests/boards").join(name).with_extension("config");
    let text = fs::read_to_string(&fragment)?;
    let version = version()?;
    let place = super::cache()?.join(format!("linux-{version}"));
    fs::create_dir_all(&place)?;
    let mut key = DefaultHasher::new();
    text.hash(&mut key);
    let path = place.join(format!("{name}-{:016x}.vmlinux", key.finish()));
    let kernel = Kernel { path, modules: Vec::new() };
    // Whoever builds it has the lock; when it is ours, it is built or nobody builds it.
    let lock = File::create(place.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if kernel.path.exists() {
        return Ok(kernel);
    }
    let source = place.join("source");
    if !source.exists() {
        say(&format!("unpacking the sources of Linux {version}"));
        unpack(&source)?;
    }
    say(&format!("building Linux {version} for {name}: four minutes on two idle cores, once"));
    let objects = place.join(name);
    fs::create_dir_all(&objects)?;
    let configuration = format!("KCONFIG_ALLCONFIG={}", fragment.canonicalize()?.display());
    make(&source, &objects, &[&configuration, "allnoconfig"])?;
    check(&text, &objects.join(".config"))?;
    let jobs = format!("-j{}", std::thread::available_parallelism()?);
    make(&source, &objects, &[&jobs, "vmlinux"])?;
    let part = kernel.path.with_extension("part");
    let mut strip = Command::new("mips-linux-gnu-strip");
    carry_out(strip.arg("-o").arg(&part).arg(objects.join("vmlinux")))?;
    fs::rename(part, &kernel.path)?;
    Ok(kernel)
}

/// The version of the installed sources.
fn version() -> io::Result<String> {
    let mut query = Command::new("dpkg-query");
    let said = carry_out(query.args(["-W", "-f", "${Version}", SOURCES])).unwrap_or_default();
    if said.is_empty() || !Path::new(ARCHIVE).exists() {
        let advice = format!("apt-get install --no-install-recommends {NEEDED}");
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the kernel's sources are missing; on Debian: {advice}"),
        ));
    }
    Ok(said)
}

fn unpack(source: &Path) -> io::Result<()> {
    let part = source.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir(&part)?;
    let mut tar = Command::new("tar");
    carry_out(tar.arg("-xf").arg(ARCHIVE).arg("--strip-components=1").arg("-C").arg(&part))?;
    fs::rename(part, source)
}

/// Runs make, giving way to whoever else wants the machine.
fn make(source: &Path, objects: &Path, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("nice");
    command.args(["make", "-s"]).arg("-C").arg(source);
    command.arg(format!("O={}", objects.canonicalize()?.display()));
    command.args(["ARCH=mips", "CROSS_COMPILE=mips-linux-gnu-"]).args(arguments);
    carry_out(&mut command).map(drop)
}

/// Fails when an option is not what the fragment wants: a typing error, or something that it
/// depends on is missing.
fn check(fragment: &str, configuration: &Path) -> io::Result<()> {
    let made = fs::read_to_string(configuration)?;
    let wanted = fragment.lines().filter(|line| line.starts_with("CONFIG_"));
    let missing: Vec<&str> =
        wanted.filter(|wanted| !made.lines().any(|line| line == *wanted)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel does not take {}", missing.join(", "))))
}

/// Runs a command to its end; what it prints.
fn carry_out(command: &mut Command) -> io::Result<String> {
    let name = format!("{command:?}");
    // It ends with whoever wants it.
    sys::prepare(command, None);
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let tail: Vec<&str> = said.lines().rev().take(20).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(io::Error::other(format!("{name}: {}\n{}", done.status, tail.join("\n"))))
}
