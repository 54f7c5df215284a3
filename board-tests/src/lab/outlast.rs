//! The scene of a reboot: transfers through a router that goes away in the middle, with the daemon
//! in it before and after.
//!
//! What outlives the reboot is one directory, as flash does; the daemon's sockets and files in
//! memory are in another one each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Daemon;
use super::error::{Context, LabError};
use super::reboot::{BootId, Orphans};
use super::stream::{Standing, Stream, Way};
use super::{Lab, Netns, Options, Path as FlowPath};

/// A lab whose router reboots.
#[derive(Debug)]
pub struct Scene {
    /// The lab.
    pub lab: Lab,
    /// The daemon of this boot.
    pub daemon: Daemon,
    /// How the lab was made.
    pub options: Options,
    binary: PathBuf,
    flash: Arc<TempDir>,
    boots: u8,
    setup: Setup,
}

/// How the daemon of a scene is set up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines within `[checkpoint]` of its configuration, and whole sections after them.
    pub checkpoint: String,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// With these lines within `[checkpoint]`.
    #[must_use]
    pub fn with(checkpoint: &str) -> Self {
        Self { checkpoint: checkpoint.to_owned(), ..Self::default() }
    }
}

/// A scene whose router is off.
#[derive(Debug)]
pub struct Off {
    orphans: Orphans,
    binary: PathBuf,
    flash: Arc<TempDir>,
    boots: u8,
    setup: Setup,
}

impl Scene {
    /// A lab with the daemon `binary`.
    ///
    /// # Errors
    /// Where the machine forbids it.
    pub fn new(options: Options, binary: &Path, setup: &Setup) -> Result<Self, LabError> {
        let lab = Lab::new(&options)?;
        let flash = Arc::new(tempfile::tempdir().context("making a temporary directory")?);
        let daemon = start(lab.router.netns(), binary, flash.path(), 1, setup)?;
        let (binary, setup) = (binary.to_owned(), setup.clone());
        Ok(Self { lab, daemon, options, binary, flash, boots: 1, setup })
    }

    /// What outlives a reboot: images and records.
    #[must_use]
    pub fn flash(&self) -> &Path {
        self.flash.path()
    }

    /// Ends the daemon as an orderly shutdown does and takes the router away; how long the daemon
    /// took to end.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub fn shut_down(self) -> Result<(Off, Duration), LabError> {
        let began = super::clock::now();
        let Self { lab, daemon, options, binary, flash, boots, setup } = self;
        end(daemon)?;
        let took = began.elapsed();
        Ok((Off { orphans: lab.power_off(&options), binary, flash, boots, setup }, took))
    }

    /// Ends the daemon and starts it anew, in the same boot.
    ///
    /// # Errors
    /// When it does not end with 0, or does not get ready.
    pub fn restart_daemon(self) -> Result<Self, LabError> {
        let Self { lab, daemon, options, binary, flash, boots, setup } = self;
        end(daemon)?;
        let daemon = start(lab.router.netns(), &binary, flash.path(), boots, &setup)?;
        Ok(Self { lab, daemon, options, binary, flash, boots, setup })
    }

    /// Cuts the power: nothing is told.
    #[must_use]
    pub fn cut_power(self) -> Off {
        let Self { lab, daemon, options, binary, flash, boots, setup } = self;
        drop(daemon);
        Off { orphans: lab.power_off(&options), binary, flash, boots, setup }
    }

    /// Establishes connections, one after the other, and makes transfers of them.
    ///
    /// # Errors
    /// When one cannot be established.
    pub fn streams(&mut self, wanted: &[(FlowPath, Way, u64)]) -> Result<Vec<Stream>, LabError> {
        self.lab.hosts.streams(wanted)
    }

    /// Drives transfers until each has `share` of a hundred of its bytes, or is over; false if
    /// nothing moved any more.
    pub fn drive(&mut self, streams: &mut [Stream], share: u64) -> bool {
        self.lab.hosts.drive_streams(streams, share)
    }

    /// How one transfer stands that is not to go beyond `share` of a hundred.
    pub fn standings_up_to(&mut self, stream: &mut Stream, share: u64) -> Standing {
        let until = stream.bytes * share / 100;
        stream.step(&mut self.lab.hosts, until)
    }

    /// How each transfer stands.
    pub fn standings(&mut self, streams: &mut [Stream]) -> Vec<Standing> {
        self.lab.hosts.standings(streams)
    }
}

