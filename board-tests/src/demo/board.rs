//! `cargo demo board`: a download through an emulated MIPS router that really reboots.
//!
//! Builds what the router boots (the daemon and its package for a big-endian 24Kc, the kernel, our
//! first process), boots it with 64 MB, and shows its serial console beside the download's progress.
//! Decides what is shown, and that the download ended as it should. The first run builds the
//! kernel, which takes minutes.

use std::io::Write;
use std::time::Duration;

use super::DemoError;
use super::reboot::{Show, verdict};
use crate::board::{Board, Firmware, MALTA_BE, Off, Options as BoardOptions};
use crate::lab::stream::{Standing, Stream, Way};
use crate::lab::{Hosts, Path, clock, enter};

/// Bytes of the download.
const BYTES: u64 = 2 << 20;
/// When the router goes down, in hundredths of the download.
const DOWN_AT: u64 = 40;
/// How long a hundredth of the download takes at least, so that it can be watched.
const PACE: Duration = Duration::from_millis(50);
/// How long a boot may take.
const BOOT: Duration = Duration::from_secs(120);
/// How long the router's answer to what is typed may take.
const TYPED: Duration = Duration::from_secs(30);

const DOWNLOAD: Path = Path { ipv6: false, lan: 0, wan: 0, sport: 40_000, dport: 80 };

/// Runs it; whether the download ended as it should.
///
/// # Errors
/// When it could not be carried out to its end.
pub fn run(terminal: bool, out: &mut impl Write) -> Result<bool, DemoError> {
    enter()?;
    let mut show = Show::new(out, terminal);
    let mut told = Ok(());
    let firmware = Firmware::build(&MALTA_BE, "small-64mb", &mut |text| {
        if told.is_ok() {
            told = show.line(text);
        }
    })?;
    told?;
    writeln!(
        show.out,
        "\n  192.0.2.2 ---- [ malta, MIPS 24Kc big-endian, 64 MB, flash 4 MB ] ---- 198.51.100.2:80\n  \
         client         198.51.100.1: masquerade + firmware-ctd, and it reboots         server\n\n  \
         Lines with | are its serial console.\n"
    )?;
    let options = BoardOptions { lan_hosts: 1, wan_hosts: 1, show_log: true, ..Default::default() };
    let (off, mut hosts) = Off::new(&MALTA_BE, &firmware, &options)?;
    let mut scene = Watched { board: off.power_on()?, shown: 0, show };
    scene.until(&mut hosts, "up", 0)?;
    let mut stream = hosts.streams(&[(DOWNLOAD, Way::Down, BYTES)])?.remove(0);
    scene.show.line(&format!("a download of {} MiB begins", BYTES >> 20))?;
    scene.download(&mut hosts, &mut stream, 0..=DOWN_AT)?;
    scene.board.console.type_line("flows", "router# ", TYPED)?;
    scene.console()?;
    let mark = scene.board.heard();
    scene.show.line("reboot")?;
    scene.board.tell("reboot")?;
    scene.until(&mut hosts, "up", mark)?;
    for event in scene.board.events(mark).iter().filter(|it| !it.starts_with("log ")) {
        scene.show.line(event)?;
    }
    scene.download(&mut hosts, &mut stream, DOWN_AT..=100)?;
    scene.board.console.type_line("status", "router# ", TYPED)?;
    scene.console()?;
    let standing = hosts.standings(std::slice::from_mut(&mut stream))[0];
    scene.show.line(&verdict(standing, &stream))?;
    Ok(standing == Standing::Finished && stream.received_hash() == stream.content_hash())
}

/// A board whose console is shown.
struct Watched<'a, W> {
    board: Board,
    /// Lines of the console that were shown.
    shown: usize,
    show: Show<'a, W>,
}

impl<W: Write> Watched<'_, W> {
    /// Shows what the console has said since the last time, whole lines.
    fn console(&mut self) -> Result<(), DemoError> {
        let text = self.board.console.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().skip(self.shown) {
            self.shown += 1;
            if !line.trim().is_empty() {
                self.show.line(&format!("| {line}"))?;
            }
        }
        Ok(())
    }

    /// Shows the console until the board tells of an event.
    fn until(&mut self, hosts: &mut Hosts, word: &str, mark: usize) -> Result<(), DemoError> {
        let began = clock::now();
        loop {
            let step = Duration::from_millis(100);
            let told = self.board.wait_for(hosts, word, mark, step);
            self.console()?;
            match told {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > BOOT => return Err(error.into()),
                Err(_) => {}
            }
        }
    }

    /// Downloads from one hundredth to another, no faster than can be watched.
    fn download(
        &mut self,
        hosts: &mut Hosts,
        stream: &mut Stream,
        hundredths: std::ops::RangeInclusive<u64>,
    ) -> Result<(), DemoError> {
        for share in hundredths {
            let due = clock::now();
            if !hosts.drive_streams(std::slice::from_mut(stream), share) {
                break;
            }
            let until = stream.bytes * share / 100;
            if stream.step(hosts, until) == Standing::Dead {
                break;
            }
            self.show.progress(stream.received(), stream.bytes)?;
            self.console()?;
            let left = PACE.saturating_sub(due.elapsed());
            hosts.drive_until(left, |_| due.elapsed() >= PACE);
        }
        self.show.end_progress()?;
        self.console()
    }
}
