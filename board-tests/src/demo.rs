//! `cargo demo`: a router, hosts, the real daemon, real transfers, and the reckoning.
//!
//! Decides what is shown and what counts as equal: every flow that the hosts made is in the
//! daemon's file exactly once (repeats with the same key aside, which are counted), with the
//! addresses and ports of both directions and the packets and bytes that each side sent. Anything
//! else is told and fails the demo. Limits: what is printed live is a sample, so that it can be
//! read; what is checked is everything.

pub mod board;
mod options;
pub mod reboot;
mod show;
mod summary;

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::lab::daemon::{self, Daemon};
use crate::lab::records::{Record, Tail};
use crate::lab::{
    Guarded, Lab, LabError, Ledger, Options as LabOptions, Phy, Plan, Progress, RunError, clock,
    enter,
};
pub use options::{Action, Options, USAGE};
use show::Show;
use summary::Summary;

/// Seconds after its last packet in which the router forgets a flow.
const FORGET_S: u32 = 2;

/// Enough hosts that none has hundreds of connections at a time.
const HOSTS: LabOptions = LabOptions { lan_hosts: 32, wan_hosts: 16, phy: Phy::Veth, seed: 0 };

/// Why the demo could not be carried out.
#[derive(Debug)]
pub enum DemoError {
    /// The lab or the daemon.
    Lab(LabError),
    /// The transfers.
    Run(RunError),
    /// The terminal.
    Output(std::io::Error),
}

impl std::fmt::Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lab(error) => error.fmt(f),
            Self::Run(error) => write!(f, "transfers: {error}"),
            Self::Output(error) => write!(f, "output: {error}"),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<LabError> for DemoError {
    fn from(error: LabError) -> Self {
        Self::Lab(error)
    }
}

impl From<RunError> for DemoError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<std::io::Error> for DemoError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs the demo; whether everything was equal.
///
/// # Errors
/// When it could not be carried out to its end.
pub fn run(options: &Options, out: &mut impl Write) -> Result<bool, DemoError> {
    // The lab first: where the machine forbids it, nobody should wait for a build to learn so.
    enter()?;
    let mut lab = Lab::new(&LabOptions { seed: options.seed, ..HOSTS })?;
    lab.router.short_timeouts(FORGET_S)?;
    let binary = binary(options, out)?;
    let daemon = Daemon::start(&lab.router, &binary, daemon::configuration)?;
    let mut show = Show::new(out, std::io::stdout().is_terminal());
    show.introduction(options)?;
    let (events, begun) = beginnings(&lab, &daemon)?;
    let mut told = Told { begun, ended: Tail::new(daemon.sink()) };
    let begin = clock::now();
    let ledger = transfers(&mut lab, options, &mut told, &mut show)?;
    finish(&mut lab, &mut told, &mut show)?;
    drop(events);
    let records = daemon.records(ledger.flows.len(), Duration::from_secs(8))?;
    let (status, log) = daemon.stop()?;
    let summary = Summary::new(&ledger, &records, status, log);
    summary.print(show.into_inner(), begin.elapsed())?;
    Ok(summary.is_equal())
}

/// The daemon's binary, built if none was given. Cargo shows its own progress.
fn binary(options: &Options, out: &mut impl Write) -> Result<PathBuf, DemoError> {
    if let Some(path) = &options.daemon {
        return Ok(path.clone());
    }
    writeln!(out, "Building the daemon as it is shipped (cargo build --release) ...")?;
    out.flush()?;
    Ok(daemon::release_binary()?)
}

/// What the daemon tells: beginnings from its live stream, which may leave some out, and ends from
/// its file, which has them all.
struct Told {
    begun: Receiver<Record>,
    ended: Tail,
}

/// The daemon's live stream, and its records as they come.
fn beginnings(lab: &Lab, daemon: &Daemon) -> Result<(Guarded, Receiver<Record>), LabError> {
    let mut command: Command = daemon.client(&["events", "--json"]);
    let mut guard = lab.router.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let (sender, receiver) = channel();
    if let Some(stdout) = guard.child().stdout.take() {
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let records = lines.filter_map(|line| Record::parse(&line).ok());
            for record in records.filter(|record| record.kind == "new") {
                if sender.send(record).is_err() {
                    break;
                }
            }
        });
    }
    Ok((guard, receiver))
}

/// Makes the flows on a thread of its own and shows what the daemon tells meanwhile.
fn transfers(
    lab: &mut Lab,
    options: &Options,
    told: &mut Told,
    show: &mut Show<'_, impl Write>,
) -> Result<Ledger, DemoError> {
    let plan = plan(options);
    let progress = Mutex::new(Progress { planned: plan.flows(), ..Progress::default() });
    let latest = || progress.lock().map(|p| *p).unwrap_or_default();
    let Lab { router, hosts } = lab;
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            hosts.run(&plan, |now| {
                if let Ok(mut progress) = progress.lock() {
                    *progress = *now;
                }
            })
        });
        while !work.is_finished() {
            listen(told, Duration::from_millis(100), show)?;
            // A dump makes the kernel look for flows that have timed out.
            let live = router.dump()?.len();
            show.progress(&latest(), live)?;
        }
        let failed = |_| LabError::new("making transfers", std::io::Error::other("panic"));
        Ok(work.join().map_err(failed)??)
    })
}

fn plan(options: &Options) -> Plan {
    let rate = options.flows.div_ceil(options.seconds.max(1));
    Plan {
        per_second: Some(rate.max(1)),
        response_bytes: 0..=1_000_000,
        pause_ms: 0..=2_000,
        concurrency: 2_000,
        ..Plan::of(options.flows, options.seed)
    }
}

/// Shows what is told within `time`.
fn listen(
    told: &mut Told,
    time: Duration,
    show: &mut Show<'_, impl Write>,
) -> Result<(), DemoError> {
    let begin = clock::now();
    loop {
        let left = time.saturating_sub(begin.elapsed());
        match told.begun.recv_timeout(left) {
            Ok(record) => show.record(&record)?,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                thread::park_timeout(left);
                break;
            }
        }
    }
    for record in told.ended.read()? {
        show.record(&record)?;
    }
    Ok(())
}

/// Lets flows time out for a while, then ends the rest as a restart of the firewall would.
fn finish(
    lab: &mut Lab,
    told: &mut Told,
    show: &mut Show<'_, impl Write>,
) -> Result<(), DemoError> {
    for _ in 0..15 {
        let live = lab.router.dump()?.len();
        if live == 0 {
            break;
        }
        show.waiting(live)?;
        listen(told, Duration::from_millis(100), show)?;
    }
    lab.router.flush()?;
    listen(told, Duration::from_millis(200), show)?;
    show.end()?;
    Ok(())
}
