//! What a process costs: CPU time, memory, and what still waits in its netlink sockets.
//!
//! CPU time is read from the process's CPU clock (`clock_getcpuclockid`): nanoseconds on a CPU,
//! every thread included, ended ones too, also while it runs. `utime` and `stime` of
//! `/proc/PID/stat` count in 10 ms ticks and are too coarse here. A process tree is the process
//! and its living descendants; children that ended before a reading are not in it.
//!
//! It decides nothing about what is a good figure. Linux only; the readings are of the moment and
//! not atomic over several processes.
//!
//! Source: `proc_pid_status(5)`, `proc_pid_smaps(5)`, `clock_getcpuclockid(3)`,
//! `netlink_native_seq_show` in `net/netlink/af_netlink.c`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The time now, for time bounds and wall times.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one clock of the measuring programs")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits before something is looked at again. Never a synchronisation: the caller looks again.
#[expect(clippy::disallowed_methods, reason = "the pause between two looks, always in a loop")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Looks every 5 ms until `what` gives something, at most `seconds`.
///
/// # Errors
/// `TimedOut` with `name` in the message; what `what` gives.
pub fn wait_for<T>(
    name: &str,
    seconds: u64,
    mut what: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let start = now();
    loop {
        if let Some(found) = what()? {
            return Ok(found);
        }
        if start.elapsed() > Duration::from_secs(seconds) {
            let message = format!("waited {seconds} s for {name}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        pause(5);
    }
}

/// The process and all its living descendants.
#[must_use]
pub fn tree(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(children(parent));
        at += 1;
    }
    found
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Nanoseconds that the processes were on a CPU, user and system time together.
///
/// # Errors
/// `ESRCH` when one of them is gone.
pub fn cpu_ns(pids: &[i32]) -> io::Result<u64> {
    pids.iter().map(|pid| process_cpu_ns(*pid)).sum()
}

fn process_cpu_ns(pid: i32) -> io::Result<u64> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid))?;
    let time: Duration = clock.now()?.into();
    Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Nanoseconds that children of the process were on a CPU which have ended and were waited for, and
/// their own children: counted by the kernel in ticks of 10 ms.
///
/// # Errors
/// When it is gone.
pub fn ended_cpu_ns(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ended_ticks(&stat).map(|ticks| ticks * 10_000_000).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat says {stat:?}"))
    })
}

/// `cutime` and `cstime`, the 16th and the 17th field; the second one is a name in parentheses.
fn ended_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Sum of `VmHWM`: the most that was resident so far, shared libraries included.
    pub peak: u64,
    /// Sum of `RssAnon` and `RssShmem`; a page shared by two processes counts twice.
    pub own: u64,
    /// The same from `Pss_Anon` and `Pss_Shmem`: a shared page counts once in all.
    pub own_shared_once: u64,
}

/// Memory of the processes now.
///
/// # Errors
/// When one of them is gone.
pub fn memory(pids: &[i32]) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum.peak += kibibytes(&status, "VmHWM:");
        sum.own += kibibytes(&status, "RssAnon:") + kibibytes(&status, "RssShmem:");
        sum.own_shared_once += kibibytes(&rollup, "Pss_Anon:") + kibibytes(&rollup, "Pss_Shmem:");
    }
    Ok(sum)
}

/// Bytes of the line `name`, which is in KiB.
fn kibibytes(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or(0u64) * 1024
}

/// Bytes that the files below `directory` take, without those mapped by `pids`, whose resident
/// pages [`memory`] already has.
///
/// # Errors
/// What reading the directories gives.
pub fn files(directory: &Path, pids: &[i32]) -> io::Result<u64> {
    let mapped: HashSet<u64> = pids.iter().flat_map(|pid| mapped_inodes(*pid)).collect();
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += match about.is_dir() {
            true => files(&entry.path(), pids)?,
            false if mapped.contains(&about.ino()) => 0,
            false => about.blocks() * 512,
        };
    }
    Ok(sum)
}

