//! The package file: contents and control, packed as OpenWrt's `ipkg-build` packs them.
//!
//! Decides nothing about what is installed. The same contents give the same bytes.

use std::path::Path;

use super::archive::{self, Tree};
use super::control::Control;
use crate::error::CrossError;

/// Run by opkg after installing: OpenWrt's functions enable and start the service.
const POSTINST: &str = "\
#!/bin/sh
[ \"${IPKG_NO_SCRIPT}\" = \"1\" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
";

/// Run by opkg before removing: they stop and disable it.
const PRERM: &str = "\
#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
";

/// The package file of `files`, of which opkg leaves `conffiles` alone once they were changed.
pub(super) fn pack(
    files: &Tree,
    conffiles: &[&str],
    mut control: Control<'_>,
) -> Result<Vec<u8>, CrossError> {
    let data = files.tar(control.epoch)?;
    control.installed_size = data.len();
    let mut about = Tree::default();
    about.add("control", 0o644, control.text().into_bytes());
    about.add("conffiles", 0o644, list(files, conffiles)?.into_bytes());
    about.add("postinst", 0o755, POSTINST.as_bytes().to_vec());
    about.add("prerm", 0o755, PRERM.as_bytes().to_vec());
    let (data, about) = (archive::gzip(&data)?, archive::gzip(&about.tar(control.epoch)?)?);
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("data.tar.gz", &data), ("control.tar.gz", &about)];
    archive::gzip(&archive::tar(&members, control.epoch)?)
}

/// The file `conffiles`: names of files that are in the package, sorted.
fn list(files: &Tree, conffiles: &[&str]) -> Result<String, CrossError> {
    let mut names = conffiles.to_vec();
    names.sort_unstable();
    let inside = |name: &&str| files.has_file(Path::new(name.trim_start_matches('/')));
    match names.iter().find(|name| !inside(name)) {
        Some(name) => Err(CrossError::Failed(format!("{name} is to be kept, but not installed"))),
        None => Ok(names.iter().map(|name| format!("{name}\n")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::{Tree, member};
    use super::{Control, pack};

    fn control(epoch: u64) -> Control<'static> {
        Control {
            version: "1.2.3",
            licence: "MIT",
            architecture: "x86_64",
            needs_libc: false,
            epoch,
            installed_size: 0,
        }
    }

    fn files() -> Tree {
        let mut tree = Tree::default();
        tree.add("etc/one", 0o600, b"1".to_vec());
        tree.add("usr/two", 0o644, b"2".to_vec());
        tree
    }

    #[test]
    fn the_date_is_the_only_thing_besides_contents() {
        let of = |epoch| pack(&files(), &["/etc/one"], control(epoch)).unwrap();
        assert!(of(1) == of(1));
        assert!(of(1) != of(2));
    }

    #[test]
    fn installed_size_is_that_of_the_files() {
        let package = pack(&files(), &[], control(1)).unwrap();
        let about = member(&package, "control.tar.gz").unwrap();
        let text = String::from_utf8(member(&about, "control").unwrap()).unwrap();
        let size = text.lines().find_map(|it| it.strip_prefix("Installed-Size: ")).unwrap();
        assert_eq!(size, files().tar(1).unwrap().len().to_string());
    }

    #[test]
    fn kept_files_are_sorted_and_must_be_there() {
        let package = pack(&files(), &["/usr/two", "/etc/one"], control(1)).unwrap();
        let about = member(&package, "control.tar.gz").unwrap();
        assert_eq!(member(&about, "conffiles").unwrap(), b"/etc/one\n/usr/two\n");
        let error = pack(&files(), &["/etc/none"], control(1)).unwrap_err();
        assert!(error.to_string().contains("/etc/none"));
    }
}
