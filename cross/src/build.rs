//! `cargo cross build`: programs of this workspace for boards.
//!
//! Decides compiler, linker and flags. What is shipped is static: it needs nothing of the board's C
//! library, whatever version that is. In OpenWrt's feed its own build system builds; the profile
//! `feed` is the nearest to that without it. All builds share one target directory, and zig's
//! compiled C libraries; the finished programs lie in `target/cross`, by OpenWrt's architecture.

mod install;
mod options;
mod rust;
mod zig;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use options::{Options, Profile};

use crate::arch::Arch;
use crate::elf::{self, Linkage};
use crate::error::CrossError;
use crate::link;
use crate::workspace::{Workspace, carry_out};
use rust::{Library, Rust};

/// Builds for each target, one line each.
pub(crate) fn run(
    workspace: &Workspace,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    for arch in &options.arches {
        let tools = Tools::find(workspace, arch, options.install, out)?;
        write!(out, "{}: {} with {}: ", arch.name, options.package, tools.rust.name())?;
        out.flush()?;
        let path = build(workspace, &tools, arch, options)?;
        writeln!(out, "{} bytes, {}", fs::metadata(&path)?.len(), path.display())?;
    }
    Ok(())
}

/// What builds for a target.
#[derive(Debug)]
pub(crate) struct Tools {
    rust: Rust,
    zig: PathBuf,
}

impl Tools {
    /// Those of this machine; installed first, when that is allowed and they are missing.
    pub(crate) fn find(
        workspace: &Workspace,
        arch: &Arch,
        may_install: bool,
        out: &mut impl Write,
    ) -> Result<Self, CrossError> {
        let mut rust = Rust::find(workspace, arch)?;
        if rust.is_none() && may_install {
            install::debian(&rust::PACKAGES, out)?;
            rust = Rust::find(workspace, arch)?;
        }
        let rust = rust.ok_or_else(|| CrossError::Missing(rust::advice(arch)))?;
        Ok(Self { rust, zig: zig::program(may_install, out)? })
    }

    /// Its cargo with `verb`, for `arch` and in `profile`.
    pub(crate) fn cargo(
        &self,
        workspace: &Workspace,
        verb: &str,
        (arch, profile): (&Arch, Profile),
    ) -> Result<Command, CrossError> {
        let mut cargo = self.rust.cargo(workspace, &workspace.target("cross/build"));
        link::prepare(&mut cargo, &self.zig, arch)?;
        zig::keep_compiled(&mut cargo)?;
        let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", link::variable(arch.rust));
        cargo.env(flags, rustflags(profile));
        cargo.args([verb, "--locked", "--quiet", "--target", arch.rust]);
        cargo.args(["--profile", cargo_profile(profile)]);
        if self.rust.library() == Library::Source {
            cargo.args(["-Z", "build-std=std,panic_abort"]);
            // The feed's own library is built as Rust builds it.
            if profile == Profile::Release {
                cargo.args(["-Z", "build-std-features=optimize_for_size"]);
            }
        }
        Ok(cargo)
    }
}

const fn cargo_profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Release => "release",
        Profile::Feed => "openwrt",
    }
}

/// Zig has the C library and the start files, so rustc is not to look for its own.
const fn rustflags(profile: Profile) -> &'static str {
    match profile {
        Profile::Release => {
            "-C target-feature=+crt-static -C link-self-contained=no -C relocation-model=static"
        }
        Profile::Feed => "-C target-feature=-crt-static -C link-self-contained=no",
    }
}

/// Builds one program, looks whether it is what it should be, and puts it where it is looked for.
fn build(
    workspace: &Workspace,
    tools: &Tools,
    arch: &Arch,
    options: &Options,
) -> Result<PathBuf, CrossError> {
    let package = options.package.as_str();
    let mut cargo = tools.cargo(workspace, "build", (arch, options.profile))?;
    carry_out(cargo.args(["--package", package, "--bin", package]))?;
    let built = built(workspace, arch, options);
    check(&built, arch, options.profile)?;
    let place = place(workspace, arch, options.profile);
    fs::create_dir_all(&place)?;
    let part = place.join(format!(".{package}.part"));
    fs::copy(&built, &part)?;
    let path = place.join(package);
    fs::rename(&part, &path)?;
    Ok(path)
}

/// The program with its symbols, in the build directory.
pub(crate) fn with_symbols(
    workspace: &Workspace,
    arch: &Arch,
    options: &Options,
    out: &mut impl Write,
) -> Result<PathBuf, CrossError> {
    let tools = Tools::find(workspace, arch, options.install, out)?;
    let mut cargo = tools.cargo(workspace, "rustc", (arch, options.profile))?;
    cargo.args(["--package", &options.package, "--bin", &options.package]);
    carry_out(cargo.args(["--", "-C", "strip=none"]))?;
    Ok(built(workspace, arch, options))
}

/// Where cargo leaves a program.
fn built(workspace: &Workspace, arch: &Arch, options: &Options) -> PathBuf {
    let profile = cargo_profile(options.profile);
    workspace.target("cross/build").join(arch.rust).join(profile).join(&options.package)
}

/// Where finished programs lie.
pub(crate) fn place(workspace: &Workspace, arch: &Arch, profile: Profile) -> PathBuf {
    let place = workspace.target("cross").join(arch.name);
    match profile {
        Profile::Release => place,
        Profile::Feed => place.join("feed"),
    }
}

/// Whether a board of that architecture can start it.
fn check(program: &Path, arch: &Arch, profile: Profile) -> Result<(), CrossError> {
    let wanted = match profile {
        Profile::Release => Linkage::Static,
        Profile::Feed => Linkage::Musl,
    };
    match elf::check(&fs::read(program)?, arch) {
        Ok(linkage) if linkage == wanted => Ok(()),
        Ok(_) => Err(CrossError::Failed(format!("{} is not {wanted:?}", program.display()))),
        Err(fault) => Err(CrossError::Failed(format!("{} {fault}", program.display()))),
    }
}
