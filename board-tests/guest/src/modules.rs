//! Kernel modules: those in `/modules` of the root file system, in the order of their names.

use std::ffi::CString;
use std::fs::{self, File};

use board_guest::error::{Context, LabError};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

const PLACE: &str = "/modules";

/// Loads them all. A file `NAME.ko.options` beside a module has its parameters.
pub(crate) fn load() -> Result<(), LabError> {
    let Ok(entries) = fs::read_dir(PLACE) else { return Ok(()) };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "ko")) {
        let doing = format!("loading {}", path.display());
        let file = File::open(path).context(&doing)?;
        let parameters = fs::read(path.with_extension("ko.options")).unwrap_or_default();
        let parameters = CString::new(parameters).map_err(std::io::Error::other);
        let parameters = parameters.context(&doing)?;
        match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
            // What is built in needs no module.
            Ok(()) | Err(Errno::EEXIST) => {}
            // One of several that do the same, for processors that can do more than this one.
            Err(Errno::ENODEV) => {}
            Err(errno) => return Err(errno).context(&doing),
        }
    }
    Ok(())
}
