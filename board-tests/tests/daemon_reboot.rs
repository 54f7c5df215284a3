//! Connections live through a reboot of the router.

mod harness;

use std::collections::HashSet;
use std::time::Duration;

use board_tests::daemon::{Status, client, tool};
use board_tests::lab::outlast::{self, Scene, Setup};
use board_tests::lab::records::{self, Record};
use board_tests::lab::stream::{Standing, Stream, Way, mixed};
use board_tests::lab::{Netns, Options, Path, Phy, Side, daemon};
use harness::Outcome;
use libtest_mimic::Trial;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("two_hundred_transfers_live_through_a_reboot", transfers_live),
        Trial::test("without_the_image_the_downloads_die", downloads_die),
        Trial::test("ftp_and_udp_live_through_a_reboot", ftp_and_udp),
        Trial::test("ftp_that_is_translated_lives_through_a_reboot", ftp_through_nat),
        Trial::test("after_a_power_cut_the_last_image_counts", power_cut),
        Trial::test("a_power_cut_counts_after_an_orderly_end_in_the_same_boot", cut_after_restart),
        Trial::test("what_is_owed_and_what_ends_with_the_boot_is_told_after_it", || owed(false)),
        Trial::test("the_same_with_an_image_just_before_the_end", || owed(true)),
        Trial::test("what_ended_after_the_last_image_does_not_come_back", ended_since),
        Trial::test("flows_of_an_address_that_is_gone_are_deleted", address_gone),
        Trial::test("an_address_that_comes_back_keeps_its_flows", address_comes_back),
        Trial::test("a_fresh_image_ends_at_once_and_a_second_sigterm_harms_nothing", sigterms),
        Trial::test("a_damaged_image_gives_way_to_the_other", damaged),
        Trial::test("a_clock_that_is_set_corrects_timeouts", clock_set),
    ])
}

const LAB: Options = Options { lan_hosts: 10, wan_hosts: 4, phy: Phy::Veth, seed: 7 };

fn scene(checkpoint: &str) -> Result<Scene, Box<dyn std::error::Error>> {
    Ok(Scene::new(LAB, &daemon::binary()?, &Setup::with(checkpoint))?)
}

fn status(scene: &Scene) -> std::io::Result<Status> {
    client::status(&scene.daemon.socket())
}

/// A number of what was made again.
fn restored(scene: &Scene, name: &str) -> std::io::Result<u64> {
    let status = status(scene)?;
    let number = status.0["restore"][name].as_u64();
    number.ok_or_else(|| std::io::Error::other(format!("no {name} in {}", status.0["restore"])))
}

/// What is owed to the sink that is owed the most.
fn most_owed(scene: &Scene) -> std::io::Result<u64> {
    let status = status(scene)?;
    let of = |sink: &serde_json::Value| sink["owed"].as_u64().unwrap_or(0);
    Ok(status.sinks().iter().map(of).max().unwrap_or(0))
}

/// Has the daemon save, and waits for it.
fn save(scene: &Scene) -> std::io::Result<String> {
    client::ask(&scene.daemon.socket(), "save 10")
}

fn wait_for(what: &str, mut done: impl FnMut() -> std::io::Result<bool>) -> std::io::Result<()> {
    board_tests::measure::wait_for(what, 20, || Ok(done()?.then_some(())))
}

fn check_finished(scene: &mut Scene, streams: &mut [Stream]) {
    for (standing, stream) in scene.standings(streams).into_iter().zip(streams) {
        let (path, way, received) = (*stream.path(), stream.way, stream.received());
        assert_eq!(standing, Standing::Finished, "{path:?} {way:?} after {received} bytes");
        assert_eq!(stream.received_hash(), stream.content_hash(), "{path:?}");
    }
}

