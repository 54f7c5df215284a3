//! Storage that takes nothing: full, or read-only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use board_tests::daemon::{complete, mounts};

use crate::harness::Outcome;
use crate::{MANY, TCP, WHEN_ASKED, directory, images, number, save, saved, start, texts, verify};

/// Room that is left on the full disk: less than an image takes.
const LEFT: u64 = 8 << 10;

pub(crate) fn full_disk() -> Outcome {
    let fill = |images: &Path| -> io::Result<()> {
        let mut file = File::create(images.join("filler"))?;
        while file.write_all(&[0; 4096]).is_ok() {}
        file.set_len(file.metadata()?.len() - LEFT)
    };
    storage_fails("No space left on device", fill, |images| fs::remove_file(images.join("filler")))
}

pub(crate) fn read_only() -> Outcome {
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
pub(crate) fn within_mounts(body: impl FnOnce() -> Outcome + Send) -> Outcome {
    mounts::privately(|| Ok(body()))?
}
