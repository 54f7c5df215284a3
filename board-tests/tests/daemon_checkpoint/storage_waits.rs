//! Saves that stand still, for whatever reason, hold up nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use board_tests::daemon::{Scene, binary, client, complete, mounts};
use board_tests::measure;
use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::Outcome;
use crate::processes::{saver, state, stop_saver};
use crate::storage_fails::within_mounts;
use crate::{
    MANY, UDP, WHEN_ASKED, directory, images, number, saved, start, texts, verified, verify,
};

/// Flows of a flood.
const FLOOD: u32 = 20_000;

/// Flows come and go, and in between the daemon is asked for its status; the longest wait for it.
fn flood(scene: &mut Scene) -> Result<Duration, Failed> {
    let mut longest = Duration::ZERO;
    for first in (0..FLOOD).step_by(500) {
        complete(&scene.loader.churn(&UDP, first..first + 500, 250)?)?;
        let began = measure::now();
        scene.tested.status()?;
        longest = longest.max(began.elapsed());
    }
    Ok(longest)
}

/// A flood before and while a save stands still; the daemon must not notice. `begin` makes one and
/// has it stand still, and what it gives lets it go on when it is dropped.
fn held_up_by_nothing<G>(
    scene: &mut Scene,
    images: &Path,
    begin: impl FnOnce(&mut Scene) -> Result<G, Failed>,
) -> Outcome {
    saved(scene, 1, MANY)?;
    let usual = flood(scene)?;
    scene.rest(MANY)?;
    let worker = scene.tested.worker()?;
    let held = begin(scene)?;
    let generation = number(&scene.tested.status()?, "generation");
    let slow = flood(scene)?;
    // Another process may have the processor for a while, with and without a save.
    let bound = 3 * usual + Duration::from_secs(1);
    assert!(slow < bound, "a status took {slow:?} during the save, {usual:?} before it");
    let status = scene.rest(MANY)?;
    assert_eq!(number(&status, "generation"), generation, "it stands still yet");
    let output = scene.tested.daemon.client(&["checkpoint", "save", "--wait", "1"]).output()?;
    let (_, told) = texts(&output);
    assert_eq!(output.status.code(), Some(75), "{told}");
    assert!(told.contains("it goes on"), "{told}");
    let status = scene.tested.status()?;
    assert_eq!(scene.tested.account()?.keys(), 2 * FLOOD as usize, "every destroy is told");
    assert_eq!(status.losses(), [], "{status:?}");
    assert_eq!(status.stat("state_overruns") + status.stat("destroy_overruns"), 0, "{status:?}");

    drop(held);
    // The one that stood still, and another that was asked for since then: its image is there
    // before the daemon knows.
    let status = scene.tested.wait("the save to end, and the image of it", 60, |status| {
        let newest = verified(images).ok().and_then(|all| all.last().map(|it| it.generation));
        let told = number(status, "generation");
        told > generation && newest == Some(told)
    })?;
    assert_eq!(number(&status, "failures"), 0, "{status:?}");
    assert_eq!(scene.tested.worker()?, worker, "the worker was never started anew");
    assert_eq!(kept(images)?, [MANY as usize; 2], "each connection once");
    Ok(())
}

/// The connections in the newest image: lines of them, and tuples.
fn kept(images: &Path) -> Result<[usize; 2], Failed> {
    let newest = verified(images)?.pop().ok_or("there is no image")?;
    let show = ["checkpoint", "show", "--json"];
    let output = Command::new(binary()?).args(show).arg(newest.path).output()?;
    let (said, _) = texts(&output);
    let lines = said.lines().filter(|line| line.contains(r#""proto":"tcp""#));
    let tuples = lines.clone().map(serde_json::from_str::<serde_json::Value>);
    let tuples = tuples.map(|line| line.map(|line| line["orig"].to_string()));
    let tuples = tuples.collect::<Result<BTreeSet<_>, _>>()?;
    Ok([lines.count(), tuples.len()])
}

pub(crate) fn stopped_saver() -> Outcome {
    let directory = directory()?;
    let mut scene = start(&directory, WHEN_ASKED, MANY)?;
    held_up_by_nothing(&mut scene, &images(directory.path()), stop_saver)
}

/// Whether it waits for a device or a lock, and no signal ends that.
fn is_blocked(pid: Pid) -> bool {
    state(pid) == Some('D')
}

/// A daemon whose images lie on a file system that can be frozen.
fn on_freezable(test: impl FnOnce(Scene, &mounts::Freezable, &Path) -> Outcome + Send) -> Outcome {
    let directory = directory()?;
    let images = images(directory.path());
    within_mounts(|| {
        let medium = directory.path().join("medium");
        let freezable = mounts::Freezable::new(&medium, 16 << 20, &images)?;
        test(start(&directory, WHEN_ASKED, MANY)?, &freezable, &images)
    })
}

/// Has the daemon save to a frozen file system, and waits until that blocks.
fn block_saver<'f>(
    scene: &mut Scene,
    freezable: &'f mounts::Freezable,
) -> Result<mounts::Frozen<'f>, Failed> {
    let frozen = freezable.freeze()?;
    client::ask(&scene.tested.daemon.socket(), "save 0")?;
    let worker = scene.tested.worker()?;
    measure::wait_for(
        "the save to block",
        20,
        || Ok(saver(worker).filter(|pid| is_blocked(*pid))),
    )?;
    Ok(frozen)
}

pub(crate) fn blocked_storage() -> Outcome {
    on_freezable(|mut scene, freezable, images| {
        held_up_by_nothing(&mut scene, images, |scene| block_saver(scene, freezable))
    })
}

/// It waits for a while, then it goes without; the image before stays.
pub(crate) fn end_on_blocked_storage() -> Outcome {
    on_freezable(|mut scene, freezable, images| {
        saved(&scene, 1, MANY)?;
        let frozen = block_saver(&mut scene, freezable)?;
        let blocked = saver(scene.tested.worker()?).ok_or("nobody saves")?;
        scene.tested.signal(Signal::SIGTERM)?;
        let ended = scene.tested.daemon.process().wait(Duration::from_secs(40))?;
        assert!(ended.is_some(), "it waits for the storage yet");
        drop(frozen);
        let gone = || Ok((!is_blocked(blocked)).then_some(()));
        measure::wait_for("the process that was blocked to go on", 20, gone)?;
        // What was blocked may have written its image by then, or not.
        let generation = verified(images)?.last().map_or(0, |image| image.generation);
        verify(images, generation, MANY as usize)?;
        Ok(())
    })
}
