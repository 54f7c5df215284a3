//! Checkpoints of the running daemon on storage as it is: full, read-only, slow, worn out; and
//! every kind of flow through a reboot.

mod harness;
mod kinds;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use board_tests::daemon::{
    Scene, Settings, Status, Tested, binary, client, complete, mounts, tool,
};
use board_tests::lab::Netns;
use board_tests::lab::daemon::Daemon;
use board_tests::lab::reboot::BootId;
use board_tests::load::{Flows, Transport};
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

fn main() -> std::process::ExitCode {
    // Only root of the machine may mount a device, also where others have a user namespace.
    let on_device = |name, test: fn() -> Outcome| {
        Trial::test(name, test).with_ignored_flag(!may_mount_devices())
    };
    harness::run(vec![
        Trial::test("a_full_disk_fails_the_save_and_leaves_the_old_image", full_disk),
        Trial::test("read_only_storage_does_so_too", read_only),
        Trial::test("a_saver_that_stands_still_holds_up_nothing", stopped_saver),
        on_device("storage_that_blocks_holds_up_nothing", blocked_storage),
        on_device("the_daemon_ends_although_storage_blocks", end_on_blocked_storage),
        Trial::test("a_save_that_breaks_off_leaves_nothing_out_of_the_next", broken_off),
        Trial::test("a_dump_whose_reader_is_killed_is_made_again", killed_reader)
            .with_ignored_flag(has_one_processor()),
        Trial::test("a_second_sigterm_in_the_middle_breaks_nothing", second_sigterm),
        Trial::test("an_unchanged_table_is_not_written", unchanged),
        Trial::test("the_live_copy_comes_by_its_interval_and_can_be_restored", live_copy),
        Trial::test("the_flash_budget_is_kept_and_told", budget),
        Trial::test("flows_of_every_kind_are_as_they_were_after_a_reboot", every_kind),
    ])
}

/// Then the worker reads dumps itself.
fn has_one_processor() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() == 1)
}

fn may_mount_devices() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"]) && nix::unistd::geteuid().is_root()
}

// --- a daemon with checkpoints -------------------------------------------------------------------

/// Saves only when asked.
const WHEN_ASKED: &str = "interval_s = 0\nlive_interval_s = 0";

/// Connections that the default rules keep.
const TCP: Flows = Flows { transport: Transport::Tcp, ..Flows::MIXED };

/// Flows that come and go, other ones than those.
const UDP: Flows = Flows { transport: Transport::Udp, ..Flows::MIXED };

/// A directory that outlives the mounts in it.
fn directory() -> io::Result<Arc<TempDir>> {
    let directory = tempfile::Builder::new().prefix("ctd-").tempdir()?;
    fs::create_dir(images(directory.path()))?;
    Ok(Arc::new(directory))
}

fn images(directory: &Path) -> PathBuf {
    directory.join("images")
}

/// A daemon with these lines in its `[checkpoint]`, with `count` connections in its table.
fn start(directory: &Arc<TempDir>, lines: &str, count: u32) -> io::Result<Scene> {
    let (netns, mut loader) = bench::place()?;
    complete(&loader.create(&TCP, 0..count, 500)?)?;
    let settings = settings(directory, lines, count);
    let tested = Tested::start_at(&netns, &settings, Arc::clone(directory))?;
    tested.wait("the first dump", 30, |status| status.flows() == u64::from(count))?;
    Ok(Scene { netns, loader, tested })
}

/// The table holds twice as many IPv4 flows: those of IPv6 take more, and so does a flood.
fn settings(directory: &Arc<TempDir>, lines: &str, count: u32) -> Settings {
    let images = images(directory.path());
    let more = format!("[checkpoint]\ndirectory = {images:?}\n{lines}\n");
    Settings {
        capacity: 1_000 + 2 * count,
        more: Box::leak(more.into_boxed_str()),
        ..Settings::default()
    }
}

fn number(status: &Status, name: &str) -> u64 {
    let checkpoint = &status.0["checkpoint"];
    checkpoint[name].as_u64().unwrap_or_else(|| panic!("no {name} in {checkpoint}"))
}

/// `checkpoint save`, which waits for its end.
fn save(scene: &Scene) -> io::Result<Output> {
    scene.tested.daemon.client(&["checkpoint", "save", "--wait", "30"]).output()
}

/// The same when it must go well.
fn saved(scene: &Scene, generation: u64, flows: u32) -> Result<(), Failed> {
    let output = save(scene)?;
    let (said, error) = texts(&output);
    assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{said}");
    let begin = format!("saved generation {generation}: {flows} flows, ");
    assert!(said.starts_with(&begin), "{said}");
    Ok(())
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// An image by `checkpoint verify`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    generation: u64,
    path: PathBuf,
    said: String,
}

