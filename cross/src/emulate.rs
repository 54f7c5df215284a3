//! `cargo cross smoke` and `cargo cross test`: programs for boards, run by QEMU on this machine.
//!
//! QEMU's user mode runs the instructions of the board's processor and hands system calls to this
//! kernel: it shows byte order, word size, alignment, missing atomics and the C library. It does not
//! show the board's kernel; emulated boards do.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::arch::Arch;
use crate::build::{self, Profile, Tools, install};
use crate::error::CrossError;
use crate::link;
use crate::workspace::{Workspace, carry_out, text};

/// Debian's package of all emulators.
const PACKAGE: &str = "qemu-user-static";

/// Seconds that a run may take: all end at once.
const LIMIT: &str = "60";

/// An image that another program wrote from the documentation of its format.
const IMAGE: &str = "firmware-ctd/tests/checkpoint/golden.ckpt";

/// A fault on the second line.
const WRONG: &str = "[table]\ncapcity = 16384\n";

/// Builds for each target and runs what was built; ends with a line of counts.
pub(crate) fn smoke(
    workspace: &Workspace,
    options: &build::Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    build::run(workspace, options, out)?;
    let cases = Cases::prepare(workspace)?;
    let (mut passed, mut failed) = (0, Vec::new());
    for arch in &options.arches {
        let emulator = emulator(arch, options.install, out)?;
        let program = build::place(workspace, arch, Profile::Release).join("firmware-ctd");
        for case in &cases.all {
            let command = [&emulator[..], &[program.clone().into_os_string()]].concat();
            let result = case.run(workspace, &command);
            let said = result.as_ref().err().map_or("ok", String::as_str);
            writeln!(out, "{}: {} ... {said}", arch.name, case.name())?;
            match result {
                Ok(()) => passed += 1,
                Err(_) => failed.push(format!("{}: {}", arch.name, case.name())),
            }
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    writeln!(out, "test result: {word}. {passed} passed; {} failed; 0 ignored", failed.len())?;
    if failed.is_empty() { Ok(()) } else { Err(CrossError::Limit(failed.join("; "))) }
}

/// Compiles the unit tests of the daemon for each target and runs them.
pub(crate) fn test(
    workspace: &Workspace,
    options: &build::Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    let tools = Tools::find(workspace, options, out)?;
    writeln!(out, "compiling the unit tests with {}", tools.name())?;
    out.flush()?;
    let mut cargo = tools.cargo(workspace, "test", &options.arches, Profile::Test)?;
    for arch in &options.arches {
        let runner = format!("CARGO_TARGET_{}_RUNNER", link::variable(arch.rust));
        cargo.env(runner, emulator(arch, options.install, out)?.join(&OsString::from(" ")));
    }
    for package in ["firmware-ctd", "firmware-ctd-core"] {
        cargo.args(["--package", package]);
    }
    carry_out(cargo.args(["--lib", "--no-fail-fast"]))
}

/// The command line that runs programs of `arch`; the emulator is installed when that is allowed.
fn emulator(
    arch: &Arch,
    may_install: bool,
    out: &mut impl Write,
) -> Result<Vec<OsString>, CrossError> {
    let [program, cpu] = arch.emulator;
    if find(program).is_none() && may_install {
        install::debian(&[PACKAGE], out)?;
    }
    let found = find(program).ok_or_else(|| {
        CrossError::Missing(format!(
            "{program} is not there: `apt-get install --no-install-recommends {PACKAGE}` on Debian; \
             as root, --install does it"
        ))
    })?;
    Ok(vec![found.into_os_string(), "-cpu".into(), cpu.into()])
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|it| it.join(program)).find(|it| it.is_file())
}

/// All that is run on each target.
struct Cases {
    all: Vec<Case>,
}

/// A run of the daemon's program, and what must come of it.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    arguments: Vec<String>,
    code: i32,
    printed: Vec<u8>,
    /// What its one line of complaint is about.
    complaint: &'static str,
}

