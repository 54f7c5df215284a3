//! Programs that the steps need, and where Debian has them.
//!
//! As root on Debian the missing ones are installed, without their recommendations and without
//! starting a service: `policy-rc.d` forbids that while apt works, and services of what was
//! installed here are not left enabled. Otherwise all that is missing is listed, and the step
//! fails. Never removes anything.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Failure;
use super::job::Job;

/// A program of a package.
#[derive(Debug)]
struct Need {
    program: &'static str,
    package: &'static str,
    /// The steps that use it.
    steps: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need { program: "conntrack", package: "conntrack", steps: &["lab"] },
    Need { program: "conntrackd", package: "conntrackd", steps: &["lab", "peers"] },
    Need { program: "ulogd", package: "ulogd2", steps: &["lab", "peers"] },
    Need { program: "nft", package: "nftables", steps: &["lab"] },
    Need { program: "tcpdump", package: "tcpdump", steps: &["lab"] },
    Need { program: "strace", package: "strace", steps: &["lab"] },
    Need { program: "nfcapd", package: "nfdump", steps: &["lab"] },
    Need { program: "nfacctd", package: "pmacct", steps: &["lab"] },
    Need { program: "sqlite3", package: "sqlite3", steps: &["lab"] },
    Need { program: "ipfix2csv", package: "python3-ipfix", steps: &["lab"] },
    Need { program: "faketime", package: "faketime", steps: &["lab"] },
    Need { program: "ip", package: "iproute2", steps: &["lab"] },
    Need { program: "mkfs.ext4", package: "e2fsprogs", steps: &["lab"] },
    Need { program: "mount", package: "mount", steps: &["lab"] },
    Need { program: "fsfreeze", package: "util-linux", steps: &["lab"] },
    Need { program: "busybox", package: "busybox", steps: &["feed"] },
    Need { program: "git", package: "git", steps: &["feed"] },
    Need { program: "make", package: "make", steps: &["feed"] },
    Need { program: "shellcheck", package: "shellcheck", steps: &["feed"] },
    Need { program: "signify-openbsd", package: "signify-openbsd", steps: &["feed"] },
    Need { program: "unshare", package: "util-linux", steps: &["feed"] },
    Need { program: "c++", package: "g++", steps: &["fuzz", "clippy"] },
    Need { program: "qemu-mips-static", package: "qemu-user-static", steps: &["cross"] },
    Need { program: "dpkg", package: "dpkg", steps: &["msrv", "boards"] },
    Need { program: "qemu-system-mips", package: "qemu-system-mips", steps: &["boards"] },
    Need { program: "qemu-system-aarch64", package: "qemu-system-arm", steps: &["boards"] },
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", steps: &["boards"] },
    Need { program: "mips-linux-gnu-gcc", package: "gcc-mips-linux-gnu", steps: &["boards"] },
    Need {
        program: "/usr/src/linux-source-6.1.tar.xz",
        package: "linux-source-6.1",
        steps: &["boards"],
    },
    Need { program: "flex", package: "flex", steps: &["boards"] },
    Need { program: "bison", package: "bison", steps: &["boards"] },
    Need { program: "bc", package: "bc", steps: &["boards"] },
    Need { program: "modprobe", package: "kmod", steps: &["boards"] },
    Need { program: "mkfs.ext4", package: "e2fsprogs", steps: &["boards"] },
];

/// Services that come with the packages.
const SERVICES: [(&str, &str); 7] = [
    ("conntrackd", "conntrackd.service"),
    ("ulogd2", "ulogd2.service"),
    ("nfdump", "nfdump.service"),
    ("pmacct", "nfacctd.service"),
    ("pmacct", "pmacctd.service"),
    ("pmacct", "sfacctd.service"),
    ("pmacct", "uacctd.service"),
];

/// Parts of the Rust toolchain.
const COMPONENTS: [(&str, &str, &str); 2] =
    [("rustfmt", "cargo-fmt", "format"), ("clippy", "cargo-clippy", "clippy")];

/// The step: everything that the steps of this run need.
pub(super) fn work(job: &mut Job<'_>) -> Result<(), Failure> {
    let missing = missing(job);
    if !missing.is_empty() && root_on_debian() {
        let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        install(job, &packages)?;
    }
    let mut left = missing_text(&self::missing(job));
    left.extend(missing_components(job));
    if left.is_empty() { job.say("nothing is missing") } else { Err(left.join("\n")) }
}

/// Whether one of `steps` is to be run; this step alone is for all of them.
fn wanted(job: &Job<'_>, steps: &[&str]) -> bool {
    job.chosen().count() == 1 || job.chosen().any(|step| steps.contains(&step))
}

fn missing(job: &Job<'_>) -> Vec<&'static Need> {
    let wanted = |need: &&Need| wanted(job, need.steps);
    NEEDS.iter().filter(wanted).filter(|need| find(need.program).is_none()).collect()
}

fn missing_text(missing: &[&Need]) -> Vec<String> {
    if missing.is_empty() {
        return Vec::new();
    }
    let of = |need: &&Need| format!("{} (for {})", need.program, need.steps.join(", "));
    let programs: Vec<String> = missing.iter().map(of).collect();
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    vec![
        format!("missing: {}", programs.join("; ")),
        format!("on Debian: apt-get install --no-install-recommends {}", packages.join(" ")),
        "--only STEP runs a step by itself; --list shows all".to_owned(),
    ]
}

fn missing_components(job: &Job<'_>) -> Vec<String> {
    let wanted = COMPONENTS.iter().filter(|(.., step)| wanted(job, &[step]));
    let missing = wanted.filter(|(_, tool, _)| {
        !Command::new(tool).arg("--version").output().is_ok_and(|done| done.status.success())
    });
    missing.map(|(name, ..)| format!("missing: rustup component add {name}")).collect()
}

/// A program in the places where an administrator's shell looks.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system);
    places.find_map(|place| Some(place.join(program)).filter(|it| it.is_file()))
}

fn root_on_debian() -> bool {
    let debian = Path::new("/etc/debian_version").exists() && find("apt-get").is_some();
    debian && nix::unistd::geteuid().is_root()
}

/// Tries with the package lists as they are first, then with new ones.
fn install(job: &mut Job<'_>, packages: &[&str]) -> Result<(), Failure> {
    let _no_service = NoService::begin().map_err(|error| format!("policy-rc.d: {error}"))?;
    let arguments = ["install", "--yes", "--no-install-recommends"];
    if job.run(apt(&arguments).args(packages)).is_err() {
        job.run(&mut apt(&["update"]))?;
        job.run(apt(&arguments).args(packages))?;
    }
    if find("systemctl").is_none() {
        return Ok(());
    }
    for (_, service) in SERVICES.iter().filter(|(package, _)| packages.contains(package)) {
        job.run(Command::new("systemctl").args(["disable", "--quiet", service]))?;
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, packages start no service. A policy that is there already is left alone.
#[derive(Debug)]
struct NoService {
    made: Option<&'static Path>,
}

impl NoService {
    fn begin() -> io::Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { made: None });
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o755).open(path)?;
        io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")?;
        Ok(Self { made: Some(path) })
    }
}

impl Drop for NoService {
    fn drop(&mut self) {
        if let Some(path) = self.made {
            // It fails only when somebody else removed it.
            let _ = fs::remove_file(path);
        }
    }
}
