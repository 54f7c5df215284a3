//! Debian's packages, installed when the user asks for it.

use std::io::Write;
use std::process::Command;

use crate::error::CrossError;
use crate::workspace::carry_out;

/// Installs `packages`: with the package lists as they are first, then with new ones.
pub(crate) fn debian(packages: &[&str], out: &mut impl Write) -> Result<(), CrossError> {
    writeln!(out, "installing {}", packages.join(" "))?;
    out.flush()?;
    let install = || {
        let mut apt = apt();
        apt.args(["--yes", "--no-install-recommends", "install"]).args(packages);
        carry_out(&mut apt)
    };
    if install().is_ok() {
        return Ok(());
    }
    let refused = |error| {
        CrossError::Missing(format!(
            "{} could not be installed ({error}): --install is for root on Debian",
            packages.join(", ")
        ))
    };
    carry_out(apt().arg("update")).and_then(|()| install()).map_err(refused)
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet", "--quiet"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
