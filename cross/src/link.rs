//! The linker that rustc calls: this program again, which starts zig's.
//!
//! Zig brings the C library, its start files and the unwinder for each target; what rustc names of
//! a GCC is left out or replaced. `cargo cross build` names zig in the environment of cargo, and a
//! linker for each target: a link to this program, whose name tells the target. A process of such a
//! name is a linker and nothing else.
//!
//! A static program is linked twice, which takes no second: zig makes the C library and says how it
//! links (`-v`), and its lld does that again with what zig has no arguments for.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::arch::{self, Arch};
use crate::error::CrossError;

const ZIG: &str = "FIRMWARE_CTD_ZIG";

/// Set where Rust's own functions copy memory, so that the C library's may be small and slow.
const SMALL: &str = "FIRMWARE_CTD_SMALL_LIBRARY";

/// How zig compiles the C library that goes into a static program: without tables to unwind it,
/// which nothing does.
const LIBRARY: [&str; 2] = ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"];

/// What zig's lld can do and zig cannot ask it for: like functions stand beside each other, where
/// gzip sees that they are alike (a sixtieth of a package), and those that are the same are one.
const SMALL_LINK: [&str; 2] = ["--bp-compression-sort=function", "--icf=all"];

/// What the names of linkers begin with; the architecture follows.
const NAME: &str = "zig-for-";

/// Makes `cargo` link with a C library that is compiled for size, where a byte after the other is
/// copied: for programs that have Rust's functions for that.
pub(crate) fn with_small_library(cargo: &mut Command) {
    cargo.env(SMALL, "1");
}

/// Makes `cargo` link through this program, with `zig`; the linkers lie in `directory`.
pub(crate) fn prepare(
    cargo: &mut Command,
    zig: &Path,
    arches: &[&Arch],
    directory: &Path,
) -> Result<(), CrossError> {
    fs::create_dir_all(directory)?;
    let program = std::env::current_exe()?;
    cargo.env(ZIG, zig);
    for arch in arches {
        let linker = directory.join(format!("{NAME}{}", arch.name));
        if !fs::read_link(&linker).is_ok_and(|it| it == program) {
            // Under a name of its own first: another build may be linking.
            let part = directory.join(format!(".{}.{}", arch.name, std::process::id()));
            symlink(&program, &part)?;
            fs::rename(&part, &linker)?;
        }
        cargo.env(format!("CARGO_TARGET_{}_LINKER", variable(arch.rust)), linker);
    }
    Ok(())
}

/// A target's name as it stands in cargo's environment variables.
pub(crate) fn variable(target: &str) -> String {
    target.replace('-', "_").to_uppercase()
}

/// The architecture that this process was started to link for.
pub(crate) fn wanted() -> Option<&'static Arch> {
    let program = PathBuf::from(std::env::args_os().next()?);
    arch::find(program.file_name()?.to_str()?.strip_prefix(NAME)?).ok()
}

/// Links for `arch` what the arguments of this process name.
pub(crate) fn link(arch: &Arch) -> Result<ExitCode, CrossError> {
    let zig = std::env::var_os(ZIG).ok_or_else(|| {
        CrossError::Usage(format!("{NAME}{} links for `cargo cross build` only", arch.name))
    })?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let given = |name: &str| arguments.iter().any(|it| it == name);
    let mut command = Command::new(&zig);
    command.args(["cc", "-target", arch.zig]).arg(format!("-mcpu={}", arch.cpu));
    // Zig links musl statically unless told otherwise; rustc says when it wants that.
    if given("-static") || given("-static-pie") {
        return link_static(&zig, command, &arguments);
    }
    command.arg("-dynamic").args(arguments.iter().filter_map(translate));
    Err(missing(&zig, &command.exec()))
}

