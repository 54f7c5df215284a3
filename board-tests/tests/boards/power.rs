//! A power cut at any moment leaves a good image.

use std::io;
use std::time::Duration;

use board_tests::board::{Board, IMAGES, Model, Options};
use board_tests::lab::plan::Random;
use board_tests::lab::{Hosts, Path, clock};

use crate::{Outcome, booted, restored};

const CUTS: u16 = 20;
/// Cuts that must lie between the beginning of a file and its renaming, as the flash shows it.
const WITHIN: usize = 5;
/// Flows before the first cut: an image of some erase blocks' worth of writing.
const FLOWS: u16 = 800;
const PATIENCE: Duration = Duration::from_secs(30);
const CONFIGURATION: &str = "[checkpoint]\nkeep = [\"all\"]\n";

/// One datagram, which makes a flow that no answer assures.
fn flow(hosts: &mut Hosts, n: u16) -> io::Result<()> {
    let lan = u8::try_from(n % 10).unwrap_or(0);
    let path = Path { ipv6: n % 2 == 1, lan, wan: 0, sport: 10_000 + n, dport: 5_000 };
    let flow = hosts.open_udp(path).map_err(io::Error::other)?;
    // A board that is busy with its flash loses one now and then.
    let mut sent = hosts.udp_send(&flow, 64);
    for _ in 0..4 {
        if sent.is_err() {
            sent = hosts.udp_send(&flow, 64);
        }
    }
    sent.map_err(|error| io::Error::other(format!("flow {n}: {error}")))?;
    hosts.close_udp(flow);
    Ok(())
}

/// What an image says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Image {
    generation: u64,
    flows: u64,
}

/// The newest good image; whatever is in place of an image must be good.
fn newest(board: &Board) -> io::Result<Image> {
    let mut newest = Image::default();
    for line in board.ask(&format!("list {IMAGES}"))? {
        let name = line.split(' ').next().unwrap_or_default();
        if !name.ends_with(".ckpt") {
            continue;
        }
        // Fails, and the test with it, when the image is not good.
        let said = board.ctd(&format!("checkpoint verify {IMAGES}/{name}"))?;
        let number = |word: usize| said.split([' ', ',']).filter(|it| !it.is_empty()).nth(word);
        let parsed = |word| number(word).and_then(|it| it.parse().ok());
        let image = parsed(2).zip(parsed(3)).map(|(generation, flows)| Image { generation, flows });
        newest = newest.max(image.ok_or_else(|| io::Error::other(said.clone()))?);
    }
    Ok(newest)
}

pub(crate) fn cuts(model: &'static Model) -> Outcome {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    board.configure(&mut hosts, CONFIGURATION)?;
    let long = "sysctl net/netfilter/nf_conntrack_udp_timeout 3600";
    board.ask(long)?;
    for n in 0..FLOWS {
        flow(&mut hosts, n)?;
    }
    // How long a save takes here, so that cuts fall into it.
    let mark = board.heard();
    board.tell("ctd checkpoint save --wait 20")?;
    board.wait_for(&mut hosts, "began", mark, PATIENCE)?;
    let began = clock::now();
    board.wait_for(&mut hosts, "placed", mark, PATIENCE)?;
    // It may be over before anybody has looked.
    let took = began.elapsed().max(Duration::from_millis(5));
    board.answer()?;

    let mut random = Random::new(5);
    let mut before = newest(&board)?;
    assert!(before.flows >= FLOWS.into(), "{before:?}");
    let mut within = 0;
    let mut told = String::new();
    for cut in 0..CUTS {
        board.ask(long)?;
        flow(&mut hosts, FLOWS + cut)?;
        let mark = board.heard();
        board.tell("ctd checkpoint save --wait 20")?;
        board.wait_for(&mut hosts, "began", mark, PATIENCE)?;
        let micros = u64::try_from(took.as_micros())?;
        let delay = Duration::from_micros(random.below(micros * 5 / 4));
        let waited = clock::now();
        hosts.drive_until(delay, |_| waited.elapsed() >= delay);
        let off = board.cut_power();
        board = off.power_on()?;
        board.booted(&mut hosts, 0)?;
        // A file that was begun and not renamed is still there. So is one between the two steps of
        // a rename of jffs2, under both names.
        let left = board.events(0).iter().any(|it| it.starts_with("flash ") && it.contains(".tmp"));
        let after = newest(&board)?;
        let is_old = after == before;
        within += usize::from(left && is_old);
        let is_new = after.generation == before.generation + 1;
        told.push_str(&format!("{delay:?}: {before:?}, then {after:?}, left over: {left}\n"));
        assert!(is_old || is_new, "{told}");
        assert_eq!(restored(&board, "restored")?, after.flows, "{told}");
        assert_eq!(restored(&board, "images_refused")?, 0, "{told}");
        before = after;
    }
    eprint!("measured: a save takes {took:?}; {within} cuts between writing and renaming\n{told}");
    assert!(within >= WITHIN, "only {within} cuts before the renaming:\n{told}");
    Ok(())
}