fn mapped_inodes(pid: i32) -> Vec<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect()
}

/// One netlink socket of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetlinkSocket {
    /// Protocol; 12 is netfilter.
    pub protocol: u32,
    /// The first 32 groups joined; bit 0 is group 1.
    pub groups: u32,
    /// Bytes waiting to be read, as the kernel charges them.
    pub waiting: u64,
    /// Deliveries that failed, repeated ones included.
    pub drops: u64,
}

/// The netlink sockets of the processes, which are all in the first one's network namespace.
#[must_use]
pub fn netlink_sockets(pids: &[i32]) -> Vec<NetlinkSocket> {
    let own: HashSet<u64> = pids.iter().flat_map(|pid| socket_inodes(*pid)).collect();
    let first = pids.first().copied().unwrap_or_default();
    let table = fs::read_to_string(format!("/proc/{first}/net/netlink")).unwrap_or_default();
    let lines = table.lines().skip(1).filter_map(netlink_line);
    lines.filter(|(inode, _)| own.contains(inode)).map(|(_, socket)| socket).collect()
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
fn netlink_line(line: &str) -> Option<(u64, NetlinkSocket)> {
    let field: Vec<&str> = line.split_whitespace().collect();
    let socket = NetlinkSocket {
        protocol: field.get(1)?.parse().ok()?,
        groups: u32::from_str_radix(field.get(3)?, 16).ok()?,
        waiting: field.get(4)?.parse().ok()?,
        drops: field.get(8)?.parse().ok()?,
    };
    Some((field.get(9)?.parse().ok()?, socket))
}

fn socket_inodes(pid: i32) -> Vec<u64> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// The first processor's name and how many there are.
#[must_use]
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        ["model name", "cpu model", "Model"].contains(&key.trim()).then(|| value.trim().to_owned())
    });
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{} x {}", count, name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}

/// The running kernel's release.
#[must_use]
pub fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work_and_not_without() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = cpu_ns(&[own]).unwrap();
        let start = now();
        let mut sum = 0u64;
        while start.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let worked = cpu_ns(&[own]).unwrap() - before;
        assert!(worked > 1_000_000, "50 ms of work gave {worked} ns");
    }

    #[test]
    fn time_of_ended_children_is_told() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 11 22 20 0 1 0 9";
        assert_eq!(ended_ticks(stat), Some(33));
        assert_eq!(ended_ticks("7 (short) S 1"), None);
    }

    /// Of a process of its own: in this one other tests come and go.
    #[test]
    fn memory_tells_what_was_touched() {
        const BLOCK: u64 = 64 << 20;
        let mut dd = std::process::Command::new("dd");
        dd.args(["if=/dev/zero", "bs=64M", "count=1"]);
        // It fills its block, and then waits for somebody to read.
        let output = std::process::Stdio::piped;
        let mut dd = dd.stdout(output()).stderr(output()).spawn().unwrap();
        let pid = [i32::try_from(dd.id()).unwrap()];
        let found = wait_for("a block to be filled", 20, || {
            let found = memory(&pid)?;
            Ok((found.own >= BLOCK).then_some(found))
        });
        dd.kill().unwrap();
        dd.wait().unwrap();
        let found = found.unwrap();
        assert!((BLOCK..BLOCK + (8 << 20)).contains(&found.own), "{found:?}");
        assert!((BLOCK..BLOCK + (8 << 20)).contains(&found.own_shared_once), "{found:?}");
        assert!(found.peak >= found.own, "{found:?}");
    }

    #[test]
    fn a_netlink_line_is_read() {
        let line = "00000000fefb651  12  8502       00000007 1280     0        0     2        71988    18971   ";
        let (inode, socket) = netlink_line(line).unwrap();
        assert_eq!(inode, 18971);
        let expected = NetlinkSocket { protocol: 12, groups: 7, waiting: 1280, drops: 71988 };
        assert_eq!(socket, expected);
        assert!(netlink_line("short 12").is_none());
    }
}