fn transfers_live() -> Outcome {
    let mut scene = scene("")?;
    let mut streams = scene.streams(&mixed(200, 60_000))?;
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
    let mut scene = scene("")?;
    let ipv4 = |(path, way, bytes): &(Path, Way, u64)| {
        (!path.ipv6 && *way == Way::Down).then_some((*path, *way, *bytes))
    };
    let wanted: Vec<_> = mixed(80, 60_000).iter().filter_map(ipv4).collect();
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

const RULES: &str = "table inet test {
    ct helper ftp { type \"ftp\" protocol tcp; }
    chain forward { type filter hook forward priority 0; tcp dport 21 ct helper set \"ftp\"; }
}";

fn ip(netns: &Netns, words: &str) -> std::io::Result<String> {
    tool::output(netns, "ip".as_ref(), &words.split(' ').collect::<Vec<_>>())
}

fn path(lan: u8, sport: u16, dport: u16) -> Path {
    Path { ipv6: false, lan, wan: 0, sport, dport }
}

/// A control connection with its helper, a data connection that it announced, one that it has still
/// announced, and datagrams.
fn ftp_and_udp() -> Outcome {
    let ftp = |sport, dport| Path { ipv6: true, ..path(0, sport, dport) };
    // A stream of datagrams is assured after two seconds; this one is not so old.
    let mut scene = scene("keep = [\"all\"]")?;
    tool::output(scene.lab.router.netns(), "nft".as_ref(), &[RULES])?;
    let control = scene.lab.hosts.open_tcp(ftp(30_000, 21))?;
    let udp = scene.lab.hosts.open_udp(path(1, 30_001, 5_000))?;
    for _ in 0..3 {
        scene.lab.hosts.udp_send(&udp, 100)?;
        scene.lab.hosts.udp_reply(&udp, 100)?;
    }
    // A helper begins to understand at the second line of each side.
    for (side, line) in [(Side::Wan, &b"220 hello\r\n"[..]), (Side::Lan, b"USER x\r\n")] {
        assert_eq!(heard(&mut scene, &control, side, line)?, line);
    }
    let passive =
        |port: u16| format!("229 Entering Extended Passive Mode (|||{port}|)\r\n").into_bytes();
    assert_eq!(heard(&mut scene, &control, Side::Wan, &passive(8_000))?, passive(8_000));
    let data = (ftp(30_002, 8_000), Way::Down, 100_000);
    let mut data = scene.streams(&[data])?;
    assert!(scene.drive(&mut data, 50));
    assert_eq!(heard(&mut scene, &control, Side::Wan, &passive(8_001))?, passive(8_001));

    let (off, _) = scene.shut_down()?;
    let mut scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 3);
    assert_eq!(restored(&scene, "restored_expectations")?, 1, "that of port 8001");
    assert_eq!(restored(&scene, "refused_helper")?, 0);
    // The server speaks first: only a restored translation lets it in.
    scene.lab.hosts.udp_reply(&udp, 100)?;
    assert!(scene.drive(&mut data, 100));
    check_finished(&mut scene, &mut data);
    assert_eq!(heard(&mut scene, &control, Side::Wan, b"200 ok\r\n")?, b"200 ok\r\n");
    assert_eq!(heard(&mut scene, &control, Side::Lan, b"NOOP\r\n")?, b"NOOP\r\n");
    scene.lab.hosts.open_tcp(ftp(30_003, 8_001))?;
    let table = tool::conntrack(scene.lab.router.netns(), &["-L", "-o", "xml"])?;
    let master = "<meta direction=\"independent\">";
    assert!(table.contains(master), "{table}");
    let left = tool::conntrack(scene.lab.router.netns(), &["-L", "expect"])?;
    assert!(!left.contains("dport=8001"), "the expectation was used: {left}");
    Ok(())
}

/// Active FTP behind the masquerade. Each announcement is longer when it has left the router: so
/// the sequence numbers of the control connection are adjusted from then on, also after the reboot,
/// and so is the announcement itself that comes after it.
fn ftp_through_nat() -> Outcome {
    let mut scene = scene("")?;
    tool::output(scene.lab.router.netns(), "nft".as_ref(), &[RULES])?;
    let control = scene.lab.hosts.open_tcp(path(0, 30_000, 21))?;
    for (side, line) in [(Side::Wan, &b"220 hello\r\n"[..]), (Side::Lan, b"USER x\r\n")] {
        assert_eq!(heard(&mut scene, &control, side, line)?, line);
    }
    let port = announced(&mut scene, &control, 30_010)?;
    let flow = scene.lab.hosts.open_tcp_back(path(0, 30_010, 20), port)?;
    let mut data = [Stream::new(flow, Way::Up, 100_000, 1)];
    assert!(scene.drive(&mut data, 50));
    let later = announced(&mut scene, &control, 30_011)?;
    let expected = tool::conntrack(scene.lab.router.netns(), &["-L", "expect"])?;
    assert!(expected.contains(&format!("dport={later}")), "{expected}");

    let (off, _) = scene.shut_down()?;
    let mut scene = off.power_on()?;
    let told = ["restored", "restored_expectations", "refused_helper"];
    let [flows, expectations, refused] = told.map(|name| restored(&scene, name));
    assert_eq!((flows?, expectations?, refused?), (2, 1, 0));
    // By the translation of the old boot, by an expectation of it, and by a new one.
    assert!(scene.drive(&mut data, 100));
    check_finished(&mut scene, &mut data);
    assert_eq!(heard(&mut scene, &control, Side::Wan, b"200 ok\r\n")?, b"200 ok\r\n");
    back(&mut scene, path(0, 30_011, 1_020), later)?;
    // One more takes the place of one before: FTP has one at a time.
    let newest = announced(&mut scene, &control, 30_012)?;
    back(&mut scene, path(0, 30_012, 1_021), newest)
}

/// A transfer over a connection that the server opens to an announced port.
fn back(scene: &mut Scene, path: Path, port: u16) -> Outcome {
    let flow = scene.lab.hosts.open_tcp_back(path, port)?;
    let mut data = [Stream::new(flow, Way::Up, 20_000, path.sport.into())];
    assert!(scene.drive(&mut data, 100), "to {port}");
    check_finished(scene, &mut data);
    Ok(())
}

/// The client announces a port of its own; the port that the server hears, at the router's address.
fn announced(
    scene: &mut Scene,
    control: &board_tests::lab::TcpFlow,
    port: u16,
) -> Result<u16, Box<dyn std::error::Error>> {
    let [high, low] = port.to_be_bytes();
    let text = format!("PORT 192,0,2,2,{high},{low}\r\n");
    let heard = String::from_utf8(heard(scene, control, Side::Lan, text.as_bytes())?)?;
    let numbers = heard.trim_end().strip_prefix("PORT 198,51,100,1,");
    let numbers = numbers.ok_or_else(|| format!("the server heard {heard:?}"))?;
    let (high, low) = numbers.split_once(',').ok_or("no port")?;
    Ok(u16::from_be_bytes([high.parse()?, low.parse()?]))
}

/// What the other side hears when this one says something.
fn heard(
    scene: &mut Scene,
    flow: &board_tests::lab::TcpFlow,
    from: Side,
    text: &[u8],
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let to = if from == Side::Lan { Side::Wan } else { Side::Lan };
    scene.lab.hosts.say(flow, from, text);
    let (mut heard, mut late) = (Vec::new(), false);
    let began = board_tests::lab::clock::now();
    // To look at a socket counts as something that happened: the time must end this too.
    let done = scene.lab.hosts.drive_until(Duration::from_secs(10), |hosts| {
        heard.extend(hosts.hear(flow, to));
        late = began.elapsed() > Duration::from_secs(10);
        late || heard.ends_with(b"\r\n")
    });
    if done && !late { Ok(heard) } else { Err(format!("heard only {heard:?}").into()) }
}

fn power_cut() -> Outcome {
    power_cut_after(Ok)
}

/// The daemon ended as it was told to, and began again: after that the power is cut.
fn cut_after_restart() -> Outcome {
    power_cut_after(|scene| Ok(scene.restart_daemon()?))
}

fn power_cut_after(
    what: impl FnOnce(Scene) -> Result<Scene, Box<dyn std::error::Error>>,
) -> Outcome {
    let mut scene = scene("")?;
    let mut streams = scene.streams(&mixed(20, 60_000))?;
    assert!(scene.drive(&mut streams, 30));
    let said = save(&scene)?;
    assert!(said.starts_with("saved generation 1: 20 flows"), "{said}");
    let mut scene = what(scene)?;
    assert!(scene.drive(&mut streams, 50));
    let mut scene = scene.cut_power().power_on()?;
    assert_eq!(restored(&scene, "restored")?, 20);
    assert!(scene.drive(&mut streams, 100));
    check_finished(&mut scene, &mut streams);
    // What was counted after the image is gone, and that is told.
    let status = status(&scene)?;
    let cut = &status.0["losses"]["power_cut"];
    assert!(cut["from"].as_u64() > Some(0) && cut["bound"] == "at_least", "{cut}");
    Ok(())
}

/// A sink that nobody reads keeps its records over the reboot, and flows that no rule keeps are
/// reported when they have ended with the boot.
fn owed(fresh: bool) -> Outcome {
    let flash = tempfile::tempdir()?;
    let socket = flash.path().join("records.sock");
    let sink = format!("[[sink]]\ntype = \"unix\"\npath = {socket:?}");
    let mut scene = scene(&sink)?;
    let mut ended = Vec::new();
    for n in 0..5_u16 {
        let flow = scene.lab.hosts.open_udp(path(0, 31_000 + n, 5_000))?;
        scene.lab.hosts.udp_send(&flow, 100)?;
        scene.lab.hosts.close_udp(flow);
        ended.push(path(0, 31_000 + n, 5_000).tuple(board_tests::lab::Proto::Udp));
    }
    scene.lab.router.flush()?;
    wait_for("five records to be owed", || Ok(most_owed(&scene)? == 5))?;
    // One that lives, and that no rule keeps: nobody has answered it.
    let flow = scene.lab.hosts.open_udp(path(1, 31_100, 5_000))?;
    scene.lab.hosts.udp_send(&flow, 100)?;
    ended.push(path(1, 31_100, 5_000).tuple(board_tests::lab::Proto::Udp));
    if fresh {
        save(&scene)?;
    }

    let (off, _) = scene.shut_down()?;
    let scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 0);
    wait_for("six records to be owed", || Ok(most_owed(&scene)? == 6))?;
    let cut = &status(&scene)?.0["losses"]["power_cut"];
    assert!(cut.is_null() || cut["from"].is_null(), "{cut}");
    let lines = unix_lines(&socket, 6)?;
    let told: Vec<Record> =
        lines.iter().map(|line| Record::parse(line)).collect::<Result<_, _>>()?;
    for tuple in &ended {
        let found: Vec<_> = told.iter().filter(|record| record.told.orig == *tuple).collect();
        let [record] = found[..] else { return Err(format!("{tuple}: {found:?}").into()) };
        assert_eq!(record.told.orig_count.map(|count| count.packets), Some(1), "{record:?}");
    }
    let causes: Vec<_> = told.iter().filter_map(|record| record.cause.as_deref()).collect();
    assert_eq!(causes.iter().filter(|cause| **cause == "restart").count(), 1, "{causes:?}");
    Ok(())
}

