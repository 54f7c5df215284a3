//! `cargo cross msrv`: the shipped crate compiled by the oldest Rust that it promises.
//!
//! Takes the version from `rust-version` in `firmware-ctd/Cargo.toml`, and that Rust's own cargo,
//! so that manifests and the lock file are read by it as well. Checks the library and the binary;
//! tests may need newer crates. Compiled to metadata only: what the compiler would refuse is found,
//! what its code generator would get wrong is not.

use std::ffi::OsString;
use std::io::Write;
use std::process::Command;

use crate::debian;
use crate::error::CrossError;
use crate::workspace::{Workspace, carry_out, output, text};

/// A Rust of the wanted version.
struct Toolchain {
    /// Where it is from, for people.
    from: String,
    /// Starts its cargo.
    cargo: Command,
}

/// Finds the Rust, says which it is, and checks.
pub(crate) fn run(workspace: &Workspace, out: &mut impl Write) -> Result<(), CrossError> {
    let wanted = workspace.toml("firmware-ctd/Cargo.toml", &["package", "rust-version"], text)?;
    let mut toolchain = match installed(workspace, &wanted)? {
        Some(toolchain) => toolchain,
        None => debian(workspace, &wanted, out)?,
    };
    writeln!(out, "checking firmware-ctd with Rust {wanted} ({})", toolchain.from)?;
    out.flush()?;
    // What the newer cargo that runs this program set for its own rustc.
    for name in ["RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC_WRAPPER", "RUSTFLAGS"] {
        if !toolchain.cargo.get_envs().any(|(it, _)| it == name) {
            toolchain.cargo.env_remove(name);
        }
    }
    carry_out(
        toolchain.cargo.args(["check", "--locked", "--release", "-p", "firmware-ctd"]).args([
            "--lib",
            "--bin",
            "firmware-ctd",
        ]),
    )?;
    Ok(writeln!(out, "firmware-ctd compiles with Rust {wanted}")?)
}

/// rustup's toolchain, when it is installed already.
fn installed(workspace: &Workspace, wanted: &str) -> Result<Option<Toolchain>, CrossError> {
    let list = match output(Command::new("rustup").args(["toolchain", "list"])) {
        Ok(list) => list,
        Err(CrossError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(name) = toolchain_of(&list, wanted) else { return Ok(None) };
    let mut cargo = command(workspace, &"rustup".into());
    cargo.args(["run", name, "cargo"]);
    Ok(Some(Toolchain { from: format!("rustup's toolchain {name}"), cargo }))
}

/// The first toolchain of `rustup toolchain list` with that version.
fn toolchain_of<'a>(list: &'a str, wanted: &str) -> Option<&'a str> {
    list.lines().filter_map(|line| line.split_whitespace().next()).find(|name| {
        name.strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    })
}

/// Debian's, unpacked below the target directory.
fn debian(
    workspace: &Workspace,
    wanted: &str,
    out: &mut impl Write,
) -> Result<Toolchain, CrossError> {
    let unpacked = debian::unpack(&workspace.target("msrv"), wanted, out)?;
    let mut cargo = command(workspace, &unpacked.program("cargo").into_os_string());
    cargo.env("RUSTC", unpacked.program("rustc")).env("LD_LIBRARY_PATH", unpacked.libraries());
    let from = format!("Debian's {}, unpacked in {}", unpacked.name(), unpacked.root().display());
    Ok(Toolchain { from, cargo })
}

fn command(workspace: &Workspace, program: &OsString) -> Command {
    workspace.command(program, &workspace.target("msrv/target"))
}

#[cfg(test)]
mod tests {
    use super::toolchain_of;

    #[test]
    fn a_toolchain_is_known_by_its_whole_version() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\n\
                    1.85.1-x86_64-unknown-linux-gnu\n1.8-x86_64-unknown-linux-gnu\n";
        assert_eq!(toolchain_of(list, "1.85"), Some("1.85.1-x86_64-unknown-linux-gnu"));
        assert_eq!(toolchain_of(list, "1.8"), Some("1.8-x86_64-unknown-linux-gnu"));
        assert_eq!(toolchain_of(list, "1.9"), None);
        assert_eq!(toolchain_of("no installed toolchains\n", "1.85"), None);
    }
}
