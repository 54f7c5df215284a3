//! The real daemon in the router's namespace: built, configured, started, waited for.
//!
//! Decides where its files are (a temporary directory that goes with it) and when it is ready (its
//! own word on stderr). Limits: the file sink of the default configuration does not rotate below
//! 64 MiB, about 160,000 records.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::clock;
use super::error::{Context, LabError};
use super::netns::Netns;
use super::process::Guarded;
use super::reboot::BootId;
use super::records::{self, Record};
use super::router::Router;

/// How long the daemon may take to say that it is ready.
const START: Duration = Duration::from_secs(20);

/// The configuration in the daemon's directory.
const CONFIG: &str = "firmware-ctd.toml";

/// Builds the daemon with the cargo that runs this program and returns its path.
///
/// It is built in the same target directory and profile as this program. The environment variable
/// `FIRMWARE_CTD` names another binary instead. Cargo's own progress goes to stderr.
///
/// # Errors
/// When cargo fails.
pub fn binary() -> Result<PathBuf, LabError> {
    let directory = profile_directory().context(BUILDING)?;
    build(&directory)
}

/// The same in the profile that is shipped, whatever profile this program was built in.
///
/// # Errors
/// When cargo fails.
pub fn release_binary() -> Result<PathBuf, LabError> {
    let directory = profile_directory().context(BUILDING)?;
    build(&directory.parent().unwrap_or(&directory).join("release"))
}

const BUILDING: &str = "building the daemon with cargo";

/// `directory` is `target/debug` or `target/release`.
fn build(directory: &Path) -> Result<PathBuf, LabError> {
    const DOING: &str = BUILDING;
    if let Some(path) = std::env::var_os("FIRMWARE_CTD") {
        return Ok(path.into());
    }
    let target = directory.parent().unwrap_or(directory);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["build", "--package", "firmware-ctd", "--bin", "firmware-ctd"]);
    command.arg("--target-dir").arg(target);
    if directory.ends_with("release") {
        command.arg("--release");
    }
    if !command.status().context(DOING)?.success() {
        return Err(LabError::new(DOING, std::io::Error::other("cargo build failed")));
    }
    Ok(directory.join("firmware-ctd"))
}

/// `target/debug` or `target/release` of the running program, test or not.
fn profile_directory() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory = program.parent().unwrap_or(Path::new("."));
    let directory = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    Ok(directory.unwrap_or(Path::new(".")).to_owned())
}