/// Flows that end between an image and the end of the daemon, with records that are delivered and
/// records that are owed: none is made again or told twice. One of them a rule would keep.
fn ended_since() -> Outcome {
    let flash = tempfile::tempdir()?;
    let socket = flash.path().join("records.sock");
    let mut scene = scene(&format!("[[sink]]\ntype = \"unix\"\npath = {socket:?}"))?;
    let streams = scene.streams(&mixed(8, 40_000))?;
    let flow = scene.lab.hosts.open_udp(path(0, 31_000, 5_000))?;
    scene.lab.hosts.udp_send(&flow, 100)?;
    let said = save(&scene)?;
    assert!(said.starts_with("saved generation 1: 9 flows"), "{said}");
    scene.lab.router.flush()?;
    // Nobody drives the hosts from here on: they say nothing.
    assert_eq!(streams.len(), 8);
    wait_for("nine records to be owed", || Ok(most_owed(&scene)? == 9))?;
    let (off, took) = scene.shut_down()?;
    assert!(took < Duration::from_millis(300), "with a fresh image it took {took:?}");
    let scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 0);
    // What vanished is told when two dumps have missed it; each save makes one.
    for _ in 0..3 {
        save(&scene)?;
    }
    assert_eq!(most_owed(&scene)?, 9);
    let lines = unix_lines(&socket, 9)?;
    let told: Vec<Record> =
        lines.iter().map(|line| Record::parse(line)).collect::<Result<_, _>>()?;
    let keys: HashSet<_> = told.iter().filter_map(|record| record.key.as_ref()).collect();
    assert_eq!(keys.len(), 9, "{lines:?}");
    Ok(())
}

