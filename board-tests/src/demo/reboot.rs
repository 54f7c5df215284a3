//! `cargo demo reboot`: a download goes on although the router in its way reboots; and does not,
//! when the checkpoint is taken away.
//!
//! The router is a network namespace: it is destroyed with its table, addresses and interfaces, and
//! another one is made in its place, for which the kernel's boot id is another too. Decides what is
//! shown, and that both acts ended as they should.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::{DemoError, binary};
use crate::demo::options::Options;
use crate::lab::outlast::{Off, Scene, Setup, images};
use crate::lab::stream::{Standing, Stream, Way};
use crate::lab::{Netns, Options as LabOptions, Path as FlowPath, Phy, clock, enter};

/// Bytes of a download.
const BYTES: u64 = 24 << 20;
/// When the router goes down, in hundredths of the download.
const DOWN_AT: u64 = 40;
/// How long it is off.
const OFF: Duration = Duration::from_millis(1_500);
/// How long a hundredth of the download takes at least, so that it can be watched.
const PACE: Duration = Duration::from_millis(40);

const LAB: LabOptions = LabOptions { lan_hosts: 1, wan_hosts: 1, phy: Phy::Veth, seed: 3 };
const DOWNLOAD: FlowPath = FlowPath { ipv6: false, lan: 0, wan: 0, sport: 40_000, dport: 80 };

/// Runs both acts; whether they ended as they should.
///
/// # Errors
/// When they could not be carried out to their end.
pub fn run(options: &Options, terminal: bool, out: &mut impl Write) -> Result<bool, DemoError> {
    enter()?;
    let binary = binary(options, out)?;
    writeln!(
        out,
        "\n  192.0.2.2 ---- [ router: masquerade + firmware-ctd ] ---- 198.51.100.2:80\n  \
         client             198.51.100.1, and it reboots                server"
    )?;
    writeln!(out, "\n1. With a checkpoint: a download of {} MiB.\n", BYTES >> 20)?;
    let lives = act(&binary, true, terminal, out)?;
    writeln!(out, "\n2. The same, with the checkpoint taken away while the router is off.\n")?;
    let dies = act(&binary, false, terminal, out)?;
    let word = |as_it_should| if as_it_should { "as it should" } else { "NOT AS IT SHOULD" };
    writeln!(
        out,
        "\nWith the checkpoint the connection lived, without it it died: {}.",
        word(lives && dies)
    )?;
    Ok(lives && dies)
}

/// One act; whether it ended as it should.
fn act(
    binary: &Path,
    with_image: bool,
    terminal: bool,
    out: &mut impl Write,
) -> Result<bool, DemoError> {
    let mut scene = Scene::new(LAB, binary, &Setup::default())?;
    let mut stream = scene.streams(&[(DOWNLOAD, Way::Down, BYTES)])?.remove(0);
    let mut show = Show::new(out, terminal);
    download(&mut scene, &mut stream, 0..=DOWN_AT, &mut show)?;
    show.line("router: reboot; firmware-ctd saves and ends")?;
    let (mut off, took) = scene.shut_down()?;
    if with_image {
        tell_image(off.flash(), took, &mut show)?;
    } else {
        std::fs::remove_dir_all(images(off.flash()))?;
        show.line("the image is removed")?;
    }
    show.line("the router's namespace is gone, with table, addresses and interfaces")?;
    off.wait(OFF);
    let mut scene = power_on(off, &mut show)?;
    let restored = scene.lab.router.dump()?.len();
    show.line(&format!("firmware-ctd is ready: {restored} flows in the kernel's table; links up"))?;
    download(&mut scene, &mut stream, DOWN_AT..=100, &mut show)?;
    let standing = scene.standings(std::slice::from_mut(&mut stream))[0];
    show.line(&verdict(standing, &stream))?;
    let right = stream.received_hash() == stream.content_hash();
    Ok(if with_image {
        standing == Standing::Finished && right
    } else {
        standing == Standing::Dead
    })
}

fn power_on(off: Off, show: &mut Show<'_, impl Write>) -> Result<Scene, DemoError> {
    let mut told = Ok(());
    let before = |netns: &Netns, boot: &str| {
        let count = netns.sysctl("net.netfilter.nf_conntrack_count")?;
        told = show.line(&format!("a new router, boot id {boot}: {count} flows in its table"));
        Ok(())
    };
    let scene = off.power_on_after(before)?;
    told?;
    Ok(scene)
}

pub(super) fn verdict(standing: Standing, stream: &Stream) -> String {
    let (got, of) = (stream.received(), stream.bytes);
    let (hash, wanted) = (stream.received_hash(), stream.content_hash());
    match standing {
        Standing::Finished if hash == wanted => {
            format!("finished: {got} bytes, hash {hash:016x} is what the server sent")
        }
        Standing::Finished => format!("{got} bytes, but hash {hash:016x} is not {wanted:016x}"),
        Standing::Dead => format!("DIED after {got} of {of} bytes: the connection was reset"),
        Standing::Wrong(at) => format!("byte {at} is wrong"),
        Standing::Going => format!("STUCK after {got} of {of} bytes"),
    }
}

fn tell_image(
    flash: &Path,
    took: Duration,
    show: &mut Show<'_, impl Write>,
) -> Result<(), DemoError> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(images(flash))? {
        bytes += entry?.metadata()?.len();
    }
    let text = format!("saved in {bytes} bytes; it ended after {} ms", took.as_millis());
    Ok(show.line(&text)?)
}

/// Downloads from one hundredth to another, no faster than can be watched.
fn download(
    scene: &mut Scene,
    stream: &mut Stream,
    hundredths: std::ops::RangeInclusive<u64>,
    show: &mut Show<'_, impl Write>,
) -> Result<(), DemoError> {
    for share in hundredths {
        let due = clock::now();
        if !scene.drive(std::slice::from_mut(stream), share) {
            break;
        }
        if scene.standings_up_to(stream, share) == Standing::Dead {
            break;
        }
        show.progress(stream.received(), stream.bytes)?;
        let left = PACE.saturating_sub(due.elapsed());
        scene.lab.hosts.drive_until(left, |_| due.elapsed() >= PACE);
    }
    show.end_progress()?;
    Ok(())
}

/// The demo's voice.
pub(super) struct Show<'a, W> {
    pub(super) out: &'a mut W,
    terminal: bool,
    began: std::time::Instant,
}

impl<'a, W: Write> Show<'a, W> {
    /// Its clock begins.
    pub(super) fn new(out: &'a mut W, terminal: bool) -> Self {
        Self { out, terminal, began: clock::now() }
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let at = self.began.elapsed().as_secs_f64();
        writeln!(self.out, "  {at:5.1} s  {text}")?;
        self.out.flush()
    }

    pub(super) fn progress(&mut self, got: u64, of: u64) -> io::Result<()> {
        let hundredths = got * 100 / of.max(1);
        if !self.terminal {
            let is_tenth = hundredths.is_multiple_of(10) && hundredths > 0;
            return if is_tenth { self.line(&format!("{hundredths} %")) } else { Ok(()) };
        }
        let bar = "#".repeat(usize::try_from(hundredths * 2 / 5).unwrap_or(0));
        let at = self.began.elapsed().as_secs_f64();
        write!(self.out, "\r  {at:5.1} s  [{bar:<40}] {hundredths:3} %")?;
        self.out.flush()
    }

    pub(super) fn end_progress(&mut self) -> io::Result<()> {
        if self.terminal { writeln!(self.out) } else { Ok(()) }
    }
}