/// What the daemon has logged so far.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    fn collect(&self, from: impl Read) {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            self.change(|state| state.0.push(line));
        }
        self.change(|state| state.1 = true);
    }

    fn change(&self, change: impl FnOnce(&mut (Vec<String>, bool))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.grown.notify_all();
    }

    /// Waits until a line contains `word`; false when the log ended or the time is up.
    fn wait_for(&self, word: &str, limit: Duration) -> bool {
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |lines: &[String]| lines.iter().any(|line| line.contains(word));
        let waiting = |state: &mut (Vec<String>, bool)| !has(&state.0) && !state.1;
        let (guard, _) = self
            .grown
            .wait_timeout_while(guard, limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        has(&guard.0)
    }

    fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// A running daemon and its files.
#[derive(Debug)]
pub struct Daemon {
    guard: Guarded,
    binary: PathBuf,
    log: Arc<Log>,
    directory: Arc<TempDir>,
}

impl Daemon {
    /// Starts `binary` in `router` with the configuration that `configure` makes for a directory
    /// of its own (see [`configuration`]) and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready; the message has the end of its log.
    pub fn start(
        router: &Router,
        binary: &Path,
        configure: impl FnOnce(&Path) -> String,
    ) -> Result<Self, LabError> {
        let directory = tempfile::tempdir().context("making a temporary directory")?;
        let text = configure(directory.path());
        Self::start_in(router.netns(), binary, Arc::new(directory), &text)
    }

    /// The same in any namespace, with this configuration and its files in a directory that may
    /// have been used before.
    ///
    /// # Errors
    /// When it does not get ready; the message has the end of its log.
    pub fn start_in(
        netns: &Netns,
        binary: &Path,
        directory: Arc<TempDir>,
        configuration: &str,
    ) -> Result<Self, LabError> {
        Self::start_booted(netns, binary, directory, configuration, None, &[])
    }

    /// The same, under the id of another boot and with these variables in its environment.
    ///
    /// # Errors
    /// When it does not get ready; the message has the end of its log.
    pub fn start_booted(
        netns: &Netns,
        binary: &Path,
        directory: Arc<TempDir>,
        configuration: &str,
        boot: Option<&BootId>,
        environment: &[(String, String)],
    ) -> Result<Self, LabError> {
        let config = directory.path().join(CONFIG);
        std::fs::write(&config, configuration).context("writing a configuration")?;
        let mut command = Command::new(binary);
        command.arg("run").arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::piped());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut guard = Guarded::spawn_booted(&mut command, netns, boot)?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = guard.child().stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.collect(stderr));
        }
        let daemon = Self { guard, binary: binary.to_owned(), log, directory };
        if daemon.log.wait_for("ready", START) {
            return Ok(daemon);
        }
        Err(daemon.failed("starting the daemon", "it did not get ready"))
    }

    /// An error with the end of the daemon's log.
    #[must_use]
    pub fn failed(&self, doing: &str, what: &str) -> LabError {
        let lines = self.log();
        let last = lines[lines.len().saturating_sub(5)..].join(" | ");
        LabError::new(doing, std::io::Error::other(format!("{what}; its log ends: {last}")))
    }

    /// The directory with its configuration, socket and sink.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory().join(CONFIG)
    }

    /// Its control socket, if it is that of [`configuration`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(self.directory())
    }

    /// The file sink of [`configuration`].
    #[must_use]
    pub fn sink(&self) -> PathBuf {
        sink(self.directory())
    }

    /// The process, for signals and `/proc`.
    pub const fn process(&mut self) -> &mut Guarded {
        &mut self.guard
    }

    /// Everything it logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits until a line of its log contains `word`; false when the time is up.
    #[must_use]
    pub fn wait_for_log(&self, word: &str, limit: Duration) -> bool {
        self.log.wait_for(word, limit)
    }

    /// One of its client commands (`["status", "--json"]`), to be run or spawned.
    #[must_use]
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("-s").arg(socket(self.directory()));
        command
    }

    /// Waits until the sink has at least `wanted` records, at most `limit`; all it has by then.
    ///
    /// # Errors
    /// When the sink cannot be read or holds something else than records.
    pub fn records(&self, wanted: usize, limit: Duration) -> Result<Vec<Record>, LabError> {
        let begin = clock::now();
        let (mut size, path) = (u64::MAX, self.sink());
        loop {
            let grown = std::fs::metadata(&path).map_or(0, |file| file.len());
            let late = begin.elapsed() >= limit;
            if late || grown != size {
                size = grown;
                let records = if grown == 0 { Vec::new() } else { records::read_file(&path)? };
                if late || records.len() >= wanted {
                    return Ok(records);
                }
            }
            pause();
        }
    }

    /// Ends it with SIGTERM and waits; its exit status and its whole log.
    ///
    /// # Errors
    /// When it does not end within 10 seconds.
    pub fn stop(mut self) -> Result<(ExitStatus, Vec<String>), LabError> {
        let status = self.guard.stop(Duration::from_secs(10))?;
        Ok((status, self.log()))
    }
}

/// A configuration whose files are in `directory`: control socket, file sink, kernel settings.
#[must_use]
pub fn configuration(directory: &Path) -> String {
    format!(
        "[control]\nsocket = {:?}\n[events]\nreceive_buffer = \"512KiB\"\n\
         [kernel]\nmanage_sysctls = true\n\
         [[sink]]\ntype = \"file\"\npath = {:?}\nmax_bytes = \"64MiB\"\n",
        socket(directory),
        sink(directory),
    )
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("ctd.sock")
}

fn sink(directory: &Path) -> PathBuf {
    directory.join("flows.jsonl")
}

/// A short pause of a poll of a growing file.
#[expect(clippy::disallowed_methods, reason = "a file cannot be waited for in epoll")]
fn pause() {
    thread::sleep(Duration::from_millis(5));
}