impl Off {
    /// What outlives the reboot.
    #[must_use]
    pub fn flash(&self) -> &Path {
        self.flash.path()
    }

    /// Lets the hosts go on for a while without a router.
    pub fn wait(&mut self, time: Duration) {
        let began = super::clock::now();
        self.orphans.hosts().drive_until(time, |_| began.elapsed() >= time);
    }

    /// Makes the router anew, with the daemon before its interfaces.
    ///
    /// # Errors
    /// Where the machine forbids it, or when the daemon does not get ready.
    pub fn power_on(self) -> Result<Scene, LabError> {
        self.power_on_after(|_, _| Ok(()))
    }

    /// The same, after `before`, which is given the new router and its boot id before the daemon
    /// is started.
    ///
    /// # Errors
    /// Those of `before` too.
    pub fn power_on_after(
        self,
        before: impl FnOnce(&Netns, &str) -> Result<(), LabError>,
    ) -> Result<Scene, LabError> {
        let Self { orphans, binary, flash, boots, setup } = self;
        let options = orphans.options();
        let boots = boots + 1;
        let (lab, daemon) = orphans.power_on(|netns| {
            let boot = BootId::new(flash.path(), boots)?;
            let id = std::fs::read_to_string(boot.path()).context("reading a boot id")?;
            before(netns, id.trim())?;
            start(netns, &binary, flash.path(), boots, &setup)
        })?;
        Ok(Scene { lab, daemon, options, binary, flash, boots, setup })
    }
}

fn end(daemon: Daemon) -> Result<(), LabError> {
    let (status, log) = daemon.stop()?;
    if status.success() {
        return Ok(());
    }
    let error = std::io::Error::other(format!("it ended with {status}: {log:?}"));
    Err(LabError::new("ending the daemon", error))
}

fn start(
    netns: &Netns,
    binary: &Path,
    flash: &Path,
    boot: u8,
    setup: &Setup,
) -> Result<Daemon, LabError> {
    let memory = Arc::new(tempfile::tempdir().context("making a temporary directory")?);
    let boot = BootId::new(flash, boot)?;
    let text = configuration(memory.path(), flash, &setup.checkpoint);
    Daemon::start_booted(netns, binary, memory, &text, Some(&boot), &setup.environment)
}

/// The images of the daemon of [`Scene`].
#[must_use]
pub fn images(flash: &Path) -> PathBuf {
    flash.join("images")
}

/// The newer of the two images.
///
/// # Errors
/// When there is none.
pub fn newest_image(flash: &Path) -> std::io::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(images(flash))? {
        let path = entry?.path();
        if path.ends_with("end.ckpt") {
            continue;
        }
        found.push((std::fs::metadata(&path)?.modified()?, path));
    }
    found.sort();
    found.pop().map(|(_, path)| path).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// The records of the daemon of [`Scene`], over all boots.
#[must_use]
pub fn records(flash: &Path) -> PathBuf {
    flash.join("flows.jsonl")
}

fn configuration(memory: &Path, flash: &Path, more: &str) -> String {
    let (sink, images) = (records(flash), images(flash));
    format!(
        "[control]\nsocket = {:?}\n[kernel]\nmanage_sysctls = true\n\
         [[sink]]\ntype = \"file\"\npath = {sink:?}\nmax_bytes = \"64MiB\"\n\
         [checkpoint]\ndirectory = {images:?}\n{more}\n",
        memory.join("ctd.sock"),
    )
}
