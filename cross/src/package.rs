//! `cargo cross package`: packages and feeds for OpenWrt's opkg.
//!
//! Decides what is installed on a board, where, and with which modes; the programs are built
//! before, by `cargo cross build`. The same program, sources and date give the same bytes. The
//! recipe in `cross/openwrt` makes the same package in OpenWrt's build system, for opkg and apk;
//! tests hold the two together. Packages for apk are made there only.

mod archive;
mod control;
mod index;
mod ipk;
mod options;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use options::Options;

use crate::arch::Arch;
use crate::elf::{self, Linkage};
use crate::error::CrossError;
use crate::key::SecretKey;
use crate::workspace::{Workspace, output, text};
use archive::Tree;
use control::Control;

/// What is installed besides the program and its configuration: where, with which mode, and the
/// source.
const FILES: [(&str, u32, &str); 2] = [
    ("etc/init.d/firmware-ctd", 0o755, "config/openwrt/firmware-ctd.init"),
    ("lib/upgrade/firmware-ctd.sh", 0o644, "config/openwrt/upgrade.sh"),
];

const PROGRAM: &str = "usr/sbin/firmware-ctd";

const CONFIGURATION: &str = "etc/firmware-ctd.toml";

/// Files that opkg leaves alone once they were changed.
const CONFFILES: [&str; 1] = ["/etc/firmware-ctd.toml"];

/// What all packages of a run have in common.
struct Common<'a> {
    workspace: &'a Workspace,
    version: String,
    licence: String,
    epoch: u64,
}

impl<'a> Common<'a> {
    fn of(workspace: &'a Workspace) -> Result<Self, CrossError> {
        let of_all = |key| workspace.toml("Cargo.toml", &["workspace", "package", key], text);
        Ok(Self {
            workspace,
            version: of_all("version")?,
            licence: of_all("license")?,
            epoch: epoch(workspace)?,
        })
    }
}

/// The package of `program` with the profile of its boards, as it would be written.
pub(crate) fn bytes(
    workspace: &Workspace,
    arch: &Arch,
    program: &Path,
) -> Result<Vec<u8>, CrossError> {
    Ok(make(&Common::of(workspace)?, arch, arch.profile, program)?.1)
}

/// Makes the packages, then the index of each feed.
pub(crate) fn run(
    workspace: &Workspace,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    let common = Common::of(workspace)?;
    let key = options.key.as_deref().map(SecretKey::read).transpose()?;
    let feeds = options.feed.clone().unwrap_or_else(|| workspace.target("cross/feed"));
    for arch in &options.arches {
        let program = program(workspace, arch, options)?;
        let feed = feeds.join(arch.name);
        let (path, bytes) = package(&common, arch, options, &program, &feed)?;
        writeln!(out, "{}: {bytes} bytes", path.display())?;
        let count = index::write(&feed, key.as_ref())?;
        let signed = match &key {
            Some(key) => format!("signed by {}", key.fingerprint()),
            None => "not signed, as opkg wants by default: see cargo cross key".to_owned(),
        };
        writeln!(out, "{}: {count} listed, {signed}", feed.join("Packages").display())?;
    }
    Ok(())
}

/// Writes one package into `feed`.
fn package(
    common: &Common<'_>,
    arch: &Arch,
    options: &Options,
    program: &Path,
    feed: &Path,
) -> Result<(PathBuf, usize), CrossError> {
    let profile = options.profile.as_deref().unwrap_or(arch.profile);
    let (name, package) = make(common, arch, profile, program)?;
    let path = feed.join(name);
    fs::create_dir_all(feed)?;
    fs::write(&path, &package)?;
    Ok((path, package.len()))
}

/// A package: the name of its file, and its bytes.
fn make(
    common: &Common<'_>,
    arch: &Arch,
    profile: &str,
    program: &Path,
) -> Result<(String, Vec<u8>), CrossError> {
    let bytes = fs::read(program)?;
    let linkage = elf::check(&bytes, arch)
        .map_err(|fault| CrossError::Failed(format!("{} {fault}", program.display())))?;
    let control = Control {
        version: &common.version,
        licence: &common.licence,
        architecture: arch.name,
        needs_libc: linkage == Linkage::Musl,
        epoch: common.epoch,
        installed_size: 0,
    };
    let name = control.file_name();
    let files = files(common.workspace, bytes, profile)?;
    Ok((name, ipk::pack(&files, &CONFFILES, control)?))
}

/// All that is installed.
fn files(workspace: &Workspace, program: Vec<u8>, profile: &str) -> Result<Tree, CrossError> {
    let source = |name: &str| {
        let read = fs::read(workspace.path(name));
        read.map_err(|error| CrossError::Missing(format!("{name}: {error}")))
    };
    let mut tree = Tree::default();
    tree.add(PROGRAM, 0o755, program);
    // As OpenWrt's INSTALL_CONF: it may come to hold secrets.
    tree.add(CONFIGURATION, 0o600, source(&format!("config/boards/{profile}.toml"))?);
    for (path, mode, name) in FILES {
        tree.add(path, mode, source(name)?);
    }
    Ok(tree)
}

/// The program to pack: the given one, or what `cargo cross build` made.
fn program(workspace: &Workspace, arch: &Arch, options: &Options) -> Result<PathBuf, CrossError> {
    let (path, how) = match &options.binary {
        Some(path) => (path.clone(), String::new()),
        None => (
            workspace.target("cross").join(arch.name).join("firmware-ctd"),
            format!("; `cargo cross build {}` makes it", arch.name),
        ),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(CrossError::Missing(format!("{} is not there{how}", path.display())))
}

/// What everything is dated: `SOURCE_DATE_EPOCH`, or the date of the checkout's commit.
fn epoch(workspace: &Workspace) -> Result<u64, CrossError> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(given) = std::env::var_os(NAME) {
        let number = given.to_str().and_then(|it| it.parse().ok());
        return number.ok_or_else(|| {
            CrossError::Usage(format!("{NAME} is no number of seconds: {}", given.display()))
        });
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace.path("")).args(["log", "-1", "--format=%ct"]);
    let said = output(&mut git).ok().and_then(|it| it.trim().parse().ok());
    said.ok_or_else(|| {
        CrossError::Missing(format!("this is no git checkout: set {NAME}, seconds since 1970"))
    })
}