impl Cases {
    /// What must be printed of the image is what this machine's own program prints of it.
    fn prepare(workspace: &Workspace) -> Result<Self, CrossError> {
        let version = workspace.toml("Cargo.toml", &["workspace", "package", "version"], text)?;
        let of = |words: &[&str], code, printed: &[u8]| Case {
            arguments: words.iter().map(|&it| it.to_owned()).collect(),
            code,
            printed: printed.to_vec(),
            complaint: "",
        };
        let mut all = vec![of(&["--version"], 0, format!("firmware-ctd {version}\n").as_bytes())];
        for file in configurations(workspace)? {
            all.push(of(&["validate", "-c", &file], 0, b""));
        }
        let wrong = workspace.target("cross/wrong.toml");
        fs::write(&wrong, WRONG)?;
        let refused = of(&["validate", "-c", &wrong.to_string_lossy()], 78, b"");
        all.push(Case { complaint: "wrong.toml:2: ", ..refused });
        let own = build::own(workspace)?;
        for words in
            [&["checkpoint", "verify", IMAGE][..], &["checkpoint", "show", IMAGE, "--json"]]
        {
            let done = Command::new(&own).args(words).current_dir(workspace.path("")).output()?;
            if !done.status.success() || done.stdout.is_empty() {
                let shown = describe(&done);
                return Err(CrossError::Failed(format!("{} {words:?}: {shown}", own.display())));
            }
            all.push(of(words, 0, &done.stdout));
        }
        Ok(Self { all })
    }
}

/// The shipped configuration, and those of boards.
fn configurations(workspace: &Workspace) -> Result<Vec<String>, CrossError> {
    let mut files = vec!["config/firmware-ctd.toml".to_owned()];
    for entry in fs::read_dir(workspace.path("config/boards"))? {
        files.push(format!("config/boards/{}", entry?.file_name().to_string_lossy()));
    }
    files.sort_unstable();
    Ok(files)
}

impl Case {
    fn name(&self) -> String {
        let last = |it: &String| Path::new(it).file_name().map(|it| it.to_string_lossy().into());
        let words: Vec<String> = self.arguments.iter().filter_map(last).collect();
        words.join(" ")
    }

    /// Runs `program` with the arguments; what was wrong, in one line.
    fn run(&self, workspace: &Workspace, program: &[OsString]) -> Result<(), String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]).args(program).args(&self.arguments);
        let done = command.current_dir(workspace.path("")).output();
        let done = done.map_err(|error| format!("timeout: {error}"))?;
        let complained = String::from_utf8_lossy(&done.stderr).contains(self.complaint);
        if done.status.code() == Some(self.code) && done.stdout == self.printed && complained {
            Ok(())
        } else {
            Err(describe(&done))
        }
    }
}

/// What came of a run, in one line.
fn describe(done: &Output) -> String {
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    format!("{}, printed {:?}, said {:?}", done.status, of(&done.stdout), of(&done.stderr))
}

#[cfg(test)]
mod tests {
    use super::Case;
    use crate::workspace::Workspace;

    fn case(code: i32, printed: &str, complaint: &'static str) -> Case {
        let script = "echo out; echo err >&2; exit 3".to_owned();
        Case { arguments: vec!["-c".to_owned(), script], code, printed: printed.into(), complaint }
    }

    #[test]
    fn code_output_and_complaint_must_all_be_right() {
        let workspace = Workspace::find().unwrap();
        let shell = ["/bin/sh".into()];
        assert_eq!(case(3, "out\n", "err").run(&workspace, &shell), Ok(()));
        for wrong in [case(0, "out\n", "err"), case(3, "", "err"), case(3, "out\n", "other")] {
            let fault = wrong.run(&workspace, &shell).unwrap_err();
            assert!(fault.contains("status: 3") && fault.contains("out"), "{fault}");
        }
    }
}
