//! Storage that wears out: what is written, and when.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use board_tests::daemon::{Status, Tested, binary, complete, tool};
use nix::sys::signal::Signal;

use crate::harness::Outcome;
use crate::{TCP, directory, images, number, saved, settings, start, texts, verified, verify};

pub(crate) fn unchanged() -> Outcome {
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

pub(crate) fn live_copy() -> Outcome {
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
pub(crate) fn budget() -> Outcome {
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
