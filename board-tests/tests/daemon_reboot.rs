//! Connections live through a reboot of the router.

mod harness;

use std::time::Duration;

use board_tests::lab::outlast::{self, Scene};
use board_tests::lab::records::{self, Record};
use board_tests::lab::stream::{Standing, Stream, Way};
use board_tests::lab::{Options, Path, Phy, daemon};
use harness::Outcome;
use libtest_mimic::Trial;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("two_hundred_transfers_live_through_a_reboot", transfers_live),
        Trial::test("without_the_image_the_downloads_die", downloads_die),
    ])
}

const LAB: Options = Options { lan_hosts: 10, wan_hosts: 4, phy: Phy::Veth, seed: 7 };

/// `count` transfers, up and down, IPv4 and IPv6 in turn.
fn wanted(count: u16, bytes: u64) -> Vec<(Path, Way, u64)> {
    (0..count)
        .map(|n| {
            let [lan, wan] = [n % 10, n / 10 % 4].map(|host| u8::try_from(host).unwrap_or(0));
            let path = Path { ipv6: n % 2 == 1, lan, wan, sport: 20_000 + n, dport: 8_000 + n };
            (path, if n % 4 < 2 { Way::Down } else { Way::Up }, bytes)
        })
        .collect()
}

fn check_finished(scene: &mut Scene, streams: &mut [Stream]) {
    for (standing, stream) in scene.standings(streams).into_iter().zip(streams) {
        let (path, way, received) = (*stream.path(), stream.way, stream.received());
        assert_eq!(standing, Standing::Finished, "{path:?} {way:?} after {received} bytes");
        assert_eq!(stream.received_hash(), stream.content_hash(), "{path:?}");
    }
}

fn transfers_live() -> Outcome {
    let mut scene = Scene::new(LAB, &daemon::binary()?, "")?;
    let mut streams = scene.streams(&wanted(200, 60_000))?;
    assert!(scene.drive(&mut streams, 40), "the transfers begin");
    let before = scene.lab.router.dump()?;
    assert_eq!(before.len(), 200);

    let (mut off, took) = scene.shut_down()?;
    assert!(took < Duration::from_secs(5), "the daemon took {took:?} to save and end");
    off.wait(Duration::from_millis(300));
    let mut scene = off.power_on()?;
    let after = scene.lab.router.dump()?;
    assert_eq!(after.len(), 200, "the flows are there before any packet");
    assert!(scene.drive(&mut streams, 100), "the transfers go on");
    check_finished(&mut scene, &mut streams);
    assert_eq!(scene.lab.router.dump()?.len(), 200, "no flow was made anew");

    // Each flow ends once, and its account spans both boots.
    scene.lab.router.flush()?;
    let path = outlast::records(scene.flash());
    let told = wait_for_records(&path, 200)?;
    assert_eq!(told.len(), 200);
    for stream in &streams {
        let (orig, reply) = sums(&scene, stream);
        let record = told.iter().find(|record| record.told.orig == stream.path().tuple(TCP));
        let record = record.unwrap_or_else(|| panic!("{:?} has no record", stream.path()));
        let told = [record.told.orig_count, record.told.reply_count];
        for (count, (least, most)) in told.into_iter().flatten().zip([orig, reply]) {
            let within = (least..=most).contains(&count.bytes);
            assert!(within, "{:?}: {count:?}, not {least} to {most}", stream.path());
        }
        assert!(!record.inexact && told.iter().all(Option::is_some), "{record:?}");
    }
    Ok(())
}

const TCP: board_tests::lab::Proto = board_tests::lab::Proto::Tcp;

/// Bytes of both directions: at least what the far host received, at most what the near one sent.
/// In between is what was lost while there was no router.
fn sums(scene: &Scene, stream: &Stream) -> ((u64, u64), (u64, u64)) {
    let hosts = &scene.lab.hosts;
    let near = hosts.at_lan(stream.path(), TCP);
    let far = hosts.at_wan(stream.path(), TCP);
    ((far.received.bytes, near.sent.bytes), (near.received.bytes, far.sent.bytes))
}

fn wait_for_records(
    path: &std::path::Path,
    wanted: usize,
) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
    let mut told = Vec::new();
    board_tests::measure::wait_for("the records", 20, || {
        told = records::read_file(path).map_err(std::io::Error::other)?;
        Ok((told.len() >= wanted).then_some(()))
    })?;
    Ok(told)
}

fn downloads_die() -> Outcome {
    let mut scene = Scene::new(LAB, &daemon::binary()?, "")?;
    let ipv4 = |(path, way, bytes): &(Path, Way, u64)| {
        (!path.ipv6 && *way == Way::Down).then_some((*path, *way, *bytes))
    };
    let wanted: Vec<_> = wanted(80, 60_000).iter().filter_map(ipv4).collect();
    let mut streams = scene.streams(&wanted)?;
    assert!(scene.drive(&mut streams, 40), "the transfers begin");
    let (off, _) = scene.shut_down()?;
    std::fs::remove_dir_all(outlast::images(off.flash()))?;
    let mut scene = off.power_on()?;
    assert_eq!(scene.lab.router.dump()?.len(), 0, "nothing is restored");
    scene.drive(&mut streams, 100);
    let dead = scene.standings(&mut streams);
    assert!(dead.iter().all(|standing| *standing == Standing::Dead), "{dead:?}");
    Ok(())
}