/// Every image of a directory is good; those that there are, the newest one last.
fn verified(directory: &Path) -> Result<Vec<Image>, Failed> {
    let mut found = Vec::new();
    for path in ["a.ckpt", "b.ckpt"].map(|name| directory.join(name)) {
        if path.exists() {
            let verify = ["checkpoint", "verify"];
            let output = Command::new(binary()?).args(verify).arg(&path).output()?;
            let (said, error) = texts(&output);
            assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{said}");
            let generation = said.strip_prefix("good: generation ").unwrap_or_default();
            let generation = generation.split(',').next().unwrap_or_default().parse()?;
            found.push(Image { generation, path, said });
        }
    }
    found.sort();
    Ok(found)
}

/// The newest image of a directory, in which every one is good, has so many flows.
fn verify(directory: &Path, generation: u64, flows: usize) -> Result<PathBuf, Failed> {
    let newest = verified(directory)?.pop().ok_or("there is no image")?;
    let begin = format!("good: generation {generation}, {flows} flows (");
    assert!(newest.said.starts_with(&begin), "{newest:?}");
    Ok(newest.path)
}

// --- storage that fails --------------------------------------------------------------------------

/// Room that is left on the full disk: less than an image takes.
const LEFT: u64 = 8 << 10;

fn full_disk() -> Outcome {
    let fill = |images: &Path| -> io::Result<()> {
        let mut file = File::create(images.join("filler"))?;
        while file.write_all(&[0; 4096]).is_ok() {}
        file.set_len(file.metadata()?.len() - LEFT)
    };
    storage_fails("No space left on device", fill, |images| fs::remove_file(images.join("filler")))
}

fn read_only() -> Outcome {
    let set = |forbid| move |images: &Path| mounts::read_only(images, forbid);
    storage_fails("Read-only file system", set(true), set(false))
}

/// A save while storage is broken: told by the command, in the status and in the log; the image
/// before it stays, and when the storage is mended the next save comes out.
fn storage_fails(
    error: &str,
    breaks: impl FnOnce(&Path) -> io::Result<()> + Send,
    mends: impl FnOnce(&Path) -> io::Result<()> + Send,
) -> Outcome {
    const COUNT: u32 = MANY;
    let directory = directory()?;
    let images = images(directory.path());
    within_mounts(|| {
        mounts::tmpfs(&images, 1 << 20)?;
        let mut scene = start(&directory, WHEN_ASKED, COUNT)?;
        saved(&scene, 1, COUNT)?;
        let image = verify(&images, 1, COUNT as usize)?;
        let before = fs::read(&image)?;
        assert!(before.len() as u64 > 2 * LEFT, "an image of {} bytes", before.len());

        breaks(&images)?;
        complete(&scene.loader.create(&TCP, COUNT..COUNT + 1, 1)?)?;
        let output = save(&scene)?;
        let (said, told) = texts(&output);
        assert_eq!((output.status.code(), said.as_str()), (Some(74), ""), "{told}");
        for word in ["writing", error, "the last image stays"] {
            assert!(told.contains(word), "{word} in {told}");
        }
        let status = scene.tested.status()?;
        let told = ["generation", "failing", "failures", "flash_saves"];
        assert_eq!(told.map(|name| number(&status, name)), [1, 1, 1, 1]);
        let (text, _) = texts(&scene.tested.daemon.client(&["status"]).output()?);
        let warning = format!("WARNING  the last save failed: writing: {error}");
        assert!(text.contains(&warning), "{text}");
        let line = format!("no checkpoint in {}: writing: {error}", images.display());
        let logged = scene.tested.daemon.wait_for_log(&line, Duration::from_secs(10));
        assert!(logged, "{}", scene.tested.log());
        assert_eq!(fs::read(&image)?, before);
        assert_eq!(verify(&images, 1, COUNT as usize)?, image, "the other one is not there");

        mends(&images)?;
        saved(&scene, 2, COUNT + 1)?;
        let status = scene.tested.status()?;
        assert_eq!(["failing", "failures"].map(|name| number(&status, name)), [0, 1]);
        verify(&images, 2, COUNT as usize + 1)?;
        let names: Result<Vec<_>, _> =
            fs::read_dir(&images)?.map(|entry| Ok::<_, io::Error>(entry?.file_name())).collect();
        assert_eq!(names?.len(), 2, "nothing else is left over");
        Ok(())
    })
}