/// Eight downloads through a reboot, with a default route after it.
fn with_default_route(change: &str) -> Result<(Scene, Vec<Stream>), Box<dyn std::error::Error>> {
    let mut scene = scene("address_grace_s = 1")?;
    let mut streams = scene.streams(&mixed(8, 40_000))?;
    assert!(scene.drive(&mut streams, 30));
    let (off, _) = scene.shut_down()?;
    let scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 8);
    let netns = scene.lab.router.netns();
    ip(netns, "addr del 198.51.100.1/24 dev wan0")?;
    for command in change.split(';') {
        ip(netns, command)?;
    }
    ip(netns, "route add default dev wan0")?;
    Ok((scene, streams))
}

fn address_gone() -> Outcome {
    let (mut scene, _) = with_default_route("addr add 198.51.100.77/24 dev wan0")?;
    wait_for("flows to be deleted", || Ok(restored(&scene, "deleted_address")? > 0))?;
    assert_eq!(restored(&scene, "deleted_address")?, 4, "those of IPv4");
    let left = scene.lab.router.dump()?;
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|entry| entry.orig.src.is_ipv6()));
    Ok(())
}

fn address_comes_back() -> Outcome {
    let change = "addr add 198.51.100.1/24 dev wan0";
    let (mut scene, mut streams) = with_default_route(change)?;
    // The neighbours of the link went with the address; the lab has no other way to find them.
    for n in 2..6 {
        let words =
            format!("neigh replace 198.51.100.{n} lladdr 02:48:02:00:00:0{} dev wan0", n - 2);
        ip(scene.lab.router.netns(), &words)?;
    }
    assert!(scene.drive(&mut streams, 100));
    check_finished(&mut scene, &mut streams);
    wait_for("a look at the addresses", || Ok(restored(&scene, "address_checks")? > 0))?;
    assert_eq!(restored(&scene, "deleted_address")?, 0);
    Ok(())
}

