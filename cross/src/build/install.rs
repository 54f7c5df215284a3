//! Debian's packages, installed when the user asks for it.

use std::io::Write;
use std::process::Command;

use crate::error::CrossError;
use crate::workspace::carry_out;

/// Installs `packages`, as new as Debian has them: old package lists would bring an old compiler.
pub(crate) fn debian(packages: &[&str], out: &mut impl Write) -> Result<(), CrossError> {
    writeln!(out, "installing {}", packages.join(" "))?;
    out.flush()?;
    // Without new lists, the old ones may still do.
    let _ = carry_out(apt().arg("update"));
    let mut install = apt();
    install.args(["--yes", "--no-install-recommends", "install"]).args(packages);
    carry_out(&mut install).map_err(|error| {
        CrossError::Missing(format!(
            "{} could not be installed ({error}): --install is for root on Debian",
            packages.join(", ")
        ))
    })
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet", "--quiet"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
