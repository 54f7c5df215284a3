//! Collectors of IPFIX as others run them: nfcapd, nfacctd, and one on Debian's python3-ipfix.
//!
//! Each runs in the foreground in a given network namespace with its files in a directory of its
//! own, and with the configuration of `config/fleet`, of which only paths, port and buffer are
//! replaced: what is documented there is what is tested. A collector is ready when its socket
//! stands in the namespace's own `/proc/net`, and nfacctd when its plugin runs as well. It can be stopped, continued, killed and started
//! anew, by its own process ids alone; [`Collector::collected`] reads what is on disk.
//!
//! Nothing here decides what a collector should have received. Limits: nfcapd tells nothing of
//! the file that it is still writing (2 s); what nfacctd holds in memory is written each second
//! and at its end; IPv4 transport, all on the wildcard address.

mod collected;
mod nfacctd;
mod nfcapd;
mod python_ipfix;
mod socket;

pub use collected::Collected;
pub use socket::Udp;

use crate::lab::Netns;
use crate::load::sys;
use crate::measure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Seconds that a collector may take to start and to end.
const PATIENCE_S: u64 = 60;

/// File of a collector's standard output and error, of all its lives.
const SAID: &str = "said.txt";

/// A kind of collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// nfdump's nfcapd, UDP.
    Nfcapd,
    /// pmacct's nfacctd, UDP, JSON lines.
    Nfacctd,
    /// pmacct's nfacctd, UDP, an SQL table.
    NfacctdSql,
    /// This project's script on python3-ipfix, TCP.
    PythonTcp,
    /// The same, UDP.
    PythonUdp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Nfcapd, Self::Nfacctd, Self::NfacctdSql, Self::PythonTcp, Self::PythonUdp];

    /// The name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nfcapd => "nfcapd",
            Self::Nfacctd => "nfacctd",
            Self::NfacctdSql => "nfacctd-sql",
            Self::PythonTcp => "python3-ipfix over TCP",
            Self::PythonUdp => "python3-ipfix over UDP",
        }
    }

    /// Whether it takes connections instead of datagrams.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::PythonTcp)
    }

    /// The signal that makes it write down what it has and end. nfacctd 1.7.7 blocks SIGTERM
    /// until the next datagram comes.
    const fn end(self) -> Signal {
        match self {
            Self::Nfacctd | Self::NfacctdSql => Signal::SIGINT,
            Self::Nfcapd | Self::PythonTcp | Self::PythonUdp => Signal::SIGTERM,
        }
    }
}

/// How a collector is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// An empty directory for its files.
    pub directory: PathBuf,
    /// Where it listens, on every address of the namespace.
    pub port: u16,
    /// Receive buffer in bytes, which the kernel doubles; `None` for that of `config/fleet`.
    pub buffer: Option<u32>,
}

impl Setup {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// A collector, running or not. Killed when dropped.
#[derive(Debug)]
pub struct Collector {
    kind: Kind,
    setup: Setup,
    child: Option<Child>,
    /// How much it had said when this life began.
    said_before: usize,
}

impl Collector {
    /// Starts it in `netns` and waits until it listens.
    ///
    /// # Errors
    /// When its program is missing, refuses its configuration, or does not listen within a
    /// minute; what it said is in the message.
    pub fn start(kind: Kind, netns: &Netns, setup: Setup) -> io::Result<Self> {
        match kind {
            Kind::Nfcapd => nfcapd::prepare(&setup)?,
            Kind::Nfacctd | Kind::NfacctdSql => nfacctd::prepare(kind, &setup)?,
            Kind::PythonTcp | Kind::PythonUdp => {}
        }
        let mut collector = Self { kind, setup, child: None, said_before: 0 };
        collector.start_anew(netns)?;
        Ok(collector)
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], with the files that it has.
    ///
    /// # Errors
    /// As [`Self::start`]; when it still runs.
    pub fn start_anew(&mut self, netns: &Netns) -> io::Result<()> {
        if self.child.is_some() {
            return Err(io::Error::other(format!("{} runs already", self.kind.name())));
        }
        let mut command = match self.kind {
            Kind::Nfcapd => nfcapd::command(&self.setup)?,
            Kind::Nfacctd | Kind::NfacctdSql => nfacctd::command(&self.setup),
            Kind::PythonTcp => python_ipfix::command(&self.setup, false)?,
            Kind::PythonUdp => python_ipfix::command(&self.setup, true)?,
        };
        self.said_before = self.said().len();
        let said = File::options().create(true).append(true).open(self.setup.path(SAID))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        sys::prepare(&mut command, Some(netns.as_raw_fd()));
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().display().to_string();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        self.child = Some(child);
        let name = format!("{} to listen", self.kind.name());
        measure::wait_for(&name, PATIENCE_S, || self.listening())
            .map_err(|error| self.explain(&error))
    }

    fn listening(&mut self) -> io::Result<Option<()>> {
        let child = self.running()?;
        if let Some(status) = child.try_wait()? {
            self.child = None;
            return Err(io::Error::other(format!("it ended, {status}")));
        }
        let pid = self.pid()?;
        let listens = match self.kind.is_tcp() {
            true => socket::tcp_listens(pid, self.setup.port)?,
            false => socket::udp(pid, self.setup.port)?.is_some(),
        };
        Ok((listens && self.takes_records()).then_some(()))
    }

