//! The processes of a save: stopped, killed, and ended in the middle.

use std::fs;
use std::io;
use std::time::Duration;

use board_tests::daemon::{Scene, client};
use board_tests::measure;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::Outcome;
use crate::{MANY, WHEN_ASKED, directory, images, number, saved, start, verified, verify};

/// A process that is stopped until this is dropped.
pub(crate) struct Stopped(Pid);

impl Stopped {
    /// Stops it; whether it was there yet, which takes it until it runs the next time.
    fn stop(pid: Pid) -> io::Result<(Self, bool)> {
        let stopped = Self(pid);
        // It fails when the process has ended meanwhile, which the state tells.
        let _ = kill(pid, Signal::SIGSTOP);
        let is_stopped = measure::wait_for("a process to stop or to end", 20, || {
            Ok(match state(pid) {
                Some('T') => Some(true),
                None | Some('Z') => Some(false),
                Some(_) => None,
            })
        });
        Ok((stopped, is_stopped?))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It fails only when the process has been killed.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The process that saves, if one does.
pub(crate) fn saver(worker: i32) -> Option<Pid> {
    measure::tree(worker).get(1).copied().map(Pid::from_raw)
}

/// The state letter of a process, `T` if it is stopped.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Has the daemon save and stops the process that does it. A save that was too fast is over, and
/// another one is tried.
pub(crate) fn stop_saver(scene: &mut Scene) -> Result<Stopped, Failed> {
    let (worker, socket) = (scene.tested.worker()?, scene.tested.daemon.socket());
    for _ in 0..50 {
        let generation = || Ok::<_, io::Error>(number(&client::status(&socket)?, "generation"));
        let before = generation()?;
        client::ask(&socket, "save 0")?;
        let found = measure::wait_for("a save to begin or to be over", 20, || {
            let found = saver(worker);
            Ok((found.is_some() || generation()? > before).then_some(found))
        })?;
        if let Some(pid) = found {
            let (stopped, is_stopped) = Stopped::stop(pid)?;
            // One that had answered is killed by now.
            if is_stopped && generation()? == before && state(pid) == Some('T') {
                return Ok(stopped);
            }
        }
        measure::wait_for(
            "the save to be over",
            20,
            || Ok((generation()? > before).then_some(())),
        )?;
    }
    Err("no save could be met in the middle".into())
}

/// Flows that the process had been given are given to the next one too.
pub(crate) fn broken_off() -> Outcome {
    let directory = directory()?;
    let mut scene = start(&directory, WHEN_ASKED, MANY)?;
    let before = number(&scene.tested.status()?, "generation");
    let stopped = stop_saver(&mut scene)?;
    kill(stopped.0, Signal::SIGKILL)?;
    scene.tested.wait("the save to fail", 20, |status| number(status, "failures") == 1)?;
    let generation = before.max(number(&scene.tested.status()?, "generation")) + 1;
    saved(&scene, generation, MANY)?;
    verify(&images(directory.path()), generation, MANY as usize)?;
    Ok(())
}

/// The worker reads the next dump itself.
pub(crate) fn killed_reader() -> Outcome {
    const COUNT: u32 = 100_000;
    let directory = directory()?;
    // An image that is sure to hold all is begun before the dump.
    let lines = format!("{WHEN_ASKED}\nmax_bytes = 8388608");
    let mut scene = start(&directory, &lines, COUNT)?;
    let (worker, socket) = (scene.tested.worker()?, scene.tested.daemon.socket());
    for _ in 0..20 {
        let before = number(&scene.tested.status()?, "generation");
        client::ask(&socket, "save 0")?;
        let over = || Ok::<_, io::Error>(number(&client::status(&socket)?, "generation") > before);
        let reader = measure::wait_for("a dump to be read or a save to be over", 20, || {
            let reader = measure::tree(worker).get(2).copied();
            Ok((reader.is_some() || over()?).then_some(reader))
        })?;
        // It fails only when the dump is over.
        reader.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        let status = scene.tested.wait("the save", 30, |it| number(it, "generation") > before)?;
        assert_eq!(number(&status, "failures"), 0, "{status:?}");
        verify(&images(directory.path()), before + 1, COUNT as usize)?;
        if scene.tested.log().contains("the process that reads a dump broke off") {
            assert_eq!(status.stat("dumps_failed"), 1, "{status:?}");
            return Ok(());
        }
    }
    Err("no dump could be met in the middle".into())
}

pub(crate) fn second_sigterm() -> Outcome {
    // So many that a save takes a while, and somebody who looks every few milliseconds sees it.
    const COUNT: u32 = 100_000;
    for _ in 0..20 {
        let directory = directory()?;
        let mut scene = start(&directory, WHEN_ASKED, COUNT)?;
        let worker = scene.tested.worker()?;
        scene.tested.signal(Signal::SIGTERM)?;
        let ended = |scene: &mut Scene| scene.tested.daemon.process().wait(Duration::ZERO);
        let found = measure::wait_for("a save to begin or the daemon to end", 20, || {
            let found = saver(worker);
            let over = ended(&mut scene).map_err(io::Error::other)?.is_some();
            Ok((found.is_some() || over).then_some(found))
        })?;
        let Some(pid) = found else { continue };
        let (stopped, is_stopped) = Stopped::stop(pid)?;
        let written = !verified(&images(directory.path()))?.is_empty();
        let in_the_middle = is_stopped && !written && ended(&mut scene)?.is_none();
        if in_the_middle {
            for _ in 0..2 {
                scene.tested.signal(Signal::SIGTERM)?;
            }
            assert!(ended(&mut scene)?.is_none(), "the save is in the middle");
        }
        drop(stopped);
        let code = scene.tested.daemon.process().wait(Duration::from_secs(30))?;
        assert_eq!(code.and_then(|status| status.code()), Some(0), "{}", scene.tested.log());
        verify(&images(directory.path()), 1, COUNT as usize)?;
        if in_the_middle {
            return Ok(());
        }
    }
    Err("no save could be met in the middle".into())
}