fn sigterms() -> Outcome {
    let mut scene = scene("")?;
    let mut streams = scene.streams(&mixed(20, 60_000))?;
    assert!(scene.drive(&mut streams, 30));
    save(&scene)?;
    let (off, took) = scene.shut_down()?;
    assert!(took < Duration::from_millis(300), "with a fresh image it took {took:?}");
    let mut scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 20);
    assert!(scene.drive(&mut streams, 60));
    // As procd does: once, and once more in the middle of the save.
    let pid = scene.daemon.process().pid();
    for _ in 0..3 {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    }
    let (off, _) = scene.shut_down()?;
    let mut scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 20);
    assert!(scene.drive(&mut streams, 100));
    check_finished(&mut scene, &mut streams);
    Ok(())
}

fn damaged() -> Outcome {
    let mut scene = scene("")?;
    let mut streams = scene.streams(&mixed(20, 60_000))?;
    assert!(scene.drive(&mut streams, 30));
    for generation in 1..=2 {
        let said = save(&scene)?;
        assert!(said.starts_with(&format!("saved generation {generation}: 20 flows")), "{said}");
    }
    assert_eq!(status(&scene)?.number("allocations_since_ready"), 0, "a save takes no memory");
    let off = scene.cut_power();
    let newest = outlast::newest_image(off.flash())?;
    let mut image = std::fs::read(&newest)?;
    let middle = image.len() / 2;
    image[middle] ^= 1;
    std::fs::write(&newest, image)?;
    let mut scene = off.power_on()?;
    assert_eq!(restored(&scene, "images_refused")?, 1);
    assert_eq!(restored(&scene, "restored")?, 20);
    assert!(scene.drive(&mut streams, 100));
    check_finished(&mut scene, &mut streams);
    Ok(())
}