    /// nfacctd's core listens before its plugin runs, and a record that comes between the two
    /// lies until the next one comes; that it has written once, if only nothing, shows that the
    /// plugin runs.
    fn takes_records(&self) -> bool {
        match self.kind {
            Kind::Nfcapd | Kind::PythonTcp | Kind::PythonUdp => true,
            Kind::Nfacctd | Kind::NfacctdSql => {
                let said = self.said();
                said.get(self.said_before..).is_some_and(|it| it.contains("cache - END"))
            }
        }
    }

    fn running(&mut self) -> io::Result<&mut Child> {
        let name = self.kind.name();
        self.child.as_mut().ok_or_else(|| io::Error::other(format!("{name} does not run")))
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.setup.port
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> io::Result<i32> {
        let id = self.child.as_ref().map(Child::id);
        id.and_then(|id| i32::try_from(id).ok()).ok_or_else(|| io::Error::other("it does not run"))
    }

    /// Its UDP socket: what waits in it, and how many datagrams did not fit.
    ///
    /// # Errors
    /// When it does not run or takes no datagrams.
    pub fn udp(&self) -> io::Result<Udp> {
        socket::udp(self.pid()?, self.setup.port)?
            .ok_or_else(|| io::Error::other(format!("{} has no UDP socket", self.kind.name())))
    }

    /// Sends a signal to each of its processes: SIGSTOP and SIGCONT make it slow.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        for pid in measure::tree(self.pid()?) {
            match kill(Pid::from_raw(pid), signal) {
                // A writer of nfacctd may have ended since it was listed.
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets it write down what it has and end. What waits in a UDP socket, or within nfacctd
    /// between core and plugin, is lost: wait for it before.
    ///
    /// # Errors
    /// When it does not run, or does not end within a minute.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        let processes = measure::tree(self.pid()?);
        kill(Pid::from_raw(self.pid()?), self.kind.end())?;
        self.ended(&processes)
    }

    /// Ends it at once with all its processes; what it has in memory is lost.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        let processes = measure::tree(self.pid()?);
        self.signal(Signal::SIGKILL)?;
        self.ended(&processes)
    }

    /// Waits for its end and that of all its `processes`.
    fn ended(&mut self, processes: &[i32]) -> io::Result<ExitStatus> {
        let name = format!("{} to end", self.kind.name());
        let status = measure::wait_for(&name, PATIENCE_S, || self.running()?.try_wait())
            .map_err(|error| self.explain(&error))?;
        self.child = None;
        measure::wait_for(&name, PATIENCE_S, || {
            Ok(processes.iter().all(|pid| gone(*pid)).then_some(status))
        })
    }

    /// What is on disk so far.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what its collector writes.
    pub fn collected(&self) -> io::Result<Vec<Collected>> {
        match self.kind {
            Kind::Nfcapd => nfcapd::collected(&self.setup),
            Kind::Nfacctd => nfacctd::lines(&self.setup),
            Kind::NfacctdSql => nfacctd::table(&self.setup),
            Kind::PythonTcp | Kind::PythonUdp => python_ipfix::collected(&self.setup),
        }
    }

    /// The records that are none of a flow: those of options templates. Only the collectors on
    /// python3-ipfix keep them.
    ///
    /// # Errors
    /// As [`Self::collected`].
    pub fn options(&self) -> io::Result<Vec<serde_json::Value>> {
        match self.kind {
            Kind::Nfcapd | Kind::Nfacctd | Kind::NfacctdSql => Ok(Vec::new()),
            Kind::PythonTcp | Kind::PythonUdp => python_ipfix::options(&self.setup),
        }
    }

    /// Reads what is on disk until `enough` likes it; at most `seconds`.
    ///
    /// # Errors
    /// `TimedOut` with how many records there were and what the collector said.
    pub fn wait(
        &self,
        seconds: u64,
        mut enough: impl FnMut(&[Collected]) -> bool,
    ) -> io::Result<Vec<Collected>> {
        let mut count = 0;
        let name = format!("records of {}", self.kind.name());
        measure::wait_for(&name, seconds, || {
            let collected = self.collected()?;
            count = collected.len();
            Ok(enough(&collected).then_some(collected))
        })
        .map_err(|error| self.explain(&io::Error::new(error.kind(), format!("{error}: {count}"))))
    }

    /// Everything that it said.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.setup.path(SAID)).unwrap_or_default()
    }

    /// `error` with the last lines that the collector said.
    fn explain(&self, error: &io::Error) -> io::Error {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        let message = format!("{}: {error}; it said:\n{last}", self.kind.name());
        io::Error::new(error.kind(), message)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It fails only when it has ended already, which is what is wanted.
            let _ = self.kill();
        }
    }
}

/// Whether a process has ended, reaped or not.
fn gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// A file of `config/fleet`.
fn fleet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/fleet").join(name)
}

/// A program in the places of an administrator, else by its name alone.
fn program(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// Runs a program to its end; its standard output.
fn output(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(|error| {
        io::Error::new(error.kind(), format!("{program}: {error}; is its package installed?"))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}, {}: {said}", output.status)))
}
