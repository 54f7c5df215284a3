//! The steps of `cargo board-tests`, in their order: what is quick or most often wrong first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::job::Job;
use super::{Failure, licences, packages};

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// What it tests, for people.
    pub(super) about: &'static str,
    /// Not with `--fast`.
    pub(super) slow: bool,
    /// The others are not run when it fails.
    pub(super) needed: bool,
    /// Seconds after which its commands are ended.
    pub(super) limit_s: u64,
    pub(super) work: fn(&mut Job<'_>) -> Result<(), Failure>,
}

impl Step {
    /// How long it may take.
    pub(super) const fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_s)
    }

    const fn new(
        name: &'static str,
        limit_s: u64,
        work: fn(&mut Job<'_>) -> Result<(), Failure>,
        about: &'static str,
    ) -> Self {
        Self { name, about, slow: false, needed: false, limit_s, work }
    }

    const fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }
}

/// All steps. Limits are several times what each takes on two cores without a build cache.
pub(super) const STEPS: [Step; 18] = [
    Step::new("packages", 600, packages::work, "the programs that the other steps need").needed(),
    Step::new("format", 60, format, "rustfmt"),
    Step::new("licences", 120, licences::work, "licences and sources of every dependency"),
    Step::new("clippy", 900, clippy, "lints of all targets, warnings are errors"),
    Step::new("docs", 300, docs, "documentation without warnings"),
    Step::new("unit", 900, unit, "the daemon's unit, property and model tests"),
    Step::new("feed", 600, feed, "packages and feeds for OpenWrt, and their scripts on a board"),
    Step::new("size", 300, size, "the release binary and its limit"),
    Step::new("config", 60, config, "the shipped configurations, read by that binary"),
    Step::new("lab", 900, lab, "that binary on this kernel: accounts, peers' views, hostile input"),
    Step::new("demo", 300, demo, "cargo demo, shortened, and cargo demo reboot"),
    Step::new("bench", 300, bench, "cargo bench-peers, one small round: nothing lost"),
    Step::new(
        "openwrt",
        600,
        openwrt,
        "the unit tests in the profile of OpenWrt's feed, and a demo",
    ),
    Step::new(
        "cross",
        900,
        cross,
        "programs and packages for five boards: sizes, and runs under QEMU, tests on big-endian MIPS",
    ),
    Step::new(
        "boards",
        1800,
        boards,
        "emulated routers: accounts, reboots, power cuts, a flood, instructions; cargo demo board",
    ),
    Step::new("fuzz", 600, fuzz, "each fuzz target for half a minute").slow(),
    Step::new("msrv", 600, msrv, "the shipped crate with the oldest Rust").slow(),
    Step::new("tidy", 60, tidy, "no file too long, no lint switched off without a reason"),
];

const FUZZ: &str = "firmware-ctd/fuzz";

fn format(job: &mut Job<'_>) -> Result<(), Failure> {
    job.run(&mut job.cargo(&["fmt", "--all", "--check", "--", "--color=never"]))?;
    job.run(&mut fuzz_cargo(job, &["fmt", "--check", "--", "--color=never"]))
}

fn clippy(job: &mut Job<'_>) -> Result<(), Failure> {
    let all = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    job.run(&mut job.cargo(&all))?;
    // In the profile of the step `fuzz`, so that libFuzzer is compiled once for both.
    let fuzz = ["clippy", "--release", "--all-targets", "--locked", "--", "-D", "warnings"];
    job.run(&mut fuzz_cargo(job, &fuzz))
}

fn docs(job: &mut Job<'_>) -> Result<(), Failure> {
    let all = ["doc", "--workspace", "--no-deps", "--locked"];
    job.run(job.cargo(&all).env("RUSTDOCFLAGS", "-D warnings"))
}

fn unit(job: &mut Job<'_>) -> Result<(), Failure> {
    let daemon = ["-p", "firmware-ctd", "-p", "firmware-ctd-core"];
    job.run(job.cargo(&["test", "--locked", "--no-fail-fast"]).args(daemon))?;
    job.run(&mut job.cargo(&["test", "--locked", "--no-fail-fast", "-p", "cross", "--bins"]))
}

fn feed(job: &mut Job<'_>) -> Result<(), Failure> {
    let tests = ["--test", "package", "--test", "board"];
    job.run(job.cargo(&["test", "--locked", "--no-fail-fast", "-p", "cross"]).args(tests))
}

