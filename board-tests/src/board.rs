//! Emulated boards: a whole router of another architecture, with a kernel of its own, flash and
//! two network cards, in QEMU; the hosts around it are those of the lab.
//!
//! A [`Board`] is one emulator process and what it is plugged into: a serial console as a person
//! has it, a channel on which tests talk to its first process (`board-tests/guest`), and two cables
//! to [`Hosts`]. [`Model`] says what there is. A board really reboots; its power can be cut; its
//! flash is a file that outlives both.
//!
//! Programs are cross-built and packed by `cargo cross`, kernels built or fetched once and kept
//! below the target directory. Limits: Debian, whose QEMU and kernels are used; emulation is no
//! measure of time.

mod dialogue;
mod emulator;
pub mod firmware;
pub mod kernel;
mod model;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use board_guest::channel::{from_hex, to_hex};

use crate::daemon::Status;
use crate::lab::{self, Hosts, Netns, Phy, clock};
use dialogue::{Channel, Console};
use emulator::Emulator;
pub use firmware::Firmware;
pub use model::{AARCH64, MALTA_BE, MODELS, Model};

/// Where the daemon has its images on a board.
pub const IMAGES: &str = "/etc/firmware-ctd";
/// The configuration that a test puts on top of the package's.
const CONFIGURATION: &str = "/overlay/board.toml";
/// How long a board may take to boot: many times what it takes on an idle machine.
const BOOT: Duration = Duration::from_secs(90);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// How a board is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its memory.
    pub memory_mib: u32,
    /// Hosts on the LAN.
    pub lan_hosts: u8,
    /// Hosts on the WAN.
    pub wan_hosts: u8,
    /// What the hosts' random numbers start from.
    pub seed: u64,
    /// Show the daemon's log on the console.
    pub show_log: bool,
    /// What QEMU is told besides.
    pub emulator: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let (memory_mib, lan_hosts, wan_hosts, seed) = (64, 10, 4, 7);
        let (show_log, emulator) = (false, Vec::new());
        Self { memory_mib, lan_hosts, wan_hosts, seed, show_log, emulator }
    }
}

/// A board that is switched on.
#[derive(Debug)]
pub struct Board {
    emulator: Emulator,
    channel: Channel,
    /// Its serial console.
    pub console: Console,
    off: Off,
}

/// A board that is switched off: its flash, and where its cables end.
#[derive(Debug)]
pub struct Off {
    model: &'static Model,
    options: Options,
    firmware: Firmware,
    directory: TempDir,
    netns: Netns,
}

impl Off {
    /// A new board with an empty flash, and the hosts around it.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn new(
        model: &'static Model,
        firmware: &Firmware,
        options: &Options,
    ) -> io::Result<(Self, Hosts)> {
        let directory = tempfile::Builder::new().prefix("board-").tempdir()?;
        let netns = Netns::new().map_err(io::Error::other)?;
        let lab = lab::Options {
            lan_hosts: options.lan_hosts,
            wan_hosts: options.wan_hosts,
            phy: Phy::Veth,
            seed: options.seed,
        };
        let hosts = lab::board_hosts(&lab, directory.path(), &netns).map_err(io::Error::other)?;
        let (options, firmware) = (options.clone(), firmware.clone());
        let off = Self { model, options, firmware, directory, netns };
        model.flash.make(&off.flash())?;
        Ok((off, hosts))
    }

    /// The file that is its flash.
    #[must_use]
    pub fn flash(&self) -> PathBuf {
        self.directory.path().join("flash")
    }

    /// Switches it on; returns at once.
    ///
    /// # Errors
    /// When the emulator does not start.
    pub fn power_on(self) -> io::Result<Board> {
        let place = |name: &str| self.directory.path().join(name);
        let ports = ["console", "channel"].map(|name| dialogue::Port::listen(&place(name)));
        let [console, channel] = ports;
        let (console, channel) = (console?, channel?);
        let mut emulator = Emulator::start(&self)?;
        let console = Console::new(console.accept(&mut emulator)?)?;
        let channel = Channel::new(channel.accept(&mut emulator)?)?;
        Ok(Board { emulator, channel, console, off: self })
    }
}

