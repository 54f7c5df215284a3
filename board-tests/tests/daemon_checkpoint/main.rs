//! Checkpoints of the running daemon on storage as it is: full, read-only, slow, worn out; and
//! every kind of flow through a reboot.

mod every_kind;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../kinds/mod.rs"]
mod kinds;
mod processes;
mod storage_fails;
mod storage_waits;
mod wear;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use board_tests::daemon::{Scene, Settings, Status, Tested, binary, complete};
use board_tests::load::{Flows, Transport};
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

fn main() -> std::process::ExitCode {
    // Only root of the machine may mount a device, also where others have a user namespace.
    let on_device = |name, test: fn() -> Outcome| {
        Trial::test(name, test).with_ignored_flag(!may_mount_devices())
    };
    harness::run(vec![
        Trial::test(
            "a_full_disk_fails_the_save_and_leaves_the_old_image",
            storage_fails::full_disk,
        ),
        Trial::test("read_only_storage_does_so_too", storage_fails::read_only),
        Trial::test("a_saver_that_stands_still_holds_up_nothing", storage_waits::stopped_saver),
        on_device("storage_that_blocks_holds_up_nothing", storage_waits::blocked_storage),
        on_device("the_daemon_ends_although_storage_blocks", storage_waits::end_on_blocked_storage),
        Trial::test("a_save_that_breaks_off_leaves_nothing_out_of_the_next", processes::broken_off),
        Trial::test("a_dump_whose_reader_is_killed_is_made_again", processes::killed_reader)
            .with_ignored_flag(has_one_processor()),
        Trial::test("a_second_sigterm_in_the_middle_breaks_nothing", processes::second_sigterm),
        Trial::test("an_unchanged_table_is_not_written", wear::unchanged),
        Trial::test("the_live_copy_comes_by_its_interval_and_can_be_restored", wear::live_copy),
        Trial::test("the_flash_budget_is_kept_and_told", wear::budget),
        Trial::test("flows_of_every_kind_are_as_they_were_after_a_reboot", every_kind::every_kind),
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

/// Flows in the table of a daemon whose save is to be met in the middle.
const MANY: u32 = 20_000;
