//! After `ready` the daemon takes no memory, whatever happens; and what it took is little.

mod harness;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use board_tests::daemon::{Scene, Settings, Status, client, complete, tool};
use board_tests::load::{Families, Flows};
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("no_call_for_memory_through_a_million_events", no_call_for_memory),
        Trial::test("own_memory_with_the_table_full", own_memory),
        Trial::test("growth_for_each_live_flow", growth),
    ])
}

// --- no allocation -------------------------------------------------------------------------------

/// Calls for memory, and one that shows that the trace sees the daemon at all: rotation renames.
const TRACED: &str = "trace=brk,mmap,mremap,munmap,mprotect,madvise,rename,renameat,renameat2";

/// strace(1) attached to a running process; killed when dropped.
struct Trace {
    strace: Child,
    log: tempfile::NamedTempFile,
}

impl Trace {
    /// Attaches, and waits until it is.
    fn of(pid: i32) -> io::Result<Self> {
        let log = tempfile::NamedTempFile::new()?;
        let mut command = Command::new("strace");
        command.args(["-f", "-e", TRACED, "-o"]).arg(log.path());
        command.args(["-p", &pid.to_string()]).stderr(Stdio::null());
        let strace = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("strace: {error}; apt-get install strace"))
        })?;
        let mut this = Self { strace, log };
        measure::wait_for("strace to be attached (ptrace must be allowed)", 20, || {
            if let Some(status) = this.strace.try_wait()? {
                return Err(io::Error::other(format!("strace ended: {status}")));
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok((!status.contains("TracerPid:\t0\n")).then_some(()))
        })?;
        Ok(this)
    }

    /// Detaches; every call that was traced.
    fn calls(mut self) -> io::Result<Vec<String>> {
        kill(Pid::from_raw(i32::try_from(self.strace.id()).unwrap_or(0)), Signal::SIGINT)?;
        self.strace.wait()?;
        let text = fs::read_to_string(self.log.path())?;
        // Signals and the end are told too: only calls have parentheses.
        let calls = text.lines().filter(|line| line.contains('(') && !line.contains("---"));
        Ok(calls.map(str::to_owned).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Asks everything that can be asked, well and badly.
fn ask_everything(socket: &Path) -> Outcome {
    for question in
        ["status text", "status json", "status prometheus", "flows text", "flows json all"]
    {
        assert!(!client::ask(socket, question)?.is_empty(), "{question}");
    }
    client::ask(socket, "flows text all proto=udp family=6")?;
    for question in ["flows json all proto=", "events", "", "what?", "flows text all nonsense"] {
        assert!(client::ask(socket, question).is_err(), "{question}");
    }
    let watchers = [client::connect(socket)?, client::connect(socket)?];
    for mut watcher in &watchers {
        io::Write::write_all(&mut watcher, b"events json\n")?;
    }
    let crowd: io::Result<Vec<_>> = (0..20).map(|_| client::connect(socket)).collect();
    drop((crowd?, watchers));
    measure::wait_for("a place for another client", 20, || Ok(client::status(socket).ok()))?;
    Ok(())
}

fn no_call_for_memory() -> Outcome {
    const EACH: u32 = 100_000;
    // Refreshes that come seldom enough: one in the half second after a loss serves as its resync.
    let settings =
        Settings { capacity: 2_000, refresh_s: 3, max_bytes: 1 << 20, ..Settings::default() };
    let mut scene = Scene::new(&settings)?;
    let (pid, socket) = (scene.tested.worker()?, scene.tested.daemon.socket());
    let before = measure::memory(&[pid])?;
    let trace = Trace::of(pid)?;
    let watcher = client::connect(&socket)?;
    io::Write::write_all(&mut &watcher, b"events json\n")?;
    let mut made = 0;
    let mut status = scene.tested.status()?;
    while seen(&status) < 1_000_000 {
        // A stop makes buffers run over, and 3,000 live flows fill the table.
        scene.tested.signal(Signal::SIGSTOP)?;
        complete(&scene.loader.churn(&Flows::MIXED, made..made + 5_000, 1000)?)?;
        scene.tested.signal(Signal::SIGCONT)?;
        complete(&scene.loader.create(&Flows { zone: 1, ..Flows::MIXED }, 0..3_000, 1000)?)?;
        complete(&scene.loader.churn(&Flows::MIXED, made + 5_000..made + EACH, 1000)?)?;
        made += EACH;
        ask_everything(&socket)?;
        scene.netns.set_sysctl("net.netfilter.nf_conntrack_acct", "0")?;
        tool::conntrack(&scene.netns, &["-F"])?;
        status = scene.rest(0)?;
        assert!(made < 2_000_000, "NEW events do not come: {status:?}");
    }
    let resynced =
        |status: &Status| status.stat("resyncs") > 0 && status.stat("settings_restored") > 0;
    let status = scene.tested.wait("a resync and a restored setting", 30, resynced)?;
    let calls = trace.calls()?;
    let (renames, others): (Vec<&String>, Vec<&String>) =
        calls.iter().partition(|call| call.contains("rename"));
    assert!(!renames.is_empty(), "the trace saw nothing of the daemon");
    assert_eq!(others, Vec::<&String>::new());
    say(&format!("{} events, {made} flows, {} renames", seen(&status), renames.len()));
    assert_eq!(status.number("allocations_since_ready"), 0);
    assert!(status.ledger("table_full") > 0 && status.stat("state_overruns") > 0, "{status:?}");
    assert!(status.ledger("clients_behind") > 0 && status.number("clients_refused") > 0);
    // Pages that had never been touched may have been: no more than what stands in its table,
    // memory of keys, batches and rooms.
    let after = measure::memory(&[pid])?;
    assert!(after.own < before.own + (1 << 20), "{before:?} {after:?}");
    Ok(())
}

/// Events that the daemon was told.
fn seen(status: &Status) -> u64 {
    ["events_new", "events_update", "events_destroy"].iter().map(|name| status.stat(name)).sum()
}

/// Tells a figure.
#[expect(clippy::print_stdout, reason = "what was measured is of interest also when it is well")]
fn say(figure: &str) {
    println!("{figure}");
}

// --- how much ------------------------------------------------------------------------------------

/// A daemon with its files on a tmpfs, as on a router: its shared memory is there too.
fn in_memory(settings: &Settings) -> io::Result<Scene> {
    let (netns, loader) = bench::place()?;
    let directory = tempfile::Builder::new().prefix("ctd-").tempdir_in("/dev/shm")?;
    let tested = board_tests::daemon::Tested::start_at(&netns, settings, directory.into())?;
    Ok(Scene { netns, loader, tested })
}

/// All memory of its own at the default capacity, table full, half IPv6: at most 3 MiB.
fn own_memory() -> Outcome {
    const LIVE: u32 = 20_000;
    // Defaults for everything that takes memory.
    let mut scene = in_memory(&Settings { max_bytes: 1 << 20, ..Settings::default() })?;
    let flows = Flows { families: Families::Half, ..Flows::default() };
    let mut made = 0;
    while made < LIVE {
        complete(&scene.loader.create(&flows, made..made + 500, 500)?)?;
        made += 500;
        scene.rest(made)?;
    }
    let status = scene.rest(LIVE)?;
    assert!(status.number("table_permille") >= 999, "{status:?}");
    let halves = status.number("flows_ipv4").abs_diff(status.number("flows_ipv6"));
    assert!(halves * 10 < status.flows(), "half IPv6: {status:?}");
    // Everything is touched: dumps, destroys, clients.
    client::ask(&scene.tested.daemon.socket(), "flows json all")?;
    complete(&scene.loader.churn(&Flows { zone: 5, ..flows }, 0..200, 200)?)?;
    scene.rest(LIVE)?;
    let pid = scene.tested.pid();
    let memory = measure::memory(&measure::tree(pid))?;
    let files = measure::files(scene.tested.daemon.directory(), &[pid])?;
    let total = memory.own + files;
    say(&format!("{} own + {files} in files = {total} bytes", memory.own));
    assert!(total <= 3 << 20, "{} own + {files} in files = {total} bytes", memory.own);
    assert!(memory.own > 1 << 20, "the table is in it: {memory:?}");
    Ok(())
}

/// 65,536 IPv4 flows: at most 128 bytes each.
fn growth() -> Outcome {
    const LIVE: u32 = 65_536;
    let mut scene = in_memory(&Settings { capacity: LIVE, ..Settings::default() })?;
    let pids = measure::tree(scene.tested.pid());
    // What the first events touch is not of the flows.
    scene.churn(&Flows { zone: 5, ..Flows::default() }, 5_000, 500)?;
    scene.rest(0)?;
    let before = measure::memory(&pids)?;
    let mut made = 0;
    while made < LIVE {
        complete(&scene.loader.create(&Flows::default(), made..made + 512, 512)?)?;
        made += 512;
    }
    let all = |status: &Status| status.flows() == u64::from(LIVE);
    scene.tested.wait("all flows to be in the table", 60, all)?;
    let after = measure::memory(&pids)?;
    let growth = after.own.saturating_sub(before.own);
    let most = 128 * u64::from(LIVE);
    say(&format!("{growth} bytes for {LIVE} flows"));
    assert!(growth <= most, "{growth} bytes for {LIVE} flows");
    assert!(growth > most / 4, "it was measured: {growth}");
    assert_eq!(scene.tested.status()?.number("allocations_since_ready"), 0);
    Ok(())
}
