//! The two files of a place: which one to read, which one to write, and writing it whole.
//!
//! Images with an odd generation lie in `a.ckpt`, those with an even one in `b.ckpt`. The next one
//! is one higher than the best that can be read, so it never goes over that. It is written beside
//! them, and takes its place once all of it has reached the storage.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::checkpoint::Reader;
use crate::daemon::clock;

/// What lies in a directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The best image, open, and its file.
    pub image: Option<(PathBuf, Reader<File>)>,
    /// Files that are there and are no good image.
    pub refused: u32,
}

/// The file for an image of this generation.
#[must_use]
pub fn slot(directory: &Path, generation: u64) -> PathBuf {
    directory.join(if generation % 2 == 1 { "a.ckpt" } else { "b.ckpt" })
}

/// Looks for the image with the highest generation that is good. What is not is told in the log.
#[must_use]
pub fn load(directory: &Path) -> Found {
    let mut found = Found::default();
    for path in [1, 2].map(|generation| slot(directory, generation)) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                log::warn!("{}: {error}", path.display());
                found.refused += 1;
                continue;
            }
        };
        match Reader::open(file) {
            Ok(reader) => {
                let best = found.image.as_ref().map_or(0, |(_, best)| best.facts().generation);
                if reader.facts().generation > best {
                    found.image = Some((path, reader));
                }
            }
            Err(fault) => {
                log::warn!("{}: {fault}; the other image is used", path.display());
                found.refused += 1;
            }
        }
    }
    found
}

/// The generation of the best image there; 0 if there is none.
#[must_use]
pub fn newest(directory: &Path) -> u64 {
    load(directory).image.map_or(0, |(_, reader)| reader.facts().generation)
}

/// Writes a whole image in the place of the file at `path`; makes the directory if need be.
///
/// The file's time is never later than `wall_ns`: OpenWrt sets the clock of a board without one to
/// the latest time of a file when it boots.
///
/// # Errors
///
/// What the system says; the file is then as it was.
pub fn write(path: &Path, bytes: &[u8], wall_ns: u64) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    // One for both: whatever a cut has left is written over.
    let temporary = directory.join("new.tmp");
    let written = write_new(&temporary, bytes, wall_ns).and_then(|()| {
        std::fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    });
    if written.is_err() {
        // It takes room that the next attempt needs; a failure here changes nothing.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_new(temporary: &Path, bytes: &[u8], wall_ns: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    let saved = SystemTime::UNIX_EPOCH + Duration::from_nanos(wall_ns);
    let now = Duration::from_nanos(clock::now().wall.as_nanos());
    file.set_modified(saved.min(SystemTime::UNIX_EPOCH + now))?;
    file.sync_all()
}