/// With zig's `cc` for the C library, and with its lld as that does.
fn link_static(
    zig: &OsString,
    mut cc: Command,
    arguments: &[OsString],
) -> Result<ExitCode, CrossError> {
    cc.arg(if std::env::var_os(SMALL).is_some() { "-Os" } else { "-O2" });
    cc.args(LIBRARY).arg("-v");
    cc.args(arguments.iter().filter_map(translate));
    let done = cc.output().map_err(|error| missing(zig, &error))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(CrossError::Failed(said.into_owned()));
    }
    if !arguments.iter().chain([zig]).all(is_one_word) {
        // Zig's line cannot be taken apart; what it has linked is as good, and larger.
        return Ok(ExitCode::SUCCESS);
    }
    let how = lld_arguments(&said, arguments.iter().any(is_strip))
        .ok_or_else(|| CrossError::Failed(format!("zig does not say how it links: {said}")))?;
    let lld = Command::new(zig).arg("ld.lld").args(how).args(SMALL_LINK).status();
    let code = lld.map_err(|error| missing(zig, &error))?.code();
    Ok(code.and_then(|it| u8::try_from(it).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn missing(zig: &OsStr, error: &std::io::Error) -> CrossError {
    CrossError::Missing(format!("{}: {error}", zig.display()))
}

/// Whether rustc wants symbols left out.
fn is_strip(argument: &OsString) -> bool {
    argument == "-Wl,--strip-all" || argument == "-Wl,--strip-debug"
}

fn is_one_word(argument: &OsString) -> bool {
    !argument.as_encoded_bytes().contains(&b' ')
}

/// The arguments that zig gave lld, as `zig cc -v` prints them: in one line, with spaces between.
/// Of itself it leaves symbols out where it compiles for size.
fn lld_arguments(said: &str, strip: bool) -> Option<Vec<&str>> {
    let line = said.lines().rev().find_map(|it| it.strip_prefix("ld.lld "))?;
    Some(line.split(' ').filter(|it| *it != "-s" || strip).collect())
}

/// An argument that rustc has for GCC, as zig wants it.
fn translate(argument: &OsString) -> Option<OsString> {
    let text = argument.to_string_lossy();
    let of_gcc = matches!(&*text, "-lgcc_eh" | "-lgcc" | "-m32" | "-m64");
    if text == "-lgcc_s" {
        Some("-lunwind".into())
    } else if of_gcc || text.starts_with("-march=") || is_start_file(argument) {
        None
    } else {
        Some(argument.clone())
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
    use super::{lld_arguments, prepare, translate, variable, wanted};
    use crate::arch::{ARCHES, Arch};
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn what_is_gccs_is_left_out_or_replaced() {
        for gone in ["/x/crt1.o", "crtbeginT.o", "Scrt1.o", "-lgcc", "-m32", "-march=mips32r2"] {
            assert_eq!(translate(&gone.into()), None, "{gone}");
        }
        assert_eq!(translate(&"-lgcc_s".into()), Some("-lunwind".into()));
        for kept in ["a.o", "-lc", "-static", "-Wl,--gc-sections", "x/crt.rcgu.o"] {
            assert_eq!(translate(&kept.into()), Some(kept.into()));
        }
    }

    #[test]
    fn zigs_last_word_is_how_it_links() {
        let said = "warning: ld.lld -s\nld.lld --first -s -o x\nld.lld -O2 -s -o /x/y a.o\n";
        assert_eq!(lld_arguments(said, true).unwrap(), ["-O2", "-s", "-o", "/x/y", "a.o"]);
        assert_eq!(lld_arguments(said, false).unwrap(), ["-O2", "-o", "/x/y", "a.o"]);
        assert_eq!(lld_arguments("warning: ld.lld -s\n", true), None);
    }

    #[test]
    fn each_target_has_a_linker_of_its_own_name() {
        let place = tempfile::tempdir().unwrap();
        let mut cargo = Command::new("cargo");
        let arches: Vec<&Arch> = ARCHES.iter().collect();
        for _ in 0..2 {
            prepare(&mut cargo, Path::new("/zig"), &arches, place.path()).unwrap();
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), ARCHES.len());
        let linker = place.path().join("zig-for-mips_24kc");
        let named = cargo.get_envs().any(|(name, value)| {
            name == "CARGO_TARGET_MIPS_UNKNOWN_LINUX_MUSL_LINKER"
                && value == Some(linker.as_os_str())
        });
        assert!(named);
        assert_eq!(std::fs::read_link(linker).unwrap(), std::env::current_exe().unwrap());
        assert_eq!(wanted(), None);
    }

    #[test]
    fn cargo_spells_targets_in_capitals() {
        assert_eq!(variable("mips-unknown-linux-musl"), "MIPS_UNKNOWN_LINUX_MUSL");
    }
}
