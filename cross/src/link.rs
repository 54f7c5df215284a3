//! The linker that rustc calls: this program again, which starts zig's.
//!
//! Zig brings the C library, its start files and the unwinder for each target; what rustc names of
//! a GCC is left out or replaced. `cargo cross build` names zig and its target in the environment
//! of cargo; a process that finds them there is a linker and nothing else.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::arch::Arch;
use crate::error::CrossError;

const ZIG: &str = "FIRMWARE_CTD_LINK_ZIG";
const TARGET: &str = "FIRMWARE_CTD_LINK_TARGET";
const CPU: &str = "FIRMWARE_CTD_LINK_CPU";

/// Makes `cargo` link through this program, with `zig` and for `arch`.
pub(crate) fn prepare(cargo: &mut Command, zig: &Path, arch: &Arch) -> Result<(), CrossError> {
    let linker = format!("CARGO_TARGET_{}_LINKER", variable(arch.rust));
    cargo.env(linker, std::env::current_exe()?);
    cargo.env(ZIG, zig).env(TARGET, arch.zig).env(CPU, arch.cpu);
    Ok(())
}

/// A target's name as it stands in cargo's environment variables.
pub(crate) fn variable(target: &str) -> String {
    target.replace('-', "_").to_uppercase()
}

/// Whether this process was started to link.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(ZIG).is_some()
}

/// Becomes the linker: comes back only when it cannot be started.
pub(crate) fn become_linker() -> CrossError {
    let given = |name| std::env::var_os(name).unwrap_or_default();
    let zig = given(ZIG);
    let mut command = Command::new(&zig);
    command.args(["cc", "-target"]).arg(given(TARGET));
    let mut cpu = OsString::from("-mcpu=");
    cpu.push(given(CPU));
    command.arg(cpu);
    command.args(std::env::args_os().skip(1).filter_map(translate));
    let error = command.exec();
    CrossError::Missing(format!("{}: {error}", zig.display()))
}

/// An argument that rustc has for GCC, as zig wants it.
fn translate(argument: OsString) -> Option<OsString> {
    let text = argument.to_string_lossy();
    let of_gcc = matches!(&*text, "-lgcc_eh" | "-lgcc" | "-m32" | "-m64");
    if text == "-lgcc_s" {
        Some("-lunwind".into())
    } else if of_gcc || text.starts_with("-march=") || is_start_file(&argument) {
        None
    } else {
        Some(argument)
    }
}

/// Whether it is one of the objects that begin and end a program.
fn is_start_file(argument: &OsStr) -> bool {
    let name = Path::new(argument).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stem = name.strip_suffix(".o").unwrap_or_default();
    let known = ["crt1", "rcrt1", "Scrt1", "crti", "crtn"];
    known.contains(&stem) || stem.starts_with("crtbegin") || stem.starts_with("crtend")
}

#[cfg(test)]
mod tests {
    use super::{translate, variable};

    #[test]
    fn what_is_gccs_is_left_out_or_replaced() {
        for gone in ["/x/crt1.o", "crtbeginT.o", "Scrt1.o", "-lgcc", "-m32", "-march=mips32r2"] {
            assert_eq!(translate(gone.into()), None, "{gone}");
        }
        assert_eq!(translate("-lgcc_s".into()), Some("-lunwind".into()));
        for kept in ["a.o", "-lc", "-static", "-Wl,--gc-sections", "x/crt.rcgu.o"] {
            assert_eq!(translate(kept.into()), Some(kept.into()));
        }
    }

    #[test]
    fn cargo_spells_targets_in_capitals() {
        assert_eq!(variable("mips-unknown-linux-musl"), "MIPS_UNKNOWN_LINUX_MUSL");
    }
}
