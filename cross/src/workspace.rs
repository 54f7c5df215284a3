//! The workspace: where it is, its cargo, and its files in TOML.
//!
//! Decides that everything built goes below the target directory that this program was built in.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::CrossError;

/// Paths of the workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The one that this program belongs to.
    pub(crate) fn find() -> Result<Self, CrossError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let program = std::env::current_exe()?;
        let target = program.parent().and_then(Path::parent).map(Path::to_owned);
        let target = target.ok_or_else(|| {
            CrossError::Failed(format!("{} is in no target directory", program.display()))
        })?;
        Ok(Self { root, target })
    }

    /// A path below the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A path below the target directory.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// The cargo that runs this program, in the root, with `target` as its target directory.
    pub(crate) fn cargo(&self, target: &Path) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        self.command(&cargo, target)
    }

    /// `program`, which is a cargo or starts one, in the root.
    pub(crate) fn command(&self, program: &OsString, target: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", target);
        command
    }

    /// The value of `keys` in the file `name`.
    pub(crate) fn toml<T>(
        &self,
        name: &str,
        keys: &[&str],
        read: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Result<T, CrossError> {
        let path = self.path(name);
        let text = fs::read_to_string(&path)?;
        value_of(&text, keys, read).map_err(|what| CrossError::Failed(format!("{name}: {what}")))
    }
}

/// The value of `keys`, one table in another, in `text`.
fn value_of<T>(
    text: &str,
    keys: &[&str],
    read: impl FnOnce(&DeValue<'_>) -> Option<T>,
) -> Result<T, String> {
    let document = DeTable::parse(text).map_err(|error| error.to_string())?;
    let mut value: Option<&DeValue<'_>> = None;
    for key in keys {
        let table = value.map_or(Some(document.get_ref()), DeValue::as_table);
        value = table.and_then(|it| it.get(*key)).map(Spanned::get_ref);
    }
    value.and_then(read).ok_or_else(|| format!("{} is missing or of a wrong type", keys.join(".")))
}

/// A whole number.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<u64> {
    value.as_integer().and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok())
}

/// A text.
pub(crate) fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Runs `command`, whose output goes where this program's goes.
pub(crate) fn carry_out(command: &mut Command) -> Result<(), CrossError> {
    let name = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CrossError::Failed(format!("{name}: {status}"))),
        Err(error) => Err(CrossError::Missing(format!("{name}: {error}"))),
    }
}

/// What `command` prints; an error when it fails, with what it said.
pub(crate) fn output(command: &mut Command) -> Result<String, CrossError> {
    let name = command.get_program().display().to_string();
    match command.output() {
        Ok(done) if done.status.success() => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            Err(CrossError::Failed(format!("{name}: {}: {said}", done.status)))
        }
        Err(error) => Err(CrossError::Missing(format!("{name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{integer, text, value_of};

    const DOCUMENT: &str = "[package]\nname = \"x\"\n[size]\na-b = 655_360\n";

    #[test]
    fn a_key_is_found_in_its_table() {
        assert_eq!(value_of(DOCUMENT, &["size", "a-b"], integer), Ok(655_360));
        assert_eq!(value_of(DOCUMENT, &["package", "name"], text), Ok("x".to_owned()));
    }

    #[test]
    fn what_is_not_there_is_named() {
        for keys in [&["size", "c"][..], &["sizes", "a-b"], &["package", "name", "more"]] {
            let error = value_of(DOCUMENT, keys, text).unwrap_err();
            assert!(error.contains(&keys.join(".")), "{error}");
        }
        assert!(value_of(DOCUMENT, &["package", "name"], integer).is_err());
        assert!(value_of("[size", &["size"], integer).is_err());
    }
}