/// Runs the body of a test with mounts of its own.
fn within_mounts(body: impl FnOnce() -> Outcome + Send) -> Outcome {
    mounts::privately(|| Ok(body()))?
}

// --- storage that is slow ------------------------------------------------------------------------

/// Flows in the table of a daemon whose save is to be met in the middle.
const MANY: u32 = 20_000;
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
    // The one that stood still, and those that were asked for since then.
    scene.tested.wait("the save to end", 60, |status| number(status, "generation") > generation)?;
    let status = scene.tested.status()?;
    assert_eq!(number(&status, "failures"), 0, "{status:?}");
    assert_eq!(scene.tested.worker()?, worker, "the worker was never started anew");
    assert_eq!(
        verified(images)?.last().map(|it| it.generation),
        Some(number(&status, "generation"))
    );
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

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

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
fn saver(worker: i32) -> Option<Pid> {
    measure::tree(worker).get(1).copied().map(Pid::from_raw)
}

/// The state letter of a process, `T` if it is stopped.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Has the daemon save and stops the process that does it. A save that was too fast is over, and
/// another one is tried.
fn stop_saver(scene: &mut Scene) -> Result<Stopped, Failed> {
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

fn stopped_saver() -> Outcome {
    let directory = directory()?;
    let mut scene = start(&directory, WHEN_ASKED, MANY)?;
    held_up_by_nothing(&mut scene, &images(directory.path()), stop_saver)
}

/// Flows that the process had been given are given to the next one too.
fn broken_off() -> Outcome {
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
fn killed_reader() -> Outcome {
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

fn blocked_storage() -> Outcome {
    on_freezable(|mut scene, freezable, images| {
        held_up_by_nothing(&mut scene, images, |scene| block_saver(scene, freezable))
    })
}

/// It waits for a while, then it goes without; the image before stays.
fn end_on_blocked_storage() -> Outcome {
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

fn second_sigterm() -> Outcome {
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

// --- storage that wears out ----------------------------------------------------------------------

fn unchanged() -> Outcome {
    let directory = directory()?;
    let mut scene = start(&directory, "interval_s = 1\nlive_interval_s = 0", 100)?;
    let first = |status: &Status| number(status, "unchanged") >= 2;
    let status = scene.tested.wait("two saves of nothing new", 30, first)?;
    let told = ["generation", "flash_saves", "failures"];
    assert_eq!(told.map(|name| number(&status, name)), [1, 1, 0], "{status:?}");
    let image = verify(&images(directory.path()), 1, 100)?;
    let before = fs::metadata(&image)?.modified()?;
    complete(&scene.loader.create(&TCP, 100..101, 1)?)?;
    let second = |status: &Status| number(status, "generation") == 2;
    let status = scene.tested.wait("a save of one more", 30, second)?;
    assert_eq!(number(&status, "flows"), 101);
    let unchanged = number(&status, "unchanged");
    let third = |status: &Status| number(status, "unchanged") > unchanged;
    let status = scene.tested.wait("nothing new again", 30, third)?;
    assert_eq!(told.map(|name| number(&status, name)), [2, 2, 0], "{status:?}");
    assert_eq!(fs::metadata(&image)?.modified()?, before, "the other image is as it was");
    verify(&images(directory.path()), 2, 101)?;
    Ok(())
}

fn live_copy() -> Outcome {
    let directory = directory()?;
    let mut scene = start(&directory, "interval_s = 0\nlive_interval_s = 1", 100)?;
    let written = |status: &Status| number(status, "live_saves") >= 1;
    let status = scene.tested.wait("a live copy", 30, written)?;
    let told = ["generation", "flash_saves", "flash_erase_blocks", "failures"];
    assert_eq!(told.map(|name| number(&status, name)), [0; 4], "nothing went to flash");
    assert_eq!(fs::read_dir(images(directory.path()))?.count(), 0);
    let live = scene.tested.daemon.socket().with_extension("checkpoint");
    let image = verify(&live, 1, 100)?;

    scene.tested.signal(Signal::SIGKILL)?;
    scene.tested.daemon.process().wait(Duration::from_secs(10))?;
    scene.loader.flush()?;
    let restore = ["checkpoint", "restore", image.to_str().unwrap_or_default()];
    let said = tool::output(&scene.netns, &binary()?, &restore)?;
    assert!(said.contains(" created 100"), "{said}");
    assert_eq!(scene.loader.entries()?, 100);
    Ok(())
}

/// Two erase blocks a day: one image, with what the file system writes about it.
fn budget() -> Outcome {
    const LINES: &str = "interval_s = 1\nlive_interval_s = 0\nflash_bytes_per_day = \"128KiB\"\n\
                         erase_block = \"64KiB\"";
    let told = ["flash_saves", "flash_erase_blocks", "flash_blocks_left", "put_off"];
    let directory = directory()?;
    let mut scene = start(&directory, LINES, 100)?;
    let status = scene.tested.wait("an image", 30, |status| number(status, "flash_saves") == 1)?;
    assert_eq!(told.map(|name| number(&status, name))[..3], [1, 2, 0], "{status:?}");
    let image = fs::metadata(verify(&images(directory.path()), 1, 100)?)?.len();
    assert_eq!(["bytes", "flash_bytes"].map(|name| number(&status, name)), [image; 2]);

    complete(&scene.loader.create(&TCP, 100..101, 1)?)?;
    let off = |status: &Status| number(status, "put_off") == 1;
    let status = scene.tested.wait("a save to be put off", 30, off)?;
    assert_eq!(told.map(|name| number(&status, name)), [1, 2, 0, 1], "{status:?}");
    // Half a day a block, and two are wanted.
    let next_s = number(&status, "next_s");
    assert!((86_000..=86_400).contains(&next_s), "the next one comes in {next_s} s");
    let (text, _) = texts(&scene.tested.daemon.client(&["status"]).output()?);
    let line = "flash: 2 erase blocks written, 0 left of 2 a day";
    assert!(text.contains(line), "{text}");

    // What somebody asks for is made all the same, and counted.
    saved(&scene, 2, 101)?;
    let status = scene.tested.status()?;
    assert_eq!(told.map(|name| number(&status, name)), [2, 4, 0, 1], "{status:?}");
    let all = image + number(&status, "bytes");
    assert_eq!(number(&status, "flash_bytes"), all);

    // What is left of the day's outlives the daemon.
    scene.tested.signal(Signal::SIGTERM)?;
    scene.tested.daemon.process().wait(Duration::from_secs(30))?;
    complete(&scene.loader.create(&TCP, 101..102, 1)?)?;
    let settings = settings(&directory, LINES, 100);
    scene.tested = Tested::start_at(&scene.netns, &settings, Arc::clone(&directory))?;
    let status = scene.tested.wait("a save to be put off again", 30, off)?;
    assert_eq!(told.map(|name| number(&status, name)), [0, 0, 0, 1], "{status:?}");
    verified(&images(directory.path()))?;
    Ok(())
}

// --- every kind of flow --------------------------------------------------------------------------

/// The daemon runs, ends, and runs in the next boot with a new kernel table: conntrack(8) shows the
/// flows as they were, and the daemon tells them too.
fn every_kind() -> Outcome {
    let flash = tempfile::tempdir()?;
    let run = |boot, netns: &Netns| -> Result<Daemon, Failed> {
        let memory = Arc::new(tempfile::tempdir()?);
        let lines = "keep = [\"all\"]\ntimeout_cap_s = 432000";
        let text = format!(
            "[control]\nsocket = {:?}\n[kernel]\nmanage_sysctls = true\n\
             [checkpoint]\ndirectory = {:?}\n{lines}\n",
            memory.path().join("ctd.sock"),
            flash.path().join("images"),
        );
        let boot = BootId::new(flash.path(), boot)?;
        Ok(Daemon::start_booted(netns, &binary()?, memory, &text, Some(&boot), &[])?)
    };
    let (netns, _) = bench::place()?;
    let count = kinds::all_kinds(&netns)?;
    let daemon = run(1, &netns)?;
    measure::wait_for("the first dump", 30, || {
        let flows = client::status(&daemon.socket())?.flows();
        Ok((flows == count as u64).then_some(()))
    })?;
    let before = kinds::shown(&netns)?;
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), count);
    let (status, log) = daemon.stop()?;
    assert!(status.success(), "{status}: {log:?}");
    verify(&flash.path().join("images"), 1, count)?;

    let (netns, _) = bench::place()?;
    tool::output(&netns, "nft".as_ref(), &[kinds::RULES])?;
    let daemon = run(2, &netns)?;
    let status = client::status(&daemon.socket())?;
    let restored = &status.0["restore"];
    assert_eq!(restored["restored"].as_u64(), Some(count as u64), "{restored}");
    kinds::same_shown(&before, &kinds::shown(&netns)?);
    let told = client::ask(&daemon.socket(), "flows json all")?;
    assert_eq!(told.lines().count(), count);
    assert!(told.lines().all(|line| line.contains("\"account\":")), "{told}");
    Ok(())
}
