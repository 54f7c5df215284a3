//! The flash: what outlives a reboot. It is mounted on `/overlay`; `/etc/firmware-ctd`, where the
//! daemon has its images, lies on it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use board_guest::error::{Context, LabError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::options;
use crate::talk::Talk;
use crate::{mounts, wait};

const PLACE: &str = "/overlay";
/// Where the daemon has its images.
pub(crate) const IMAGES: &str = "/etc/firmware-ctd";

/// The mounted flash.
#[derive(Debug)]
pub(crate) struct Flash(());

impl Flash {
    /// Mounts it.
    pub(crate) fn mount(which: &options::Flash) -> Result<Self, LabError> {
        fs::create_dir_all(PLACE).context(PLACE)?;
        let (device, kind) = match which {
            options::Flash::Mtd(name) => (partition(name)?, "jffs2"),
            options::Flash::Block(device, kind) => (device.display().to_string(), kind.as_str()),
        };
        // A disk may be found some time after the kernel has started its first process.
        wait::until(&format!("{device} to appear"), Duration::from_secs(10), || {
            Path::new(&device).exists()
        })?;
        mounts::at(&device, Path::new(PLACE), kind)?;
        let images = Path::new(PLACE).join("firmware-ctd");
        for place in [images.as_path(), Path::new(IMAGES)] {
            fs::create_dir_all(place).context("making the images' directory")?;
        }
        let none = None::<&str>;
        mount(Some(&images), IMAGES, none, MsFlags::MS_BIND, none)
            .context("showing the images' directory")?;
        Ok(Self(()))
    }

    /// Tells what lies on it as the board found it.
    pub(crate) fn tell(&self, talk: &Talk) -> Result<(), LabError> {
        for entry in fs::read_dir(IMAGES).context(IMAGES)? {
            let entry = entry.context(IMAGES)?;
            let bytes = entry.metadata().context(IMAGES)?.len();
            talk.event(&format!("flash {} {bytes}", entry.file_name().display()));
        }
        Ok(())
    }

    /// Tells of every file of images that is begun, finished, or put in its place.
    pub(crate) fn watch(&self, talk: &Arc<Talk>) -> Result<(), LabError> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC).context("watching the flash")?;
        let wanted =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        events.add_watch(IMAGES, wanted).context("watching the flash")?;
        let talk = Arc::clone(talk);
        std::thread::spawn(move || {
            while let Ok(events) = events.read_events() {
                for event in events {
                    let name = event.name.unwrap_or_default();
                    let what = match event.mask {
                        AddWatchFlags::IN_CREATE => "began",
                        AddWatchFlags::IN_CLOSE_WRITE => "wrote",
                        _ => "placed",
                    };
                    talk.event(&format!("{what} {}", name.display()));
                }
            }
        });
        Ok(())
    }

    /// Unmounts it, by force to read-only if somebody still uses it.
    pub(crate) fn unmount(&self) {
        nix::unistd::sync();
        for place in [IMAGES, PLACE] {
            if umount2(place, MntFlags::empty()).is_err() {
                let none = None::<&str>;
                // As `umount -a -d -r` does; what cannot be done there is lost as on a board.
                let _ = mount(none, place, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none);
            }
        }
    }
}

/// Takes the images away.
pub(crate) fn forget() -> std::io::Result<()> {
    fs::read_dir(IMAGES)?.try_for_each(|entry| fs::remove_file(entry?.path()))
}

/// The block device of the flash partition with that name.
fn partition(name: &str) -> Result<String, LabError> {
    let list = fs::read_to_string("/proc/mtd").context("reading /proc/mtd")?;
    let quoted = format!("\"{name}\"");
    let line = list.lines().find(|line| line.ends_with(&quoted));
    let number = line.and_then(|line| line.strip_prefix("mtd")?.split(':').next());
    let number = number.ok_or_else(|| {
        LabError::new(
            format!("looking for the flash {quoted}"),
            std::io::Error::other(list.clone()),
        )
    })?;
    Ok(format!("/dev/mtdblock{number}"))
}
