//! Emulated boards: real packets of hosts outside cross a real router kernel of another
//! architecture, with the shipped package on it.
//!
//! The same tests for each board. `BOARDS` in the environment names the boards, with commas
//! between; without it the tests run on those of the default tier.

mod accounts;
mod cost;
mod images;
mod memory;
mod power;
mod reboot;

use std::io;
use std::process::ExitCode;

use board_tests::board::{Board, Firmware, MALTA_BE, MODELS, Model, Off, Options};
use board_tests::lab::records::Record;
use board_tests::lab::{Hosts, enter};
use libtest_mimic::{Arguments, Failed, Trial};

/// How a test ends.
type Outcome = Result<(), Failed>;

/// A test, for each board.
type Test = fn(&'static Model) -> Outcome;

/// Those of every board.
const TESTS: [(&str, Test); 4] = [
    ("flows_are_accounted_as_the_hosts_made_them", accounts::equal),
    ("transfers_live_through_a_reboot", reboot::transfers_live),
    ("without_the_image_the_downloads_die", reboot::downloads_die),
    ("a_flood_into_a_small_buffer_loses_nothing", memory::flood),
];
/// Those of the board that is the most like a real one: 24Kc, big-endian, a flash chip.
const OF_MALTA: [(&str, Test); 3] = [
    ("a_power_cut_leaves_a_good_image", power::cuts),
    ("thirty_two_megabytes_are_enough", memory::small),
    ("an_event_costs_few_instructions", cost::instructions),
];
/// Those of a little-endian board beside it.
const OF_A_PAIR: [(&str, Test); 1] =
    [("images_go_to_the_other_byte_order_and_back", images::both_ways)];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two cores, and a second board beside the first makes neither faster.
    arguments.test_threads.get_or_insert(1);
    let wanted = std::env::var("BOARDS").ok();
    let takes = |model: &Model| match &wanted {
        Some(names) => names.split(',').any(|name| name == model.name || name == "all"),
        None => model.default_tier,
    };
    let mut trials = Vec::new();
    for model in MODELS.iter().filter(|model| takes(model)) {
        let malta = model.name == MALTA_BE.name;
        let own = match malta {
            true => &OF_MALTA[..],
            // The other of the pair is malta.
            false if takes(&MALTA_BE) => &OF_A_PAIR,
            false => &[],
        };
        for &(name, test) in TESTS.iter().chain(own) {
            trials.push(Trial::test(format!("{}::{name}", model.name), move || test(model)));
        }
    }
    // Before any thread runs.
    if let Err(error) = enter() {
        let refused = error.to_string();
        trials = vec![Trial::test("namespaces_are_allowed", move || Err(refused.into()))];
    }
    if trials.is_empty() {
        let text = format!("no board is called {}", wanted.unwrap_or_default());
        trials.push(Trial::test("boards", move || Err(text.into())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn firmware(model: &Model, profile: &str) -> io::Result<Firmware> {
    Firmware::build(model, profile, &mut |text| eprintln!("{text}"))
}

/// A board with that profile's package that has booted, and its hosts.
fn booted(
    model: &'static Model,
    profile: &str,
    options: &Options,
) -> Result<(Board, Hosts), Failed> {
    let firmware = firmware(model, profile)?;
    let (off, mut hosts) = Off::new(model, &firmware, options)?;
    let mut board = off.power_on()?;
    board.booted(&mut hosts, 0)?;
    Ok((board, hosts))
}

/// The records in the daemon's file.
fn records(board: &Board, path: &str) -> io::Result<Vec<Record>> {
    let text = String::from_utf8_lossy(&board.get(path)?).into_owned();
    text.lines().map(|line| Record::parse(line).map_err(io::Error::other)).collect()
}

/// Where the package's profiles have their records.
const SINK: &str = "/tmp/firmware-ctd/flows.jsonl";

/// A number of what was made again.
fn restored(board: &Board, name: &str) -> io::Result<u64> {
    let status = board.status()?;
    let number = status.0["restore"][name].as_u64();
    number.ok_or_else(|| io::Error::other(format!("no {name} in {}", status.0["restore"])))
}