fn size(job: &mut Job<'_>) -> Result<(), Failure> {
    job.run(&mut job.cargo(&["run", "--locked", "--quiet", "-p", "cross", "--", "size"]))?;
    job.tell("-linux-")
}

fn msrv(job: &mut Job<'_>) -> Result<(), Failure> {
    job.run(&mut job.cargo(&["run", "--locked", "--quiet", "-p", "cross", "--", "msrv"]))?;
    job.tell("checking firmware-ctd")
}

/// What is missing of Rust and zig, `cargo cross` installs itself.
fn cross(job: &mut Job<'_>) -> Result<(), Failure> {
    for arguments in [["size", "all"], ["smoke", "all"], ["test", "mips_24kc"]] {
        let mut command = job.cargo(&["run", "--locked", "--quiet", "-p", "cross", "--"]);
        job.run(command.args(arguments).arg("--install"))?;
    }
    // Not into the feeds that somebody may serve.
    let feed = job.target("board-tests/feed");
    let mut package = job.cargo(&["run", "--locked", "--quiet", "-p", "cross", "--"]);
    package.args(["package", "all", "--feed"]).arg(feed).env("SOURCE_DATE_EPOCH", "1795000000");
    job.run(&mut package)?;
    // The table of sizes: names with a blank behind. And those of the packages.
    ["target ", "_24kc ", "_cortex-", "x86_64 ", ".ipk: "]
        .iter()
        .try_for_each(|word| job.tell(word))
}

/// Each file by itself, and each board's file on top of the general one.
fn config(job: &mut Job<'_>) -> Result<(), Failure> {
    let general = job.path("config/firmware-ctd.toml");
    let boards = files(&job.path("config/boards"), "toml")?;
    let single = std::iter::once(&general).chain(&boards).map(|file| vec![file]);
    let on_top = boards.iter().map(|board| vec![&general, board]);
    let lists: Vec<Vec<&PathBuf>> = single.chain(on_top).collect();
    for files in lists {
        let mut command = Command::new(job.daemon());
        command.arg("validate");
        for file in &files {
            command.arg("-c").arg(file);
        }
        let result = job.run(&mut command);
        let names: Vec<_> = files.iter().filter_map(|it| it.file_name()?.to_str()).collect();
        job.check(&names.join(" + "), &result)?;
    }
    Ok(())
}

fn lab(job: &mut Job<'_>) -> Result<(), Failure> {
    let mut command = job.cargo(&["test", "--locked", "--no-fail-fast", "-p", "board-tests"]);
    job.run(command.env("FIRMWARE_CTD", job.daemon()))
}

fn demo(job: &mut Job<'_>) -> Result<(), Failure> {
    let daemon = job.daemon().display().to_string();
    job.run(job.cargo(&["demo", "--daemon", &daemon]).args(SHORT_DEMO))?;
    job.run(&mut job.cargo(&["demo", "reboot", "--daemon", &daemon]))
}

const SHORT_DEMO: [&str; 4] = ["--flows", "600", "--seconds", "3"];

fn bench(job: &mut Job<'_>) -> Result<(), Failure> {
    job.run(&mut job.cargo(&["bench-peers", "--quick"]))
}

/// OpenWrt's feed overrides the release profile; what it builds is tested as it is built there.
fn openwrt(job: &mut Job<'_>) -> Result<(), Failure> {
    let common = ["--profile", "openwrt", "--locked", "-p", "firmware-ctd"];
    let core = ["-p", "firmware-ctd-core"];
    job.run(job.cargo(&["build", "--bin", "firmware-ctd"]).args(common))?;
    job.run(job.cargo(&["test", "--lib", "--no-fail-fast"]).args(common).args(core))?;
    let daemon = job.target("openwrt/firmware-ctd").display().to_string();
    job.run(job.cargo(&["demo", "--daemon", &daemon]).args(SHORT_DEMO))
}

fn boards(job: &mut Job<'_>) -> Result<(), Failure> {
    let mut command = job.cargo(&["test", "--locked", "-p", "board-tests", "--test", "boards"]);
    if job.all_boards() {
        command.env("BOARDS", "all");
    }
    job.run(command.env("FIRMWARE_CTD", job.daemon()).args(["--", "--nocapture"]))?;
    job.run(&mut job.cargo(&["demo", "board"]))?;
    job.tell("measured: ")
}

