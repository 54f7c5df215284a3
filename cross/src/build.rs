//! `cargo cross build`: programs of this workspace for boards.
//!
//! Decides compiler, linker and flags. What is shipped is static: it needs nothing of the board's C
//! library, whatever version that is. In OpenWrt's feed its own build system builds; the profile
//! `feed` is the nearest to that without it. All builds share one target directory, and zig's
//! compiled C libraries; the finished programs lie in `target/cross`, by OpenWrt's architecture.

pub(crate) mod install;
mod options;
mod rust;
mod zig;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub(crate) use options::{Options, Profile};

use crate::arch::Arch;
use crate::elf::{self, Linkage};
use crate::error::CrossError;
use crate::link;
use crate::strip::strip;
use crate::workspace::{Workspace, carry_out};
use rust::{Library, Rust};

/// Builds for all targets at once, so that no core waits for another target's linker.
pub(crate) fn run(
    workspace: &Workspace,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    if options.arches.is_empty() {
        return Ok(());
    }
    let tools = Tools::find(workspace, options, out)?;
    writeln!(out, "building {} with {}", options.package, tools.name())?;
    out.flush()?;
    let mut cargo = tools.cargo(workspace, "build", &options.arches, options.profile)?;
    carry_out(cargo.args(["--package", &options.package, "--bin", &options.package]))?;
    for arch in &options.arches {
        let path = put(workspace, arch, options)?;
        writeln!(out, "{}: {} bytes, {}", arch.name, fs::metadata(&path)?.len(), path.display())?;
    }
    Ok(())
}

/// What builds for boards.
#[derive(Debug)]
pub(crate) struct Tools {
    rust: Rust,
    zig: PathBuf,
}

impl Tools {
    /// Those of this machine; installed first, when that is allowed and they are missing.
    pub(crate) fn find(
        workspace: &Workspace,
        options: &Options,
        out: &mut impl Write,
    ) -> Result<Self, CrossError> {
        let arches = &options.arches;
        let mut rust = Rust::find(workspace, arches)?;
        if rust.is_none() && options.install {
            install::debian(&rust::PACKAGES, out)?;
            rust = Rust::find(workspace, arches)?;
        }
        let rust = rust.ok_or_else(|| CrossError::Missing(rust::advice(arches)))?;
        Ok(Self { rust, zig: zig::program(options.install, out)? })
    }

    /// What they are, for people.
    pub(crate) fn name(&self) -> String {
        self.rust.name()
    }

    /// Its cargo with `verb`, for `arches` and in `profile`.
    pub(crate) fn cargo(
        &self,
        workspace: &Workspace,
        verb: &str,
        arches: &[&Arch],
        profile: Profile,
    ) -> Result<Command, CrossError> {
        let mut cargo = self.rust.cargo(workspace, &workspace.target("cross/build"));
        link::prepare(&mut cargo, &self.zig, arches, &workspace.target("cross/linkers"))?;
        zig::keep_compiled(&mut cargo)?;
        cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(profile));
        cargo.args([verb, "--locked", "--quiet"]);
        cargo.args(arches.iter().flat_map(|arch| ["--target", arch.rust]));
        cargo.args(["--profile", cargo_profile(profile)]);
        if self.rust.library() == Library::Source {
            cargo.args(match profile {
                Profile::Release => &[
                    "-Zbuild-std=std,panic_abort",
                    "-Zbuild-std-features=optimize_for_size,compiler-builtins-mem",
                ][..],
                // The feed's own library is built as Rust builds it.
                Profile::Feed => &["-Zbuild-std=std"],
                Profile::Test => &["-Zbuild-std=std,test"],
            });
            if profile == Profile::Release {
                cargo.args(SMALL_EDGE.iter().flat_map(|it| ["--config", it]));
                link::with_small_library(&mut cargo);
            }
        }
        Ok(cargo)
    }
}

/// Boards have less room than time: all but the core is compiled for size alone, which takes 20 KB
/// more of stack. Two are not: `std`, which would bring in more than it saves, and what copies
/// memory, for every event.
const SMALL_EDGE: [&str; 5] = [
    r#"profile.release.package.firmware-ctd.opt-level="z""#,
    r#"profile.release.package."*".opt-level="z""#,
    r#"profile.release.package.std.opt-level="s""#,
    "profile.release.package.compiler_builtins.opt-level=3",
    "profile.release.package.firmware-ctd.strip=true",
];

