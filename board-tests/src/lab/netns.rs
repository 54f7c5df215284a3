//! Network namespaces, and the user namespace that lets anybody make them.
//!
//! [`enter`] decides whether a user namespace is needed; [`Netns`] is one network namespace, held
//! alive by a descriptor. Nothing here outlives the process: no name under `/run/netns`, no file.
//! Limits: Linux with user namespaces allowed, or `CAP_SYS_ADMIN`, `CAP_NET_ADMIN` and
//! `CAP_NET_RAW`. Source: namespaces(7), `user_namespaces(7)`, capabilities(7).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use super::error::{Context, LabError};

/// Bits of `CapEff` that making and using network namespaces takes: `CAP_NET_ADMIN` (12),
/// `CAP_NET_RAW` (13), `CAP_SYS_ADMIN` (21).
const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;

/// Makes sure that this process may create network namespaces.
///
/// With the capabilities at hand it does nothing. Otherwise it moves the process into a new user
/// namespace where it is root; files keep their owner, and the network stays the one it was.
/// **Call it first thing in `main`**: the kernel refuses once a second thread runs.
///
/// # Errors
/// [`LabError`] where the machine forbids user namespaces, with what to allow.
pub fn enter() -> Result<(), LabError> {
    if has_capabilities() {
        return Ok(());
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).context("making a user namespace").map_err(advise)?;
    let step = || -> io::Result<()> {
        write_proc("/proc/self/setgroups", "deny")?;
        write_proc("/proc/self/gid_map", &format!("0 {gid} 1"))?;
        write_proc("/proc/self/uid_map", &format!("0 {uid} 1"))
    };
    step().context("becoming root in the user namespace").map_err(advise)?;
    if has_capabilities() {
        return Ok(());
    }
    Err(advise(LabError::new("using the user namespace", io::ErrorKind::PermissionDenied.into())))
}

fn has_capabilities() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|bits| bits & NEEDED == NEEDED)
}

fn write_proc(path: &str, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

/// What stands in the way of user namespaces on this machine, as far as it can be read.
fn advise(error: LabError) -> LabError {
    let found: Vec<String> = [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "15000"),
    ]
    .iter()
    .filter(|(key, bad, _)| {
        fs::read_to_string(PathBuf::from("/proc/sys").join(key)).is_ok_and(|v| v.trim() == *bad)
    })
    .map(|(key, _, good)| format!("sysctl -w {}={good}", key.replace('/', ".")))
    .collect();
    let help = if found.is_empty() {
        "run as root, or allow unprivileged user namespaces (in a container: \
         --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined)"
            .to_owned()
    } else {
        format!("run as root, or allow user namespaces: {}", found.join("; "))
    };
    error.advice(help)
}

/// One network namespace of the lab, alive as long as this value (or a socket in it) is.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A new, empty network namespace.
    ///
    /// # Errors
    /// Where the kernel refuses; the message says what to allow.
    pub fn new() -> Result<Self, LabError> {
        let file = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    File::open("/proc/thread-self/ns/net")
                })
                .join()
        })
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        .context("making a network namespace")
        .map_err(advise)?;
        Ok(Self { file })
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for it.
    ///
    /// Sockets that `work` opens stay in the namespace wherever they are used later.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        let inside = || {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                .context("entering a network namespace")?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|_| {
            Err(LabError::new("working in a network namespace", io::Error::other("panic")))
        })
    }

    /// Writes `value` to the sysctl `key` (`net.ipv4.ip_forward`) of this namespace.
    ///
    /// # Errors
    /// When there is no such key, the value is refused, or `/proc/sys` is read-only.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        self.run(|| {
            File::options()
                .write(true)
                .open(sysctl_path(key))
                .and_then(|mut file| file.write_all(value.as_bytes()))
                .context(&format!("setting {key} to {value}"))
        })
        .map_err(|error| match error.errno() {
            Some(libc::EROFS) => error.advice(
                "/proc/sys is mounted read-only: in a container, run it with --privileged or \
                 mount /proc/sys writable",
            ),
            Some(libc::ENOENT) if key.contains("nf_conntrack") => {
                error.advice("the kernel needs nf_conntrack (modprobe nf_conntrack)")
            }
            _ => error,
        })
    }

    /// The value of the sysctl `key` of this namespace, without the newline.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn sysctl(&self, key: &str) -> Result<String, LabError> {
        self.run(|| {
            let text = fs::read_to_string(sysctl_path(key)).context(&format!("reading {key}"))?;
            Ok(text.trim().to_owned())
        })
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key.replace('.', "/"))
}