/// The daemon's clock is behind after the reboot, as on a board without one, and is set then.
fn clock_set() -> Outcome {
    let clock = tempfile::tempdir()?;
    let file = clock.path().join("offset");
    let set = |offset: &str| std::fs::write(&file, offset);
    let library = faketime()?;
    let setup = Setup {
        checkpoint: "keep = [\"all\"]\ntimeout_cap_s = 50".to_owned(),
        environment: [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    };
    set("-2000")?;
    let mut scene = Scene::new(LAB, &daemon::binary()?, &setup)?;
    set("+0")?;
    // A connection that says nothing more, one that does, and a datagram that nobody answered.
    let _idle = scene.lab.hosts.open_tcp(path(0, 32_000, 80))?;
    let busy = scene.lab.hosts.open_tcp(path(1, 32_001, 80))?;
    let udp = scene.lab.hosts.open_udp(path(2, 32_002, 5_000))?;
    scene.lab.hosts.udp_send(&udp, 100)?;
    let (off, _) = scene.shut_down()?;
    set("-2000")?;
    let mut scene = off.power_on()?;
    assert_eq!(restored(&scene, "restored")?, 3);
    heard(&mut scene, &busy, Side::Lan, b"still there\r\n")?;
    let timeouts = |scene: &Scene| -> std::io::Result<Vec<(u16, u32)>> {
        let table = tool::conntrack(scene.lab.router.netns(), &["-L"])?;
        let number = |line: &str| line.split_whitespace().nth(2)?.parse().ok();
        let port = |line: &str| line.split("sport=").nth(1)?.split(' ').next()?.parse().ok();
        Ok(table.lines().filter_map(|line| Some((port(line)?, number(line)?))).collect())
    };
    let capped = timeouts(&scene)?;
    assert!(capped.iter().any(|&(port, left_s)| port == 32_000 && left_s <= 50), "{capped:?}");
    // The reboot took 100 seconds, says the clock once it is set.
    set("+100")?;
    wait_for("the correction", || Ok(restored(&scene, "clock_dropped")? > 0))?;
    assert_eq!(restored(&scene, "clock_dropped")?, 1, "the datagram's");
    assert_eq!(restored(&scene, "clock_corrected")?, 1, "the connection that says nothing");
    let left = timeouts(&scene)?;
    let of = |wanted| left.iter().find(|(port, _)| *port == wanted).map(|(_, left_s)| *left_s);
    let idle = of(32_000).ok_or("the idle connection is gone")?;
    assert!((431_800..=431_901).contains(&idle), "432000 s less some 100: {idle}");
    assert!(of(32_001) > Some(431_900), "its packets have set it: {left:?}");
    assert_eq!(of(32_002), None, "it had timed out");
    Ok(())
}

/// The first lines of a unix sink.
fn unix_lines(socket: &std::path::Path, count: usize) -> std::io::Result<Vec<String>> {
    use std::io::BufRead as _;
    let lines = std::io::BufReader::new(client::connect(socket)?).lines();
    lines.take(count).collect()
}

/// The library that shows a program another time.
fn faketime() -> Result<String, Box<dyn std::error::Error>> {
    let library = std::fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.is_file());
    let library = library.ok_or("libfaketime is missing: apt-get install faketime")?;
    Ok(library.to_string_lossy().into_owned())
}