/// What LLVM's MIPS does not do unless told so: it looks further for instructions to put behind
/// branches, where most have nothing, and jumps where a function ends with a call. A fortieth of
/// the program. Divisions by zero need no trap where Rust has looked for them before. Other targets
/// take no notice.
const SMALL_MIPS: [&str; 4] = [
    "-mno-check-zero-division",
    "-disable-mips-df-forward-search=false",
    "-disable-mips-df-succbb-search=false",
    "-mips-tail-calls",
];

const fn cargo_profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Release => "release",
        Profile::Feed => "openwrt",
        Profile::Test => "cross-test",
    }
}

/// Zig has the C library and the start files, so rustc is not to look for its own. A program that
/// aborts when it panics needs no tables for unwinding, a twentieth of it. Paths of this machine
/// are left out: all machines build the same bytes.
fn rustflags(profile: Profile) -> String {
    let mut flags = vec!["-Clink-self-contained=no".to_owned()];
    if profile != Profile::Feed {
        flags.push(format!("-Cllvm-args={}", SMALL_MIPS.join(" ")));
    }
    match profile {
        Profile::Release => flags.push("-Cforce-unwind-tables=no".to_owned()),
        Profile::Feed | Profile::Test => {}
    }
    if profile == Profile::Feed {
        flags.push("-Ctarget-feature=-crt-static".to_owned());
    } else {
        flags.extend(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].map(Into::into));
    }
    let home = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    if let Some(cargo) = home("CARGO_HOME").or_else(|| home("HOME").map(|it| it.join(".cargo"))) {
        let sources = cargo.join("registry/src");
        flags.push(format!("--remap-path-prefix={}=", sources.display()));
    }
    flags.join("\x1f")
}

/// Looks whether what was built is what it should be, and puts it where it is looked for.
fn put(workspace: &Workspace, arch: &Arch, options: &Options) -> Result<PathBuf, CrossError> {
    let package = options.package.as_str();
    let built = built(workspace, arch, options);
    let program = finished(fs::read(&built)?, arch, options.profile)
        .map_err(|fault| CrossError::Failed(format!("{} {fault}", built.display())))?;
    let place = place(workspace, arch, options.profile);
    fs::create_dir_all(&place)?;
    let part = place.join(format!(".{package}.part"));
    fs::write(&part, program)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    let path = place.join(package);
    fs::rename(&part, &path)?;
    Ok(path)
}

/// The release build for this machine.
pub(crate) fn own(workspace: &Workspace) -> Result<PathBuf, CrossError> {
    let mut cargo = workspace.cargo(&workspace.target(""));
    cargo.args(["build", "--release", "--locked", "--quiet", "-p", "firmware-ctd"]);
    carry_out(cargo.args(["--bin", "firmware-ctd"]))?;
    Ok(workspace.target("release/firmware-ctd"))
}

/// The programs with their symbols, in the build directory.
pub(crate) fn with_symbols(
    workspace: &Workspace,
    options: &Options,
    out: &mut impl Write,
) -> Result<Vec<PathBuf>, CrossError> {
    let tools = Tools::find(workspace, options, out)?;
    writeln!(out, "building {} with {}", options.package, tools.name())?;
    out.flush()?;
    let mut cargo = tools.cargo(workspace, "rustc", &options.arches, options.profile)?;
    cargo.args(["--package", &options.package, "--bin", &options.package]);
    carry_out(cargo.args(["--", "-C", "strip=none"]))?;
    Ok(options.arches.iter().map(|arch| built(workspace, arch, options)).collect())
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
        Profile::Feed | Profile::Test => place.join(cargo_profile(profile)),
    }
}

/// What is put on a board: nothing that it does not load, and only if such a board can start it.
fn finished(mut program: Vec<u8>, arch: &Arch, profile: Profile) -> Result<Vec<u8>, String> {
    let wanted = match profile {
        Profile::Release | Profile::Test => Linkage::Static,
        Profile::Feed => Linkage::Musl,
    };
    let linkage = elf::check(&program, arch)?;
    if linkage != wanted {
        return Err(format!("is {linkage:?}, not {wanted:?}"));
    }
    strip(&mut program)?;
    Ok(program)
}