impl Board {
    /// Its model.
    #[must_use]
    pub const fn model(&self) -> &'static Model {
        self.off.model
    }

    /// Cuts the power: nothing is told.
    #[must_use]
    pub fn cut_power(self) -> Off {
        let Self { emulator, off, .. } = self;
        drop(emulator);
        off
    }

    /// How many events the board has told of so far: a mark for [`Self::wait_for`].
    #[must_use]
    pub fn heard(&self) -> usize {
        self.channel.events().len()
    }

    /// All that the board has told of, from a mark on.
    #[must_use]
    pub fn events(&self, mark: usize) -> Vec<String> {
        self.channel.events().split_off(mark.min(self.heard()))
    }

    /// Waits until it tells of an event that begins with `word`, after `mark`; that event. The
    /// hosts go on meanwhile.
    ///
    /// # Errors
    /// `TimedOut` with what the board said last; when the emulator has ended.
    pub fn wait_for(
        &mut self,
        hosts: &mut Hosts,
        word: &str,
        mark: usize,
        limit: Duration,
    ) -> io::Result<String> {
        let began = clock::now();
        loop {
            if let Some(event) = self.events(mark).into_iter().find(|it| it.starts_with(word)) {
                return Ok(event);
            }
            let alive = self.emulator.check();
            if alive.is_err() || began.elapsed() > limit {
                let why = alive.err().map_or("it does not come".to_owned(), |it| it.to_string());
                return Err(self.complaint(&format!("waiting for \"{word}\": {why}")));
            }
            let step = clock::now();
            let time = Duration::from_millis(5);
            hosts.drive_until(time, |_| step.elapsed() >= time);
        }
    }

    /// Waits until it has booted and its interfaces are up.
    ///
    /// # Errors
    /// When it does not, with the end of its console.
    pub fn booted(&mut self, hosts: &mut Hosts, mark: usize) -> io::Result<()> {
        self.wait_for(hosts, "up", mark, BOOT).map(drop)
    }

    fn complaint(&self, what: &str) -> io::Error {
        let tail = |lines: Vec<String>| {
            let from = lines.len().saturating_sub(15);
            lines.into_iter().skip(from).collect::<Vec<_>>().join("\n")
        };
        let console = self.console.text();
        let console = tail(console.lines().map(str::to_owned).collect());
        let events = tail(self.events(0));
        let name = self.off.model.name;
        io::Error::other(format!("{name}: {what}\nits console:\n{console}\nits events:\n{events}"))
    }

    /// Has the board do a command of its first process; the lines of the answer.
    ///
    /// # Errors
    /// What the board says, or when it does not answer.
    pub fn ask(&self, command: &str) -> io::Result<Vec<String>> {
        self.channel
            .ask(command, ANSWER)
            .map_err(|error| self.complaint(&format!("{command:.200}: {error}")))
    }

    /// Has the board run `firmware-ctd` with these words; what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctd(&self, words: &str) -> io::Result<String> {
        Ok(self.ask(&format!("ctd {words}"))?.join("\n"))
    }

    /// The daemon's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> io::Result<Status> {
        Ok(Status(serde_json::from_str(&self.ctd("status --json")?)?))
    }

    /// The flows that the daemon holds.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn flows(&self) -> io::Result<Vec<Value>> {
        let answer = self.ask("ctd flows --json --all")?;
        answer.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Asks for the status until `enough` likes it.
    ///
    /// # Errors
    /// `TimedOut`, with the last status.
    pub fn status_until(
        &self,
        what: &str,
        mut enough: impl FnMut(&Status) -> bool,
    ) -> io::Result<Status> {
        let mut last = None;
        let found = crate::measure::wait_for(what, 60, || {
            let status = self.status()?;
            let found = enough(&status).then(|| status.clone());
            last = Some(status);
            Ok(found)
        });
        found.map_err(|error| self.complaint(&format!("{error}: {last:?}")))
    }

    /// The content of a file on the board.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let hex = self.ask(&format!("get {path}"))?.concat();
        from_hex(&hex).ok_or_else(|| self.complaint("no bytes"))
    }

    /// Puts a file onto the board.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.ask(&format!("put {path} {}", to_hex(content))).map(drop)
    }

    /// Starts the daemon anew with a configuration on top of the package's.
    ///
    /// # Errors
    /// When it is refused.
    pub fn configure(&mut self, hosts: &mut Hosts, text: &str) -> io::Result<()> {
        self.put(CONFIGURATION, text.as_bytes())?;
        self.ask("stop")?;
        let mark = self.heard();
        self.ask("start")?;
        let ready = self.wait_for_log(hosts, "ready: ", mark);
        ready.map(drop)
    }

    /// Waits until the daemon logs a line with `word` in it.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_log(
        &mut self,
        hosts: &mut Hosts,
        word: &str,
        mark: usize,
    ) -> io::Result<String> {
        let began = clock::now();
        let mut from = mark;
        loop {
            let event = self.wait_for(hosts, "log ", from, BOOT.saturating_sub(began.elapsed()))?;
            from += self.events(from).iter().position(|it| *it == event).unwrap_or(0) + 1;
            if event.contains(word) {
                return Ok(event);
            }
        }
    }

    /// Has it begin a command, whose answer is not waited for: ask for nothing until it has come
    /// ([`Self::answer`]), or until the power was cut.
    ///
    /// # Errors
    /// When the emulator has ended.
    pub fn tell(&self, command: &str) -> io::Result<()> {
        self.channel.tell(command)
    }

    /// The answer to what it was told.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn answer(&self) -> io::Result<Vec<String>> {
        self.channel.answer(ANSWER).map_err(|error| self.complaint(&error.to_string()))
    }

    /// Reboots it in order; returns when the kernel is told to, not when it is up. With `forget`,
    /// its images are taken away once the daemon has ended.
    ///
    /// # Errors
    /// When it does not.
    pub fn reboot(&mut self, hosts: &mut Hosts, forget: bool) -> io::Result<()> {
        let mark = self.heard();
        self.tell(if forget { "reboot forget" } else { "reboot" })?;
        let limit = Duration::from_secs(60);
        loop {
            self.wait_for(hosts, "shutdown", mark, limit)?;
            if self.events(mark).iter().any(|event| event.ends_with("rebooting")) {
                return Ok(());
            }
            self.wait_for(hosts, "shutdown", self.heard(), limit)?;
        }
    }
}

/// A directory for what is kept between runs, below the target directory.
///
/// # Errors
/// When it cannot be made.
pub fn cache() -> io::Result<PathBuf> {
    let directory = target()?.join("boards");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// The target directory of this program.
fn target() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // target/debug/demo, or target/debug/deps/boards-0123.
    let profile = program.ancestors().skip(1).find(|it| !it.ends_with("deps"));
    let target = profile.and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| io::Error::other(format!("{} lies nowhere", program.display())))
}
