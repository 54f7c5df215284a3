//! The Rust that compiles for boards.
//!
//! Rust has no prebuilt standard library for MIPS, so the first choice is a toolchain with the
//! library's source: the active one of rustup when it has the component `rust-src`, otherwise
//! Debian's packages. The library is then compiled for size, for every target alike. A toolchain
//! that has only the prebuilt libraries of the targets is the second choice.
//!
//! Compiler and source must be of one version; anything else fails in odd places, so it is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::error::CrossError;
use crate::workspace::{Workspace, output};

/// Debian's packages, which move together.
pub(crate) const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Where the standard library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// Compiled with the program.
    Source,
    /// Compiled by whoever made the toolchain.
    Prebuilt,
}

/// A compiler with its cargo.
#[derive(Debug)]
pub(crate) struct Rust {
    sysroot: PathBuf,
    version: String,
    library: Library,
}

impl Rust {
    /// The first choice for `arches` on this machine, if there is any.
    ///
    /// # Errors
    /// The source of the library is of another version than its compiler.
    pub(crate) fn find(
        workspace: &Workspace,
        arches: &[&Arch],
    ) -> Result<Option<Self>, CrossError> {
        let active = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroots: Vec<PathBuf> =
            [active.into(), PathBuf::from("/usr/bin/rustc")].iter().filter_map(sysroot).collect();
        for library in [Library::Source, Library::Prebuilt] {
            if let Some(found) =
                sysroots.iter().find(|it| arches.iter().all(|arch| has(it, library, arch)))
            {
                let rust = Self::at(workspace, found, library)?;
                return Ok(Some(rust));
            }
        }
        Ok(None)
    }

    fn at(workspace: &Workspace, sysroot: &Path, library: Library) -> Result<Self, CrossError> {
        let mut rustc = Command::new(sysroot.join("bin/rustc"));
        let said = output(rustc.current_dir(workspace.path("")).arg("-vV"))?;
        let version = release(&said).map(str::to_owned).ok_or_else(|| {
            CrossError::Failed(format!("{}/bin/rustc tells no release", sysroot.display()))
        })?;
        if library == Library::Source {
            check_source(sysroot, &version)?;
        }
        Ok(Self { sysroot: sysroot.to_owned(), version, library })
    }

    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        let library = match self.library {
            Library::Source => "its library compiled for size",
            Library::Prebuilt => "its prebuilt library: larger than from source",
        };
        format!("Rust {} of {}, {library}", self.version, self.sysroot.display())
    }

    /// Where its standard library comes from.
    pub(crate) const fn library(&self) -> Library {
        self.library
    }

    /// Its cargo, in the workspace's root, unmoved by what the cargo that runs this program set.
    pub(crate) fn cargo(&self, workspace: &Workspace, target: &Path) -> Command {
        let mut cargo = workspace.command(&self.sysroot.join("bin/cargo").into(), target);
        for name in ["CARGO", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTC_WRAPPER"] {
            cargo.env_remove(name);
        }
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo.env("RUSTC", self.sysroot.join("bin/rustc"));
        if self.library == Library::Source {
            // Building the library is not stable; a released compiler does it only when told so.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }
}

/// What to install where [`Rust::find`] has nothing.
pub(crate) fn advice(arches: &[&Arch]) -> String {
    let names: Vec<&str> = arches.iter().map(|it| it.name).collect();
    let targets: Vec<&str> = arches.iter().map(|it| it.rust).collect();
    // rustup has no library for MIPS.
    let prebuilt = if targets.iter().any(|it| it.starts_with("mips")) {
        String::new()
    } else {
        format!(" or `rustup target add {}`", targets.join(" "))
    };
    format!(
        "no Rust here can compile for {}: `apt-get install --no-install-recommends {}` on Debian, \
         or `rustup component add rust-src`{prebuilt}; as root on Debian, --install does the first",
        names.join(", "),
        PACKAGES.join(" ")
    )
}

/// The directory of the compiler `rustc`, when it can be started.
fn sysroot(rustc: &PathBuf) -> Option<PathBuf> {
    let said = output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
    Some(PathBuf::from(said.trim())).filter(|it| it.join("bin/cargo").is_file())
}

fn has(sysroot: &Path, library: Library, arch: &Arch) -> bool {
    let rustlib = sysroot.join("lib/rustlib");
    match library {
        Library::Source => rustlib.join("src/rust/library/std/Cargo.toml").is_file(),
        Library::Prebuilt => {
            let files = fs::read_dir(rustlib.join(arch.rust).join("lib"));
            let mut names = files.into_iter().flatten().flatten().map(|it| it.file_name());
            names.any(|name| name.to_string_lossy().starts_with("libstd-"))
        }
    }
}

/// Debian's source tells its version; rustup's component has none and is always the compiler's.
fn check_source(sysroot: &Path, version: &str) -> Result<(), CrossError> {
    let file = sysroot.join("lib/rustlib/src/rust/src/version");
    let Ok(source) = fs::read_to_string(file) else { return Ok(()) };
    let compiler = version.split('-').next().unwrap_or(version);
    if source.trim() == compiler {
        return Ok(());
    }
    Err(CrossError::Missing(format!(
        "the Rust of {} is {version}, but the source of its library is {}: on Debian, \
         `apt-get install --no-install-recommends {}` brings them to one version",
        sysroot.display(),
        source.trim(),
        PACKAGES.join(" ")
    )))
}

/// The release in what `rustc -vV` says.
fn release(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.strip_prefix("release: "))
}

#[cfg(test)]
mod tests {
    use super::{Library, check_source, has, release};
    use crate::arch::ARCHES;
    use std::fs;

    #[test]
    fn the_compilers_release_is_read() {
        assert_eq!(release("rustc 1.96.0\nhost: x\nrelease: 1.96.0\n"), Some("1.96.0"));
        assert_eq!(release(""), None);
    }

    #[test]
    fn source_of_another_version_is_refused() {
        let place = tempfile::tempdir().unwrap();
        assert!(check_source(place.path(), "1.96.0").is_ok());
        let source = place.path().join("lib/rustlib/src/rust/src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("version"), "1.96.0\n").unwrap();
        assert!(check_source(place.path(), "1.96.0").is_ok());
        assert!(check_source(place.path(), "1.96.0-nightly").is_ok());
        let error = check_source(place.path(), "1.95.0").unwrap_err();
        assert_eq!(error.code(), 69);
        assert!(error.to_string().contains("1.95.0") && error.to_string().contains("1.96.0"));
    }

    #[test]
    fn a_prebuilt_library_is_that_of_its_target() {
        let place = tempfile::tempdir().unwrap();
        let lib = place.path().join("lib/rustlib/x86_64-unknown-linux-musl/lib");
        fs::create_dir_all(&lib).unwrap();
        let found = |name: &str| {
            let arch = ARCHES.iter().find(|it| it.name == name).unwrap();
            has(place.path(), Library::Prebuilt, arch)
        };
        assert!(!found("x86_64"));
        fs::write(lib.join("libstd-0123.rlib"), "").unwrap();
        assert!(found("x86_64") && !found("mips_24kc"));
    }
}
