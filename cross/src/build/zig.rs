//! Zig, as linker and C library of all targets: a package of PyPI, one version.
//!
//! Lies in the user's cache directory, so that all checkouts share it and its compiled C libraries.
//! Needs Python with venv to be installed, and nothing of it afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::install;
use crate::error::CrossError;
use crate::workspace::{carry_out, output};

const VERSION: &str = "0.17.1";

/// Seconds that its download, 100 MB, may take.
const LIMIT_S: &str = "600";

/// Where things that are fetched or made once are kept.
fn cache() -> Result<PathBuf, CrossError> {
    let given = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let base = given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|it| it.join(".cache")));
    base.map(|it| it.join("firmware-ctd")).ok_or_else(|| {
        CrossError::Missing("set HOME or XDG_CACHE_HOME: zig is kept there".to_owned())
    })
}

/// Its program; installed first, when that is allowed.
pub(crate) fn program(install: bool, out: &mut impl Write) -> Result<PathBuf, CrossError> {
    let cache = cache()?;
    let place = cache.join(format!("zig-{VERSION}"));
    if let Some(found) = inside(&place) {
        return Ok(found);
    }
    if !install {
        return Err(CrossError::Missing(format!(
            "zig {VERSION} is not in {}: --install fetches it from PyPI, or do `python3 -m venv \
             {0} && {0}/bin/pip install ziglang=={VERSION}`",
            place.display()
        )));
    }
    if !has_venv() {
        install::debian(&["python3-venv"], out)?;
    }
    fs::create_dir_all(&cache)?;
    // Two builds at a time: the second waits, and finds what the first has fetched.
    let lock = File::create(cache.join("zig.lock"))?;
    lock.lock()?;
    if inside(&place).is_none() {
        writeln!(out, "fetching zig {VERSION} from PyPI into {}", place.display())?;
        out.flush()?;
        fetch(&place)?;
    }
    inside(&place)
        .ok_or_else(|| CrossError::Failed(format!("{} has no zig in it", place.display())))
}

/// Sets where zig keeps the C libraries that it compiled.
pub(crate) fn keep_compiled(cargo: &mut Command) -> Result<(), CrossError> {
    let place = cache()?.join("zig-cache");
    cargo.env("ZIG_GLOBAL_CACHE_DIR", &place).env("ZIG_LOCAL_CACHE_DIR", place.join("local"));
    Ok(())
}

/// The program in a Python environment.
fn inside(place: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(place.join("lib")).ok()?.flatten();
    let mut programs = versions.map(|it| it.path().join("site-packages/ziglang/zig"));
    programs.find(|it| it.is_file())
}

/// Whether Python can make an environment with pip in it; Debian has that in a package of its own.
fn has_venv() -> bool {
    output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

/// Into a directory beside, which takes its name only when it is whole.
fn fetch(place: &Path) -> Result<(), CrossError> {
    let part = place.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    let mut python = Command::new("python3");
    carry_out(python.args(["-m", "venv"]).arg(&part))?;
    let mut pip = Command::new("timeout");
    pip.args(["--kill-after=5", LIMIT_S]).arg(part.join("bin/pip"));
    pip.args(["--quiet", "--disable-pip-version-check", "install", "--only-binary=:all:"]);
    pip.args(["--timeout=60", "--retries=3"]).arg(format!("ziglang=={VERSION}"));
    carry_out(&mut pip).map_err(|error| {
        CrossError::Missing(format!(
            "zig {VERSION} could not be fetched from PyPI within {LIMIT_S} s ({error}); \
             try again when PyPI can be reached"
        ))
    })?;
    Ok(fs::rename(&part, place)?)
}