/// Every target at once: each is one thread.
fn fuzz(job: &mut Job<'_>) -> Result<(), Failure> {
    job.run(&mut fuzz_cargo(job, &["build", "--release", "--locked"]))?;
    let names: Vec<String> = files(&job.path(FUZZ).join("fuzz_targets"), "rs")?
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    let mut commands = Vec::new();
    for name in &names {
        commands.push(fuzz_target(job, name).map_err(|error| format!("{name}: {error}"))?);
    }
    let results = job.run_all(&mut commands)?;
    names.iter().zip(&results).try_for_each(|(name, result)| job.check(name, result))
}

fn fuzz_target(job: &Job<'_>, name: &str) -> std::io::Result<Command> {
    let work = job.target("board-tests").join(name);
    fs::create_dir_all(&work)?;
    let mut command = fuzz_cargo(job, &["run", "--release", "--locked", "--quiet", "--bin", name]);
    command.args(["--", "-max_total_time=30", "-max_len=2048", "-timeout=10"]);
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    command.arg(format!("-artifact_prefix={}/found-", job.target("board-tests").display()));
    command.arg(work);
    let seeds = job.path(FUZZ).join("seeds").join(name);
    command.args(seeds.is_dir().then_some(seeds));
    Ok(command)
}

/// Cargo in the workspace of the fuzz targets, whose configuration sets the compiler's flags.
fn fuzz_cargo(job: &Job<'_>, arguments: &[&str]) -> Command {
    job.cargo_in(Path::new(FUZZ), &job.target("fuzz"), arguments)
}

/// The files of `directory` with that extension, in the order of their names.
fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory);
    let entries = entries.map_err(|error| format!("{}: {error}", directory.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        paths.filter(|it| it.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    Ok(files)
}

/// Lines of a file before its tests.
const LINES: usize = 500;

/// What neither rustfmt nor clippy looks at.
fn tidy(job: &mut Job<'_>) -> Result<(), Failure> {
    let mut faults = Vec::new();
    let sources = sources(&job.path(""))?;
    for file in &sources {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let limit = if is_test(file) { usize::MAX } else { LINES };
        faults.extend(untidy(&text, limit).map(|fault| format!("{}: {fault}", file.display())));
    }
    if sources.is_empty() {
        faults.push("no source files were found".to_owned());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// All `.rs` files of the workspace.
fn sources(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut places: Vec<PathBuf> =
        ["firmware-ctd", "board-tests", "cross"].map(|it| root.join(it)).to_vec();
    while let Some(place) = places.pop() {
        found.extend(files(&place, "rs")?);
        let entries = fs::read_dir(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        let below = entries.flatten().map(|entry| entry.path());
        places.extend(below.filter(|it| it.is_dir() && !it.ends_with("target")));
    }
    Ok(found)
}

/// Whether a file is nothing but tests.
fn is_test(file: &Path) -> bool {
    file.components().any(|it| it.as_os_str() == "tests" || it.as_os_str() == "tests.rs")
}

fn untidy(text: &str, limit: usize) -> Option<String> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let allow = ["#[", "#!["].map(|begin| format!("{begin}allow("));
    let switched_off = text.lines().find(|line| allow.iter().any(|it| line.contains(it.as_str())));
    match switched_off {
        Some(line) => Some(format!("{} (expect a lint with a reason)", line.trim())),
        None if lines > limit => Some(format!("{lines} lines without its tests, {limit} allowed")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{LINES, STEPS, untidy};

    #[test]
    fn steps_are_told_apart_and_bounded_below_the_whole() {
        let mut names = STEPS.map(|step| step.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(STEPS.iter().all(|step| step.name.len() <= 9 && step.limit_s <= 1800));
    }

    #[test]
    fn long_files_and_switched_off_lints_are_untidy() {
        let long = "x\n".repeat(LINES);
        assert_eq!(untidy(&long, LINES), None);
        assert!(untidy(&format!("{long}x\n"), LINES).unwrap().contains("501 lines"));
        assert_eq!(untidy(&format!("{long}#[cfg(test)]\nmod tests {{\n}}\n"), LINES), None);
        let allow = format!("    #[{}(unused)]\n", "allow");
        assert!(untidy(&allow, LINES).unwrap().contains("unused"));
    }
}
