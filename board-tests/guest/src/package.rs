//! Puts the files of the packages in `/packages` where they belong, as opkg does.
//!
//! An `.ipk` is a gzip'd tar of `debian-binary`, `data.tar.gz` and `control.tar.gz`; the data are
//! unpacked at the root. A file that `conffiles` names and that is there already stays as it is.
//! Limits: no dependencies, no scripts (there is no shell), no signature.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use board_guest::error::{Context, LabError};
use flate2::read::GzDecoder;
use tar::Archive;

const PLACE: &str = "/packages";

/// Installs them all.
pub(crate) fn install_all() -> Result<(), LabError> {
    for entry in fs::read_dir(PLACE).context("looking for packages")? {
        let path = entry.context("looking for packages")?.path();
        install(&path, Path::new("/")).context(&format!("installing {}", path.display()))?;
    }
    Ok(())
}

fn install(package: &Path, root: &Path) -> io::Result<()> {
    let kept = conffiles(package)?;
    let data = member(fs::File::open(package)?, "data.tar.gz")?;
    let mut archive = Archive::new(GzDecoder::new(data.as_slice()));
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let absolute = Path::new("/").join(path.strip_prefix(".").unwrap_or(&path));
        let kept = kept.iter().any(|it| Path::new(it) == absolute) && root.join(&path).exists();
        if !kept && !entry.unpack_in(root)? {
            return Err(io::Error::other(format!("{} lies outside", path.display())));
        }
    }
    Ok(())
}

/// The configuration files that a package names.
fn conffiles(package: &Path) -> io::Result<Vec<String>> {
    let control = member(fs::File::open(package)?, "control.tar.gz")?;
    match member(control.as_slice(), "conffiles") {
        Ok(text) => Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The content of a file of a gzip'd tar.
fn member(archive: impl Read, name: &str) -> io::Result<Vec<u8>> {
    for entry in Archive::new(GzDecoder::new(archive)).entries()? {
        let mut entry = entry?;
        if entry.path()?.file_name().is_some_and(|it| it == name) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no {name} in the package")))
}
