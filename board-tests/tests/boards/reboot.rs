//! Connections live through a real reboot of the board, and only by the image.

use std::time::Duration;

use board_tests::board::{Board, Model, Options};
use board_tests::lab::stream::{Standing, Stream, Way, mixed};
use board_tests::lab::{Hosts, Path};
use libtest_mimic::Failed;

use crate::{Outcome, booted, restored};

fn check_finished(hosts: &mut Hosts, streams: &mut [Stream]) {
    for (standing, stream) in hosts.standings(streams).into_iter().zip(streams) {
        let (path, way, received) = (*stream.path(), stream.way, stream.received());
        assert_eq!(standing, Standing::Finished, "{path:?} {way:?} after {received} bytes");
        assert_eq!(stream.received_hash(), stream.content_hash(), "{path:?}");
    }
}

/// Begins transfers and reboots in their middle; the board as it is up again.
fn through_a_reboot(
    model: &'static Model,
    wanted: &[(Path, Way, u64)],
    forget: bool,
) -> Result<(Board, Hosts, Vec<Stream>), Failed> {
    let (mut board, mut hosts) = booted(model, "small-64mb", &Options::default())?;
    let mut streams = hosts.streams(wanted)?;
    assert!(hosts.drive_streams(&mut streams, 40), "the transfers begin");
    let before = board.wait_for(&mut hosts, "boot", 0, Duration::ZERO)?;
    let mark = board.heard();
    board.reboot(&mut hosts, forget)?;
    board.booted(&mut hosts, mark)?;
    let after = board.wait_for(&mut hosts, "boot", mark, Duration::ZERO)?;
    assert_ne!(before, after, "it is another boot");
    Ok((board, hosts, streams))
}

pub(crate) fn transfers_live(model: &'static Model) -> Outcome {
    let (board, mut hosts, mut streams) = through_a_reboot(model, &mixed(40, 60_000), false)?;
    assert_eq!(restored(&board, "restored")?, 40);
    assert!(hosts.drive_streams(&mut streams, 100), "the transfers go on");
    check_finished(&mut hosts, &mut streams);
    assert_eq!(board.status()?.flows(), 40, "no flow was made anew");
    Ok(())
}

pub(crate) fn downloads_die(model: &'static Model) -> Outcome {
    let downloads: Vec<_> = mixed(40, 60_000)
        .into_iter()
        .filter(|(path, way, _)| !path.ipv6 && *way == Way::Down)
        .collect();
    let (board, mut hosts, mut streams) = through_a_reboot(model, &downloads, true)?;
    assert_eq!(restored(&board, "restored")?, 0);
    hosts.drive_streams(&mut streams, 100);
    let standings = hosts.standings(&mut streams);
    assert!(standings.iter().all(|standing| *standing == Standing::Dead), "{standings:?}");
    Ok(())
}
