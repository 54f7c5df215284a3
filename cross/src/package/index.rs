//! The index of a feed: `Packages`, `Packages.gz`, and `Packages.sig` when there is a key.
//!
//! Lists every package file of a directory, whoever made it, with what the package itself says,
//! its size and its sum; written anew each time. opkg downloads `Packages.gz` and verifies the
//! signature of what is in it, then size and sum of each package that it installs.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive;
use crate::error::CrossError;
use crate::key::SecretKey;

/// Writes the index of `directory`; returns how many packages it lists.
pub(super) fn write(directory: &Path, key: Option<&SecretKey>) -> Result<usize, CrossError> {
    let packages = packages(directory)?;
    let mut text = String::new();
    for name in &packages {
        let stanza = stanza(name, &fs::read(directory.join(name))?);
        let failed = |error| CrossError::Failed(format!("{name}: {error}"));
        text += &stanza.map_err(failed)?;
    }
    let signature = directory.join("Packages.sig");
    // Never beside an index that it is not of.
    match fs::remove_file(&signature) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::write(directory.join("Packages"), &text)?;
    fs::write(directory.join("Packages.gz"), archive::gzip(text.as_bytes())?)?;
    if let Some(key) = key {
        fs::write(signature, key.sign(text.as_bytes()))?;
    }
    Ok(packages.len())
}

/// The names of the package files, sorted.
fn packages(directory: &Path) -> Result<Vec<String>, CrossError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|it| it == "ipk") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What the index says of one package.
fn stanza(name: &str, package: &[u8]) -> Result<String, CrossError> {
    let control = archive::member(&archive::member(package, "control.tar.gz")?, "control")?;
    let control = String::from_utf8(control)
        .map_err(|_| CrossError::Failed("its control file is not UTF-8".to_owned()))?;
    let size = package.len();
    let place = format!("Filename: {name}\nSize: {size}\nSHA256sum: {}\n", sum(package));
    // OpenWrt's indices have the description last.
    let (before, after) = match control.find("Description:") {
        Some(at) => control.split_at(at),
        None => (control.as_str(), ""),
    };
    Ok(format!("{before}{place}{}\n\n", after.trim_end()))
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::archive::{Tree, gzip, tar};
    use super::{stanza, sum, write};

    fn package(control: &str) -> Vec<u8> {
        let mut about = Tree::default();
        about.add("control", 0o644, control.as_bytes().to_vec());
        let about = gzip(&about.tar(1).unwrap()).unwrap();
        gzip(&tar(&[("control.tar.gz", &about)], 1).unwrap()).unwrap()
    }

    #[test]
    fn size_and_sum_stand_before_the_description() {
        let bytes = package("Package: x\nInstalled-Size: 5\nDescription:  one\n two\n");
        let wanted = format!(
            "Package: x\nInstalled-Size: 5\nFilename: x.ipk\nSize: {}\nSHA256sum: {}\n\
             Description:  one\n two\n\n",
            bytes.len(),
            sum(&bytes)
        );
        assert_eq!(stanza("x.ipk", &bytes).unwrap(), wanted);
    }

    #[test]
    fn sums_are_those_of_fips_180() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum(b"abc"), abc);
    }

    #[test]
    fn packages_are_listed_in_the_order_of_their_names_and_a_broken_one_is_named() {
        let feed = tempfile::tempdir().unwrap();
        let file = |name: &str| feed.path().join(name);
        std::fs::write(file("b.ipk"), package("Package: b\n")).unwrap();
        std::fs::write(file("a.ipk"), package("Package: a\n")).unwrap();
        std::fs::write(file("Packages.sig"), "of an older index").unwrap();
        assert_eq!(write(feed.path(), None).unwrap(), 2);
        assert!(!file("Packages.sig").exists());
        let text = std::fs::read_to_string(file("Packages")).unwrap();
        assert!(text.find("Package: a").unwrap() < text.find("Package: b").unwrap());
        std::fs::write(file("c.ipk"), "no package").unwrap();
        assert!(write(feed.path(), None).unwrap_err().to_string().contains("c.ipk"));
    }
}
