//! What the daemon says of itself: with levels, to where it should, and never more than a bounded
//! number of lines, whatever comes from outside.

mod harness;

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use board_tests::daemon::{Scene, Settings, Tested, binary, client, mounts, tool};
use board_tests::lab::Netns;
use board_tests::load::Flows;
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("every_line_has_its_level", every_line_has_its_level),
        Trial::test("a_flood_that_runs_over_makes_few_lines", few_lines_of_a_flood),
        Trial::test("a_sink_that_fails_on_and_off_makes_few_lines", few_lines_of_a_sink),
        Trial::test("syslog_is_dev_log", syslog_is_dev_log),
        Trial::test("without_dev_log_lines_go_to_stderr", without_dev_log),
        Trial::test("a_log_that_nobody_reads_blocks_nothing", nobody_reads),
    ])
}

/// `<6>firmware-ctd: …`: a level of syslog, and who says it.
fn has_level(line: &str) -> bool {
    ["<3>", "<4>", "<6>", "<7>"].iter().any(|level| line.starts_with(level))
        && line.get(3..).is_some_and(|rest| rest.starts_with("firmware-ctd: ") && rest.len() > 15)
}

fn every_line_has_its_level() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let config = scene.tested.daemon.config();
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("{text}[log2]\n"))?;
    scene.tested.signal(Signal::SIGHUP)?;
    assert!(scene.tested.daemon.wait_for_log("the old one stays", Duration::from_secs(10)));
    fs::write(&config, text.replace("target = \"stderr\"", "level = \"debug\""))?;
    scene.tested.signal(Signal::SIGHUP)?;
    assert!(scene.tested.daemon.wait_for_log("configuration read again", Duration::from_secs(10)));
    scene.tested.signal(Signal::SIGTERM)?;
    scene.tested.daemon.process().wait(Duration::from_secs(10))?;
    assert!(scene.tested.daemon.wait_for_log("ended by a signal", Duration::from_secs(10)));
    let log = scene.tested.daemon.log();
    assert!(log.iter().all(|line| has_level(line)), "{log:#?}");
    for (level, word) in [("<6>", "ready"), ("<3>", "not taken over"), ("<6>", "read again")] {
        let right = |line: &&String| line.starts_with(level) && line.contains(word);
        assert_eq!(log.iter().filter(right).count(), 1, "{word} in {log:#?}");
    }
    Ok(())
}

/// Overruns again and again, repeats, a full table, forged messages and noisy clients.
fn few_lines_of_a_flood() -> Outcome {
    let settings =
        Settings { receive_buffer: 4096, capacity: 16, refresh_s: 1, ..Settings::default() };
    let mut scene = Scene::new(&settings)?;
    let (ready, begin) = (scene.tested.daemon.log().len(), measure::now());
    for round in 0..8 {
        scene.tested.signal(Signal::SIGSTOP)?;
        scene.loader.churn(&Flows::default(), round * 500..(round + 1) * 500, 500)?;
        scene.tested.signal(Signal::SIGCONT)?;
        assert!(client::ask(&scene.tested.daemon.socket(), "nonsense\u{1b}[31m").is_err());
        let status = scene.rest(0)?;
        assert!(status.stat("state_overruns") > u64::from(round), "each round runs over");
    }
    let status = scene.rest(0)?;
    let log = scene.tested.daemon.log();
    // Two at once, and one more each half a minute, which says what was held back before it.
    let most = 2 + usize::try_from(begin.elapsed().as_secs() / 30)?;
    let lines = log.get(ready..).unwrap_or_default();
    assert!((1..=most).contains(&lines.len()), "{log:#?}");
    assert!(lines.iter().all(|line| line.contains("events came faster")), "{log:#?}");
    assert!(lines.iter().skip(2).all(|line| line.contains("suppressed)")), "{log:#?}");
    assert!(status.number("log_suppressed") > 0, "what is held back is counted");
    assert_eq!(status.number("log_dropped"), 0);
    Ok(())
}

/// The file is taken away many times: told a few times, then counted.
fn few_lines_of_a_sink() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let sink = scene.tested.sink();
    scene.churn(&Flows::default(), 10, 10)?;
    scene.rest(0)?;
    for _ in 0..6 {
        fs::remove_file(&sink)?;
        // It looks once a second, and makes the file when there is something to write.
        measure::wait_for("the file to be made anew", 20, || {
            scene.churn(&Flows::default(), 1, 1)?;
            scene.rest(0)?;
            Ok(sink.exists().then_some(()))
        })?;
    }
    let log = scene.tested.log();
    assert_eq!(log.matches("removed or replaced").count(), 3, "{log}");
    assert!(scene.tested.status()?.number("log_suppressed") >= 3);
    Ok(())
}

