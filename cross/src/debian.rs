//! A Rust of a given version from Debian's packages, unpacked beside and never installed.
//!
//! Debian 12 has a `rustc-web` beside its old `rustc`, in several versions at a time (the release's
//! own, and the newer one of its security updates); Debian 13's `rustc` is 1.85. apt says which
//! packages a version needs beyond what is installed; they are downloaded and unpacked below the
//! target directory, once for each version.
//!
//! Needs apt with package lists. Only as root can the lists be fetched, which is done when they
//! are missing. Changes nothing else on the machine.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::CrossError;
use crate::workspace::{carry_out, output};

/// Packages of one Rust, the compiler first; the others follow from their dependencies.
type Family = [&'static str; 3];

const FAMILIES: [Family; 2] =
    [["rustc-web", "cargo-web", "libstd-rust-web-dev"], ["rustc", "cargo", "libstd-rust-dev"]];

/// An unpacked Rust.
#[derive(Debug)]
pub(crate) struct Unpacked {
    compiler: &'static str,
    version: String,
    root: PathBuf,
}

impl Unpacked {
    /// The compiler's package and version.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.compiler, self.version)
    }

    /// Where it lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// One of its programs: the installed one when that version is installed.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let unpacked = self.root.join("usr/bin").join(name);
        if unpacked.exists() { unpacked } else { Path::new("/usr/bin").join(name) }
    }

    /// The search path of its shared libraries.
    pub(crate) fn libraries(&self) -> OsString {
        let mut places = Vec::new();
        for lib in ["usr/lib", "lib"].map(|it| self.root.join(it)) {
            let below = fs::read_dir(&lib).into_iter().flatten().flatten().map(|it| it.path());
            places.extend(below.filter(|it| it.is_dir()).flat_map(|it| [it.join("lib"), it]));
            places.push(lib);
        }
        std::env::join_paths(places).unwrap_or_default()
    }
}

/// Rust `wanted` (`1.85`), below `directory`.
pub(crate) fn unpack(
    directory: &Path,
    wanted: &str,
    out: &mut impl Write,
) -> Result<Unpacked, CrossError> {
    let (family, version) = find(wanted, out)?;
    let root = directory.join(format!("debian-{}", version.replace(['~', '+'], "-")));
    if !root.is_dir() {
        writeln!(out, "fetching Debian's {} {version}", family[0])?;
        let part = root.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fetch(&family.map(|name| format!("{name}={version}")), &part)?;
        fs::rename(&part, &root)?;
    }
    Ok(Unpacked { compiler: family[0], version, root })
}

/// The packages, and Debian's version of them, that have Rust `wanted`.
fn find(wanted: &str, out: &mut impl Write) -> Result<(Family, String), CrossError> {
    let missing = || {
        CrossError::Missing(format!(
            "Rust {wanted} is neither installed by rustup nor among Debian's packages here; \
             `rustup toolchain install {wanted}`, or `apt-get update` on Debian 12 or 13"
        ))
    };
    if let Some(found) = listed(wanted).map_err(|_| missing())? {
        return Ok(found);
    }
    writeln!(out, "fetching Debian's package lists")?;
    output(Command::new("apt-get").args(["--quiet", "update"])).map_err(|_| missing())?;
    listed(wanted)?.ok_or_else(missing)
}

/// The same, among the package lists as they are.
fn listed(wanted: &str) -> Result<Option<(Family, String)>, CrossError> {
    for family in FAMILIES {
        let list = output(Command::new("apt-cache").args(["madison", family[0]]))?;
        if let Some(version) = version_of(&list, wanted) {
            return Ok(Some((family, version.to_owned())));
        }
    }
    Ok(None)
}

/// The version in lines `name | version | place` that belongs to Rust `wanted`.
fn version_of<'a>(list: &'a str, wanted: &str) -> Option<&'a str> {
    let versions = list.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
    versions.into_iter().find(|version| {
        version.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(['.', '+', '-']))
    })
}

/// Downloads and unpacks all that is not installed into `root`.
fn fetch(wanted: &[String], root: &Path) -> Result<(), CrossError> {
    let packages = root.join("packages");
    fs::create_dir_all(&packages)?;
    let mut plan = Command::new("apt-get");
    plan.args(["--simulate", "--no-install-recommends", "install"]).args(wanted);
    let plan = output(&mut plan)?;
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "--quiet", "-o", "APT::Sandbox::User=root", "download"]);
    carry_out(download.args(additions(&plan)).current_dir(&packages))?;
    for package in fs::read_dir(&packages)? {
        carry_out(Command::new("dpkg").arg("-x").arg(package?.path()).arg(root))?;
    }
    Ok(fs::remove_dir_all(&packages)?)
}

/// `name=version` of all lines `Inst name (version ...)` and `Inst name [old] (version ...)`.
fn additions(plan: &str) -> Vec<String> {
    let of = |line: &str| {
        let name = line.strip_prefix("Inst ")?.split_whitespace().next()?;
        let version = line.split_once('(')?.1.split_whitespace().next()?;
        Some(format!("{name}={version}"))
    };
    plan.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{additions, version_of};

    #[test]
    fn the_version_is_chosen_by_rusts_part() {
        let list = " rustc-web | 1.96.0+dfsg1-1~deb12u2 | http://deb.debian.org x\n \
                    rustc-web | 1.85.0+dfsg3-1~deb12u3 | http://deb.debian.org y\n";
        assert_eq!(version_of(list, "1.85"), Some("1.85.0+dfsg3-1~deb12u3"));
        assert_eq!(version_of(list, "1.8"), None);
        assert_eq!(version_of("", "1.85"), None);
    }

    #[test]
    fn apts_plan_names_what_is_not_installed() {
        let plan = "NOTE: This is only a simulation!\n\
                    Inst libllvm19 (1:19.1.7-3~deb12u1 Debian:12.15/oldstable [amd64])\n\
                    Inst rustc-web [1.96.0] (1.85.0 Debian:12.15/oldstable [amd64])\n\
                    Remv rustup [1.27]\nConf libllvm19 (1:19.1.7 Debian [amd64])\n";
        assert_eq!(additions(plan), ["libllvm19=1:19.1.7-3~deb12u1", "rustc-web=1.85.0"]);
    }
}
