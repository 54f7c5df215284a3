//! `cargo bench-peers`: firmware-ctd, its peers and the bare receive loop under the same loads.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use board_tests::peers::Peer;
use board_tests::peers::bench::{Bench, Options};
use board_tests::peers::loads;
use lexopt::{Arg, Parser, ValueExt};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
Usage: cargo bench-peers [OPTIONS]
Measures firmware-ctd, conntrackd, ulogd2 and a bare receive loop (the floor) under the same loads,
in network namespaces of their own. Best as root: else receive buffers stay small.
  --rounds N       paired rounds (5)
  --only LOADS     churn, packets, live, full, scale, drain, ipfix, restore, save
  --scale          scale as well: a million live flows (root; about 2 GB of memory)
  --quick          one round of small loads: a test of this program
  --without PEER   do not measure conntrackd or ulogd2 (may be given again)
  --buffer BYTES   receive buffer of every listener (33554432)
  --json FILE      writes every sample of every round
  --no-build       do not build firmware-ctd first
  --help           this text
Exit code: 0; 1 when firmware-ctd lost a flow; 64 for wrong usage; 69 when a peer is missing;
70 when it could not measure.";

struct Arguments {
    options: Options,
    json: Option<PathBuf>,
    build: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-peers: {error}");
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    board_tests::lab::enter()?;
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            eprintln!("bench-peers: {error}; see --help");
            return Ok(ExitCode::from(64));
        }
    };
    if arguments.build {
        build(&arguments.options.programs)?;
    }
    if !all_there(&arguments.options) {
        return Ok(ExitCode::from(69));
    }
    measure(arguments)
}

fn measure(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let options = arguments.options.clone();
    let results = Bench::new(arguments.options)?.run()?;
    results.print(&options, &mut std::io::stdout().lock())?;
    if let Some(path) = arguments.json {
        let mut file = std::fs::File::create(path)?;
        writeln!(file, "{:#}", results.to_json(&options))?;
    }
    if results.nothing_lost() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("bench-peers: firmware-ctd did not account every destroyed flow");
    Ok(ExitCode::FAILURE)
}

fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let mut options = Options {
        rounds: 5,
        loads: Vec::new(),
        peers: Peer::ALL.to_vec(),
        quick: false,
        buffer: 32 << 20,
        programs,
    };
    let (mut json, mut build, mut scale) = (None, true, false);
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rounds") => options.rounds = parser.value()?.parse::<u32>()?.max(1),
            Arg::Long("only") => options.loads = only(&parser.value()?.string()?)?,
            Arg::Long("scale") => scale = true,
            Arg::Long("quick") => (options.quick, options.rounds) = (true, 1),
            Arg::Long("without") => {
                let name = parser.value()?.string()?;
                let peer = Peer::named(&name).ok_or_else(|| format!("no such listener: {name}"))?;
                options.peers.retain(|it| *it != peer);
            }
            Arg::Long("buffer") => options.buffer = parser.value()?.parse()?,
            Arg::Long("json") => json = Some(PathBuf::from(parser.value()?)),
            Arg::Long("no-build") => build = false,
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.loads.is_empty() {
        options.loads = loads::default_names();
    }
    if scale {
        options.loads.push("scale".to_owned());
    }
    Ok(Some(Arguments { options, json, build }))
}

fn only(list: &str) -> Result<Vec<String>, String> {
    let known = loads::names();
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("no such load: {name}; there are {}", known.join(", "))),
        None => Ok(names),
    }
}

/// Builds the release programs into the directory where this one is: the daemon alone, so that it
/// is the one that ships, then the floor.
fn build(programs: &Path) -> Result<(), Box<dyn Error>> {
    let target = programs.parent().ok_or("this program is not in a target directory")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for (package, program) in [("firmware-ctd", "firmware-ctd"), ("board-tests", "floor")] {
        let done = Command::new(&cargo)
            .args(["build", "--release", "--quiet", "-p", package, "--bin", program])
            .arg("--manifest-path")
            .arg(&manifest)
            .arg("--target-dir")
            .arg(target)
            .status()?;
        if !done.success() {
            return Err(format!("building {program} failed").into());
        }
    }
    Ok(())
}

/// Says which peers are missing and how to get them.
fn all_there(options: &Options) -> bool {
    let missing: Vec<Peer> = options
        .peers
        .iter()
        .copied()
        .filter(|peer| peer.program(&options.programs).is_none())
        .collect();
    for peer in &missing {
        eprintln!("bench-peers: {} is missing; --without {0} leaves it out", peer.name());
    }
    let packages: Vec<&str> = missing.iter().filter_map(|peer| peer.package()).collect();
    if !packages.is_empty() {
        eprintln!("bench-peers: apt-get install --no-install-recommends {}", packages.join(" "));
    }
    missing.is_empty()
}
