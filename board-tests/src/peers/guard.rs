//! What must be put back when the benchmark ends, however it ends.
//!
//! A helper process (`/bin/sh`, in a process group of its own, so that Ctrl-C does not reach it)
//! waits until the benchmark's end of a pipe closes, which also happens when the benchmark is
//! killed; then it does its work. Limit: nothing helps when the machine loses power.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Runs a shell command when dropped, or when this process ends in any way.
#[derive(Debug)]
pub struct Guard {
    helper: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Removes `directory` and all that is in it.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn remove(directory: &Path) -> io::Result<Self> {
        Self::start("rm -rf -- \"$1\"", &[directory.display().to_string()])
    }

    fn start(work: &str, arguments: &[String]) -> io::Result<Self> {
        let mut helper = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("trap '' INT TERM HUP; cat >/dev/null; {work}"))
            .arg("guard")
            .args(arguments)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipe = helper.stdin.take();
        Ok(Self { helper, pipe })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        // Fails only when there is nothing to wait for.
        let _ = self.helper.wait();
    }
}

const MAXIMUM: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// `nf_conntrack_max` changed; put back when dropped, or when this process ends in any way.
#[derive(Debug)]
pub struct RaisedMaximum {
    _guard: Guard,
}

impl RaisedMaximum {
    /// Raises the maximum to `flows`, and leaves it when it is as high already.
    ///
    /// The maximum is one number for the whole machine and can be set in the first network
    /// namespace only.
    ///
    /// # Errors
    /// When it cannot be set: not root, or inside a container.
    pub fn to(flows: u32) -> io::Result<Option<Self>> {
        let before = fs::read_to_string(MAXIMUM)?;
        if before.trim().parse().is_ok_and(|now: u32| now >= flows) {
            return Ok(None);
        }
        Self::set(flows).map(Some)
    }

    /// Sets the maximum to `flows`, higher or lower.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn set(flows: u32) -> io::Result<Self> {
        let path = PathBuf::from(MAXIMUM);
        let before = fs::read_to_string(&path)?.trim().to_owned();
        let mut file = fs::File::options().write(true).open(&path).map_err(|error| {
            let text = format!(
                "nf_conntrack_max is {before} and must be {flows} here, but cannot be \
                 set ({error}): run as root in the first network namespace"
            );
            io::Error::new(error.kind(), text)
        })?;
        let arguments = [before, path.display().to_string()];
        let guard = Guard::start("echo \"$1\" > \"$2\"", &arguments)?;
        file.write_all(flows.to_string().as_bytes())?;
        Ok(Self { _guard: guard })
    }
}
