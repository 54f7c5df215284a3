//! What the tests of packages begin with: a daemon that OpenWrt could start, packed by the program
//! under test, and unpacked again by tar.
//!
//! Each test program uses a part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The architecture of this machine, as OpenWrt calls it.
pub(crate) const ARCH: &str =
    if cfg!(target_arch = "aarch64") { "aarch64_cortex-a53" } else { "x86_64" };

/// Everything in the packages is dated that.
pub(crate) const EPOCH: u64 = 1_795_000_000;

/// A path in the workspace.
pub(crate) fn top(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).canonicalize().unwrap()
}

/// `cargo cross`.
pub(crate) fn cross(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cross"));
    command.args(arguments).env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    command.output().unwrap()
}

/// What a successful command printed.
pub(crate) fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `program` prints, run in `directory`.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).current_dir(directory).args(arguments).output();
    said(&output.unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// The daemon without shared libraries, as `cargo cross build` makes it for boards.
pub(crate) fn daemon() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_cross")).ancestors().nth(2).unwrap();
        let target = target.join("package-tests");
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap());
        cargo.current_dir(top("")).args(["build", "--locked", "--quiet", "-p", "firmware-ctd"]);
        cargo.args(["--bin", "firmware-ctd", "--target", &triple, "--target-dir"]).arg(&target);
        cargo
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_PROFILE_DEV_STRIP", "true");
        assert!(cargo.status().unwrap().success(), "the daemon was not built");
        target.join(triple).join("debug/firmware-ctd")
    })
}

/// A feed with one package.
pub(crate) struct Feed {
    directory: TempDir,
}

impl Feed {
    /// Makes it with more arguments for `cargo cross package`.
    pub(crate) fn make(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (binary, feed) = (daemon().to_str().unwrap(), directory.path().to_str().unwrap());
        let mut arguments = vec!["package", ARCH, "--binary", binary, "--feed", feed];
        arguments.extend(more);
        said(&cross(&arguments));
        Self { directory }
    }

    /// The directory that a web server would serve.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join(ARCH)
    }

    /// The package's file.
    pub(crate) fn package(&self) -> PathBuf {
        let name = format!("firmware-ctd_{}-r1_{ARCH}.ipk", env!("CARGO_PKG_VERSION"));
        self.path().join(name)
    }

    /// Unpacks it by tar, outer archive, control and files, each into its own directory.
    pub(crate) fn unpack(&self) -> Unpacked {
        let directory = tempfile::tempdir().unwrap();
        let package = self.package();
        let places = [("outer", package.to_str().unwrap()), ("control", ""), ("files", "")];
        let outer = directory.path().join("outer");
        for ((place, _), archive) in places.iter().zip([
            package.clone(),
            outer.join("control.tar.gz"),
            outer.join("data.tar.gz"),
        ]) {
            let into = directory.path().join(place);
            fs::create_dir(&into).unwrap();
            run(&into, "tar", &["-xpzf", archive.to_str().unwrap()]);
        }
        Unpacked { directory }
    }
}

/// An unpacked package.
pub(crate) struct Unpacked {
    directory: TempDir,
}

impl Unpacked {
    /// Its members: `debian-binary` and two archives.
    pub(crate) fn outer(&self) -> PathBuf {
        self.directory.path().join("outer")
    }

    /// What it tells opkg.
    pub(crate) fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// What it installs.
    pub(crate) fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }
}