/// A daemon that was started by hand; killed when dropped.
struct ByHand(Child);

impl ByHand {
    fn start(netns: &Netns, directory: &Path, stderr: Stdio) -> io::Result<Self> {
        let config = directory.join("firmware-ctd.toml");
        let settings = Settings { log: "syslog", ..Settings::default() };
        fs::write(&config, settings.toml(directory))?;
        let arguments = ["run", "-c", config.to_str().unwrap_or_default()];
        let mut command = tool::command(netns, &binary()?, &arguments);
        Ok(Self(command.stderr(stderr).spawn()?))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)), signal)?)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads datagrams until one contains `word`.
fn until(socket: &UnixDatagram, word: &str) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut buffer = [0; 2048];
    while !lines.iter().any(|line: &String| line.contains(word)) {
        let length = socket.recv(&mut buffer).map_err(|error| {
            io::Error::new(error.kind(), format!("waiting for {word:?}: {error}; had {lines:#?}"))
        })?;
        lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    Ok(lines)
}

fn syslog_is_dev_log() -> Outcome {
    let (netns, _loader) = bench::place()?;
    let program = binary()?;
    mounts::privately(|| {
        let directory = tempfile::tempdir()?;
        let dev = directory.path().join("dev");
        fs::create_dir(&dev)?;
        let socket = UnixDatagram::bind(dev.join("log"))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        mounts::dev(&dev)?;
        assert!(program.exists());
        let daemon = ByHand::start(&netns, directory.path(), Stdio::null())?;
        let lines = until(&socket, "ready")?;
        // Facility daemon (3), level info (6), no newline: the log daemon adds it.
        let pids = measure::tree(daemon.0.id().cast_signed());
        assert_eq!(pids.len(), 2, "supervisor and worker");
        let heads: Vec<_> = pids.iter().map(|pid| format!("<30>firmware-ctd[{pid}]: ")).collect();
        let headed = |line: &String| heads.iter().any(|head| line.starts_with(head));
        assert!(lines.iter().all(|line| headed(line) && !line.ends_with('\n')), "{lines:#?}");
        // A log daemon that has gone is not missed, and is found again when it is back.
        drop(socket);
        fs::remove_file(dev.join("log"))?;
        daemon.signal(Signal::SIGHUP)?;
        let asked = client::status(&directory.path().join("ctd.sock"))?;
        assert_eq!(asked.number("allocations_since_ready"), 0);
        let socket = UnixDatagram::bind(dev.join("log"))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        daemon.signal(Signal::SIGTERM)?;
        until(&socket, "ended by a signal")?;
        Ok(())
    })?;
    Ok(())
}

fn without_dev_log() -> Outcome {
    let (netns, _loader) = bench::place()?;
    let program = binary()?;
    mounts::privately(|| {
        let directory = tempfile::tempdir()?;
        let dev = directory.path().join("dev");
        fs::create_dir(&dev)?;
        mounts::dev(&dev)?;
        assert!(program.exists());
        // It is ready when that was read from its stderr.
        let tested = Tested::start(&netns, &Settings { log: "syslog", ..Settings::default() })?;
        assert!(tested.daemon.log().iter().all(|line| has_level(line)), "{}", tested.log());
        Ok(())
    })?;
    Ok(())
}

/// Its stderr is a pipe that is never read: lines are dropped and counted, and it goes on.
fn nobody_reads() -> Outcome {
    let (netns, mut loader) = bench::place()?;
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("ctd.sock");
    let settings = Settings::default();
    let config = directory.path().join("firmware-ctd.toml");
    fs::write(&config, settings.toml(directory.path()))?;
    let arguments = ["run", "-c", config.to_str().unwrap_or_default()];
    let mut command = tool::command(&netns, &binary()?, &arguments);
    let daemon = ByHand(command.stderr(Stdio::piped()).spawn()?);
    measure::wait_for("the daemon to answer", 20, || Ok(client::status(&socket).ok()))?;
    fs::write(&config, "[wrong]\n".repeat(200))?;
    measure::wait_for("the pipe to be full", 60, || {
        daemon.signal(Signal::SIGHUP)?;
        Ok((client::status(&socket)?.number("log_dropped") > 0).then_some(()))
    })?;
    let tally = loader.churn(&Flows::default(), 0..1000, 500)?;
    assert!(tally.complete());
    let written = |status: &client::Status| status.sink("delivered") == 1000;
    measure::wait_for("the records", 20, || Ok(written(&client::status(&socket)?).then_some(())))?;
    Ok(())
}
