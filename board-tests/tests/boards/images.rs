//! An image goes from the big-endian board to one that is little-endian, and back.

use std::process::Command;

use board_tests::board::{Board, IMAGES, MALTA_BE, Model, Options};
use board_tests::lab::{Hosts, Path};
use board_tests::{daemon, measure};
use libtest_mimic::Failed;

use crate::{Outcome, booted, restored};

const CONFIGURATION: &str = "[checkpoint]\nkeep = [\"all\"]\n";
const FLOWS: u16 = 60;

/// Its newest image, as bytes and as the board itself shows it.
fn image(board: &Board) -> Result<(Vec<u8>, String), Failed> {
    let said = board.ctd("checkpoint save --wait 10")?;
    assert!(said.contains(&format!("{FLOWS} flows")), "{said}");
    let names = board.ask(&format!("list {IMAGES}"))?;
    let mut newest = (0, String::new());
    for name in names.iter().filter_map(|line| line.split(' ').next()) {
        let verdict = board.ctd(&format!("checkpoint verify {IMAGES}/{name}"))?;
        let generation = verdict.split([' ', ',']).nth(2).and_then(|it| it.parse().ok());
        newest = newest.max((generation.unwrap_or(0), name.to_owned()));
    }
    let path = format!("{IMAGES}/{}", newest.1);
    Ok((board.get(&path)?, board.ctd(&format!("checkpoint show {path}"))?))
}

/// Boots a board anew with nothing but this image in its flash.
fn boot_with(board: Board, hosts: &mut Hosts, image: &[u8]) -> Result<Board, Failed> {
    board.ask("stop")?;
    for line in board.ask(&format!("list {IMAGES}"))? {
        let name = line.split(' ').next().unwrap_or_default();
        board.ask(&format!("remove {IMAGES}/{name}"))?;
    }
    board.put(&format!("{IMAGES}/a.ckpt"), image)?;
    let mut board = board.cut_power().power_on()?;
    board.booted(hosts, 0)?;
    Ok(board)
}

pub(crate) fn both_ways(model: &'static Model) -> Outcome {
    assert!(MALTA_BE.big_endian && !model.big_endian);
    let (mut big, mut hosts) = booted(&MALTA_BE, "small-64mb", &Options::default())?;
    let (mut little, mut others) = booted(model, "small-64mb", &Options::default())?;
    big.configure(&mut hosts, CONFIGURATION)?;
    little.configure(&mut others, CONFIGURATION)?;
    for n in 0..FLOWS {
        let path = Path { ipv6: n % 3 == 0, lan: 0, wan: 0, sport: 11_000 + n, dport: 6_000 };
        let flow = hosts.open_udp(path)?;
        hosts.udp_send(&flow, 100)?;
        hosts.udp_reply(&flow, 50)?;
        hosts.close_udp(flow);
    }
    let (bytes, shown) = image(&big)?;

    // This machine's program shows every flow of it as the board's does.
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &bytes)?;
    let mut show = Command::new(daemon::binary()?);
    let here = show.args(["checkpoint", "show"]).arg(file.path()).output()?;
    assert_eq!(String::from_utf8_lossy(&here.stdout).trim_end(), shown.trim_end());

    let little = boot_with(little, &mut others, &bytes)?;
    assert_eq!(restored(&little, "restored")?, u64::from(FLOWS), "{}", model.name);
    let (bytes, shown) = image(&little)?;
    let flows = |text: &str| text.lines().filter(|line| line.contains("192.0.2.")).count();
    assert!(flows(&shown) > 0, "{shown}");
    let big = boot_with(big, &mut hosts, &bytes)?;
    let found = measure::wait_for("the flows", 20, || {
        Ok((restored(&big, "restored")? == u64::from(FLOWS)).then_some(()))
    });
    found.map_err(|error| Failed::from(format!("back on {}: {error}", MALTA_BE.name)))
}
