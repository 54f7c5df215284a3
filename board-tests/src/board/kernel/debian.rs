//! Debian's kernels for other architectures, without making the machine one of them: apt with a
//! root of its own downloads the package, dpkg unpacks it, and modprobe tells which modules to load.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use super::{Kernel, Module, carry_out};

/// Whose signatures apt takes.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packaged {
    /// Debian's name of the architecture.
    pub arch: &'static str,
    /// The package that depends on the current one.
    pub package: &'static str,
    /// Modules that are loaded at boot, with those that they need; parameters after a space.
    pub modules: &'static [&'static str],
}

/// Gets it: from where it was unpacked, or from Debian's archive.
pub(super) fn get(wanted: &Packaged, say: &mut dyn FnMut(&str)) -> io::Result<Kernel> {
    let place = crate::board::cache()?.join("debian").join(wanted.package);
    fs::create_dir_all(&place)?;
    let lock = File::create(place.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let unpacked = place.join("unpacked");
    if !unpacked.exists() {
        say(&format!("fetching Debian's {} for {}", wanted.package, wanted.arch));
        fetch(wanted, &place, &unpacked)?;
    }
    let boot = fs::read_dir(unpacked.join("boot"))?.flatten().map(|entry| entry.path());
    let kernel = boot.into_iter().find(|path| version_of(path).is_some());
    let path = kernel.ok_or_else(|| io::Error::other("no kernel in the package"))?;
    let version = version_of(&path).unwrap_or_default().to_owned();
    let mut modules = Vec::new();
    for module in wanted.modules {
        add(&mut modules, module, &unpacked, &version)?;
    }
    Ok(Kernel { path, modules })
}

/// The version in a kernel's file name.
fn version_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("vmlinuz-").or_else(|| name.strip_prefix("vmlinux-"))
}

/// Downloads and unpacks.
fn fetch(wanted: &Packaged, place: &Path, unpacked: &Path) -> io::Result<()> {
    let root = place.join("apt");
    for directory in ["lists/partial", "cache/archives/partial", "download"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("status"), "")?;
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.ok_or_else(|| io::Error::other("/etc/os-release has no VERSION_CODENAME"))?;
    // The release itself only: some architectures have no security updates any more.
    let source = format!("deb [signed-by={KEYS}] http://deb.debian.org/debian {suite} main\n");
    fs::write(root.join("sources.list"), source)?;
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        for (key, value) in settings(wanted.arch, &root) {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        carry_out(command.args(words).current_dir(root.join("download")))
    };
    run("apt-get", &["-qq", "update"])?;
    let shown = run("apt-cache", &["show", "--no-all-versions", wanted.package])?;
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
    let current = depends.and_then(|it| it.split([' ', ',']).next());
    let current = current.ok_or_else(|| io::Error::other(format!("no such kernel: {shown}")))?;
    run("apt-get", &["-qq", "-o", "APT::Sandbox::User=root", "download", current])?;
    let packages = fs::read_dir(root.join("download"))?.flatten().map(|entry| entry.path());
    let part = unpacked.with_extension("part");
    for package in packages {
        carry_out(Command::new("dpkg").arg("-x").arg(&package).arg(&part))?;
    }
    let boot = fs::read_dir(part.join("boot"))?.flatten().map(|entry| entry.path());
    let version = boot.into_iter().find_map(|path| version_of(&path).map(str::to_owned));
    let version = version.ok_or_else(|| io::Error::other("no kernel in the package"))?;
    // modprobe looks where a merged /usr has them.
    if !part.join("lib/modules").exists() {
        fs::create_dir_all(part.join("lib"))?;
        std::os::unix::fs::symlink("../usr/lib/modules", part.join("lib/modules"))?;
    }
    carry_out(Command::new("/sbin/depmod").arg("-b").arg(&part).arg(version))?;
    fs::rename(part, unpacked)?;
    fs::remove_dir_all(root)
}

/// apt's settings for a root of its own.
fn settings(arch: &str, root: &Path) -> Vec<(&'static str, String)> {
    let place = |name: &str| root.join(name).display().to_string();
    vec![
        ("APT::Architecture", arch.to_owned()),
        ("APT::Architectures", arch.to_owned()),
        ("Dir::State::Lists", place("lists")),
        ("Dir::State::status", place("status")),
        ("Dir::Cache", place("cache")),
        ("Dir::Etc::SourceList", place("sources.list")),
        ("Dir::Etc::SourceParts", "-".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
    ]
}

/// Appends a module and what it needs, in the order in which they are loaded.
fn add(list: &mut Vec<Module>, module: &str, unpacked: &Path, version: &str) -> io::Result<()> {
    let (name, options) = module.split_once(' ').unwrap_or((module, ""));
    let mut modprobe = Command::new("/sbin/modprobe");
    modprobe.arg("-d").arg(unpacked).args(["-S", version, "--show-depends", name]);
    let shown = carry_out(&mut modprobe)?;
    let paths = shown.lines().filter_map(|line| line.strip_prefix("insmod "));
    let paths: Vec<PathBuf> =
        paths.filter_map(|line| line.split_whitespace().next()).map(PathBuf::from).collect();
    let last = paths.len().saturating_sub(1);
    for (at, path) in paths.into_iter().enumerate() {
        if list.iter().all(|module| module.path != path) {
            let options = if at == last { options.to_owned() } else { String::new() };
            list.push(Module { path, options });
        }
    }
    Ok(())
}
