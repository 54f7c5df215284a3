//! What a board boots: a kernel, and a root file system in memory that has our first process and
//! the package as it is shipped.
//!
//! Everything is built by the project's own commands (`cargo cross build`, `cargo cross package`);
//! what is up to date is not built again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::kernel::Kernel;
use super::model::Model;

/// What a board boots.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// The kernel.
    pub kernel: PathBuf,
    /// The compressed archive of the root file system.
    pub root: PathBuf,
    /// The daemon as it was packed.
    pub daemon: PathBuf,
}

impl Firmware {
    /// That of a model, with a profile of `config/boards`, built where it is not there. `say` is
    /// told what is being done.
    ///
    /// # Errors
    /// What could not be built or fetched.
    pub fn build(model: &Model, profile: &str, say: &mut dyn FnMut(&str)) -> io::Result<Self> {
        let kernel = Kernel::get(model, say)?;
        say(&format!("{}: building the daemon and the board's first process", model.arch));
        let daemon = program(model.arch, "firmware-ctd")?;
        let init = program(model.arch, "board-guest")?;
        let package = package(model.arch, profile)?;
        let root = super::cache()?.join(format!("{}-{profile}.cpio.gz", model.name));
        pack(&root, &init, &package, &kernel)?;
        Ok(Self { kernel: kernel.path, root, daemon })
    }
}

/// Runs cargo in the workspace.
fn cargo(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments).env("CARGO_TARGET_DIR", super::target()?);
    let done = command.output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let line = arguments.join(" ");
    Err(io::Error::other(format!("cargo {line}: {}\n{}", done.status, said.trim_end())))
}

/// The workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program for that architecture.
fn program(arch: &str, package: &str) -> io::Result<PathBuf> {
    let words = ["run", "--locked", "-q", "-p", "cross", "--", "build", arch, "--package", package];
    cargo(&[&words[..], &["--install"]].concat())?;
    Ok(super::target()?.join("cross").join(arch).join(package))
}

/// The package for that architecture, with that profile.
fn package(arch: &str, profile: &str) -> io::Result<PathBuf> {
    let feed = super::cache()?.join("feed").join(profile);
    let (shown, profile) = (feed.display().to_string(), ["--profile", profile]);
    let command = ["run", "--locked", "-q", "-p", "cross", "--", "package", arch];
    cargo(&[&command[..], &["--feed", &shown], &profile].concat())?;
    let files = fs::read_dir(feed.join(arch))?.flatten().map(|entry| entry.path());
    let mut packages = files.filter(|path| path.extension().is_some_and(|it| it == "ipk"));
    packages.next().ok_or_else(|| io::Error::other(format!("no package in {}", feed.display())))
}

/// Writes the archive.
fn pack(to: &Path, init: &Path, package: &Path, kernel: &Kernel) -> io::Result<()> {
    const FILE: u32 = 0o100_000;
    const DIRECTORY: u32 = 0o040_755;
    const CHARACTERS: u32 = 0o020_600;
    let part = to.with_extension(format!("part-{}", std::process::id()));
    let mut out = GzEncoder::new(File::create(&part)?, Compression::fast());
    let device = |name: &str, numbers: (u32, u32)| {
        let device = newc::Builder::new(name).mode(CHARACTERS);
        device.rdev_major(numbers.0).rdev_minor(numbers.1)
    };
    for name in ["dev", "proc", "sys", "tmp", "etc", "root", "packages", "modules"] {
        newc::Builder::new(name).mode(DIRECTORY).write(&mut out, 0).finish()?;
    }
    // Before anything is mounted there, a program needs what it is connected with.
    for (name, numbers) in [("dev/console", (5, 1)), ("dev/null", (1, 3))] {
        device(name, numbers).write(&mut out, 0).finish()?;
    }
    let mut files = vec![("init".to_owned(), FILE | 0o755, fs::read(init)?)];
    files.push(("packages/firmware-ctd.ipk".to_owned(), FILE | 0o644, fs::read(package)?));
    for (number, module) in kernel.modules.iter().enumerate() {
        let name = module.path.file_name().unwrap_or_default().display().to_string();
        let name = format!("modules/{number:02}-{name}");
        files.push((format!("{name}.options"), FILE | 0o644, module.options.clone().into_bytes()));
        files.push((name, FILE | 0o644, fs::read(&module.path)?));
    }
    for (name, mode, content) in files {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        let mut file = newc::Builder::new(&name).mode(mode).write(&mut out, length);
        file.write_all(&content)?;
        file.finish()?;
    }
    newc::trailer(&mut out)?;
    out.finish()?.sync_all()?;
    fs::rename(part, to)
}
