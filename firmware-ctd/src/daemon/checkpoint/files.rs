//! The two image files of a directory, and how one is replaced without ever losing the other.
//!
//! An image is written to a temporary beside it, flushed to the medium, renamed over its slot, and
//! then the directory is flushed. A power cut leaves the old file or the new one, with file systems
//! that reorder perhaps a damaged one, but never touches the other slot. A temporary that was left
//! over is removed at the next write.
//!
//! A third file, the *mark*, is made the same way when the daemon ends as it was told to, and
//! removed when one begins: so an image with its mark is the last thing that was to be saved.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::pair::{Found, Slot};
use crate::checkpoint::{Fault, FaultKind, Reader};
use crate::time::WallTime;

/// The directory of the two files.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Removing a temporary that was left over.
    Remove,
    /// Creating the temporary.
    Create,
    /// Writing it.
    Write,
    /// Setting its time.
    SetTime,
    /// Flushing it to the medium.
    Flush,
    /// Putting it in the place of the old image.
    Rename,
    /// Flushing the directory to the medium.
    FlushDirectory,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Remove => "removing an old temporary",
            Self::Create => "creating",
            Self::Write => "writing",
            Self::SetTime => "setting the time",
            Self::Flush => "flushing",
            Self::Rename => "renaming",
            Self::FlushDirectory => "flushing the directory",
        }
    }
}

/// Why an image is not in place.
#[derive(Debug)]
pub struct FileError {
    /// What was being done.
    pub step: Step,
    /// What the system said.
    pub error: io::Error,
}

impl FileError {
    fn at(step: Step) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step, error }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.name(), self.error)
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Files {
    /// The files of this directory, which need not be there yet.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the image of a slot is.
    #[must_use]
    pub fn path(&self, slot: Slot) -> PathBuf {
        self.directory.join(Self::name(slot))
    }

    /// Its name in the directory.
    #[must_use]
    pub const fn name(slot: Slot) -> &'static str {
        match slot {
            Slot::A => "a.ckpt",
            Slot::B => "b.ckpt",
        }
    }

    /// Where the image of a slot is written before it is renamed.
    #[must_use]
    pub fn temporary(&self, slot: Slot) -> PathBuf {
        temporary(&self.path(slot))
    }

    /// Where the mark is.
    #[must_use]
    pub fn mark(&self) -> PathBuf {
        self.directory.join("end.ckpt")
    }

    /// Removes the mark.
    ///
    /// # Errors
    /// What the system says, but that there is none.
    pub fn unmark(&self) -> io::Result<()> {
        match fs::remove_file(self.mark()) {
            Ok(()) => flush_directory(&self.directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at both images, every byte of them.
    #[must_use]
    pub fn find(&self) -> [Found; 2] {
        self.open_both().map(|image| found(&image))
    }

    /// Opens and verifies both images.
    ///
    /// # Errors
    /// The first fault of each.
    pub fn open_both(&self) -> [Result<Reader<File>, Fault>; 2] {
        Slot::ALL.map(|slot| open(&self.path(slot)))
    }

    /// The generations of the images that are whole, by their checksums alone.
    #[must_use]
    pub fn generations(&self) -> [u64; 2] {
        let image = |slot| reopen(&self.path(slot));
        Slot::ALL.map(|slot| image(slot).map_or(0, |image| image.facts().generation))
    }

    /// Begins an image for this slot. Temporaries that were left over are removed.
    ///
    /// # Errors
    /// The step that failed.
    pub fn begin(&self, slot: Slot) -> Result<Draft<'_>, FileError> {
        self.draft(self.path(slot))
    }

    /// Begins a mark. Temporaries that were left over are removed.
    ///
    /// # Errors
    /// The step that failed.
    pub fn begin_mark(&self) -> Result<Draft<'_>, FileError> {
        self.draft(self.mark())
    }

    fn draft(&self, path: PathBuf) -> Result<Draft<'_>, FileError> {
        let [a, b] = Slot::ALL.map(|slot| self.path(slot));
        for path in [a, b, self.mark()] {
            match fs::remove_file(temporary(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError { step: Step::Remove, error });
                }
                _ => {}
            }
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary(&path))
            .map_err(FileError::at(Step::Create))?;
        Ok(Draft { directory: &self.directory, path, file })
    }
}

/// An image that is being written.
#[derive(Debug)]
pub struct Draft<'f> {
    directory: &'f Path,
    /// Where it is to be.
    path: PathBuf,
    file: File,
}

impl Draft<'_> {
    /// Puts the image in its place. `now` is the best that is known of the wall clock: the file's
    /// time is never after it, since at the next boot the clock is set from it.
    ///
    /// # Errors
    /// The step that failed. Before [`Step::FlushDirectory`] the slot is as it was.
    pub fn commit(self, now: WallTime) -> Result<(), FileError> {
        let Self { directory, path, file } = self;
        not_after(&file, now).map_err(FileError::at(Step::SetTime))?;
        file.sync_all().map_err(FileError::at(Step::Flush))?;
        drop(file);
        fs::rename(temporary(&path), &path).map_err(FileError::at(Step::Rename))?;
        flush_directory(directory).map_err(FileError::at(Step::FlushDirectory))
    }

    /// Removes what was written; the slot is as it was.
    ///
    /// # Errors
    /// It could not be removed; the next [`Files::begin`] tries again.
    pub fn discard(self) -> Result<(), FileError> {
        fs::remove_file(temporary(&self.path)).map_err(FileError::at(Step::Remove))
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("ckpt.tmp")
}

fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Takes the file's time back to `now` if it is later.
fn not_after(file: &File, now: WallTime) -> io::Result<()> {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(now.as_nanos());
    if file.metadata()?.modified()? > now {
        file.set_modified(now)?;
    }
    Ok(())
}

/// What was found, by what came of opening it.
#[must_use]
pub fn found(image: &Result<Reader<File>, Fault>) -> Found {
    match image {
        Ok(reader) => Found::Good(*reader.facts()),
        Err(Fault { what: FaultKind::Io(io::ErrorKind::NotFound), .. }) => Found::Missing,
        Err(fault) => Found::Faulty(*fault),
    }
}

/// Opens the image at this path and verifies it.
///
/// # Errors
/// The first fault; that the file cannot be opened is one too.
pub fn open(path: &Path) -> Result<Reader<File>, Fault> {
    Reader::open(file(path)?)
}

/// Opens an image that was verified before: see [`Reader::reopen`].
///
/// # Errors
/// The first fault; that the file cannot be opened is one too.
pub fn reopen(path: &Path) -> Result<Reader<File>, Fault> {
    Reader::reopen(file(path)?)
}

fn file(path: &Path) -> Result<File, Fault> {
    let unopened = |error: io::Error| Fault { offset: 0, what: FaultKind::Io(error.kind()) };
    File::open(path).map_err(unopened)
}
