//! What comes from outside to do harm: clients, netlink messages of others, configurations,
//! signals, and what happens to the sink's file.

mod harness;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use board_tests::daemon::sink::rotated;
use board_tests::daemon::{
    Account, Scene, Settings, Status, Tested, binary, client, complete, mounts, netlink, tool,
};
use board_tests::lab::Netns;
use board_tests::load::{Flows, Loader};
use board_tests::measure;
use board_tests::peers::bench;
use harness::Outcome;
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("clients_that_hang_or_lie_stall_nothing", hostile_clients),
        Trial::test("too_many_clients_are_refused_with_a_message", too_many_clients),
        Trial::test("messages_of_others_are_refused", foreign_messages),
        Trial::test("wrong_configurations_are_told_by_line", wrong_configurations),
        Trial::test("reload_takes_what_is_right_and_keeps_what_was", reload),
        Trial::test("signals_end_it_and_nothing_stays_behind", signals),
        Trial::test("a_second_daemon_on_the_same_socket_is_refused", second_daemon),
        Trial::test("killed_and_started_again", killed_and_started_again),
        Trial::test("a_start_that_fails_after_a_kill_ends", failed_start_after_a_kill),
        Trial::test("a_full_disk_holds_records_back", full_disk),
        Trial::test("a_read_only_disk_is_overcome", read_only_disk),
        Trial::test("a_missing_directory_is_made", missing_directory),
        Trial::test("a_file_renamed_or_removed_is_opened_anew", renamed_and_removed),
        Trial::test("rotation_is_bounded_and_between_lines", rotation),
        Trial::test("a_torn_line_is_cut_off_at_start", torn_line),
    ])
}

// --- clients -------------------------------------------------------------------------------------

/// The longest that a status may take while others misbehave, on a machine that is busy.
const LATENCY: Duration = Duration::from_secs(2);

/// Asks for the status again and again until told to stop; the longest wait.
fn longest_answer(socket: &Path, stop: &AtomicBool) -> io::Result<Duration> {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begin = measure::now();
        client::status(socket)?;
        longest = longest.max(begin.elapsed());
        measure::pause(10);
    }
    Ok(longest)
}

/// A client that says this and then nothing.
fn say(socket: &Path, bytes: &[u8]) -> io::Result<UnixStream> {
    let mut stream = client::connect(socket)?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Everything until the daemon closes, and how long that took.
fn until_closed(mut stream: UnixStream) -> io::Result<(String, Duration)> {
    let begin = measure::now();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What it closed on without reading it all.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => drop(other?),
    }
    Ok((String::from_utf8_lossy(&answer).into_owned(), begin.elapsed()))
}

/// Reads a byte a second until the daemon closes or 16 seconds have passed.
fn sip(mut stream: UnixStream) -> io::Result<()> {
    let begin = measure::now();
    let mut byte = [0];
    while begin.elapsed() < Duration::from_secs(16) && stream.read(&mut byte)? > 0 {
        measure::pause(1000);
    }
    Ok(())
}

/// What a client was told until it was closed, and after how long.
type Told = (String, Duration);

/// What the clients of [`hostile_clients`] saw.
struct Seen {
    /// Who said nothing, and who said half a line.
    silent: [Told; 2],
    /// Who said what cannot be understood.
    confused: [Told; 2],
}

fn misbehave(socket: &Path) -> io::Result<Seen> {
    let events: Vec<UnixStream> =
        (0..3).map(|_| say(socket, b"events json\n")).collect::<io::Result<_>>()?;
    let noisy = say(socket, b"events text\nand more that nobody asked for\n")?;
    let flows = say(socket, b"flows json all\n")?;
    let (nothing, half) = (say(socket, b"")?, say(socket, b"stat")?);
    let garbage = until_closed(say(socket, b"\x00\xff\xfe{}\r\n\n\n")?)?;
    let endless = until_closed(say(socket, &[b'x'; 10_240])?)?;
    let silent = std::thread::scope(|scope| {
        let waiting = [nothing, half].map(|client| scope.spawn(|| until_closed(client)));
        sip(flows)?;
        let told =
            waiting.map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panic"))));
        let [nothing, half] = told;
        Ok::<_, io::Error>([nothing?, half?])
    })?;
    drop((events, noisy));
    Ok(Seen { silent, confused: [garbage, endless] })
}

fn hostile_clients() -> Outcome {
    const LIVE: u32 = 5_000;
    let mut scene = Scene::new(&Settings { clients: 16, ..Settings::default() })?;
    let live = Flows { zone: 2, ..Flows::default() };
    complete(&scene.loader.create(&live, 0..LIVE, 1000)?)?;
    let (socket, stop) = (scene.tested.daemon.socket(), AtomicBool::new(false));
    let mut loader = bench::loader(&scene.netns)?;
    let (made, longest, seen) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| steady_flood(&mut loader, &stop));
        let latency = scope.spawn(|| longest_answer(&socket, &stop));
        let seen = misbehave(&socket);
        stop.store(true, Ordering::Relaxed);
        let panicked = || io::Error::other("panic");
        let made = flood.join().unwrap_or_else(|_| Err(panicked()));
        (made, latency.join().unwrap_or_else(|_| Err(panicked())), seen)
    });
    let (made, longest, seen) = (made?, longest?, seen?);
    assert!(longest < LATENCY, "a status took {longest:?}");
    for (said, took) in seen.silent {
        assert_eq!(said, "", "nothing was asked");
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    }
    for (said, took) in seen.confused {
        assert!(said.starts_with("error 64 ") && said.ends_with('\n'), "{said:?}");
        assert!(took < LATENCY, "{took:?}");
    }
    let status = scene.rest(LIVE)?;
    assert!(status.ledger("clients_behind") > 0, "who does not read misses lines");
    let losses = status.losses();
    assert!(losses.iter().all(|(name, _)| name == "clients_behind"), "{losses:?}");
    assert_eq!((status.number("clients"), status.number("allocations_since_ready")), (1, 0));
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys()), (made as usize, made as usize));
    Ok(())
}

/// Creates and deletes 1,000 flows at a time until told to stop; how many.
fn steady_flood(loader: &mut Loader, stop: &AtomicBool) -> io::Result<u32> {
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        complete(&loader.churn(&Flows::default(), made..made + 1000, 500)?)?;
        made += 1000;
        measure::pause(50);
    }
    Ok(made)
}

fn too_many_clients() -> Outcome {
    let scene = Scene::new(&Settings::default())?;
    let socket = scene.tested.daemon.socket();
    let admitted: Vec<UnixStream> =
        (0..8).map(|_| client::connect(&socket)).collect::<io::Result<_>>()?;
    let refused: Vec<UnixStream> =
        (0..42).map(|_| client::connect(&socket)).collect::<io::Result<_>>()?;
    for stream in refused {
        let (said, _) = until_closed(stream)?;
        assert!(said.starts_with("error 69 too many clients"), "{said:?}");
    }
    for arguments in [&["status"][..], &["flows", "--json"], &["events"]] {
        let output = scene.tested.daemon.client(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {said}");
        assert!(said.contains("too many clients") && said.lines().count() == 1, "{said}");
    }
    drop(admitted);
    let status = measure::wait_for("a place", 10, || Ok(scene.tested.status().ok()))?;
    assert!(status.number("clients_refused") >= 45);
    Ok(())
}

// --- netlink -------------------------------------------------------------------------------------

/// Events and answers forged by another process are counted and change nothing.
fn foreign_messages() -> Outcome {
    let mut scene = Scene::new(&Settings { refresh_s: 1, ..Settings::default() })?;
    complete(&scene.loader.create(&Flows::default(), 0..10, 10)?)?;
    scene.rest(10)?;
    let ports = netlink::ports_of(scene.tested.worker()?)?;
    assert_eq!(ports.len(), 3, "two event sockets and one for requests");
    let forged = netlink::forged(&Flows::default().orig(3));
    let mut sent = 0;
    for _ in 0..100 {
        for &port in &ports {
            for message in &forged {
                sent += u64::from(netlink::send_to(&scene.netns, port, message)?);
            }
        }
    }
    assert!(sent > 500, "they arrived");
    let all = |status: &Status| status.stat("foreign_messages") >= sent;
    let status = scene.tested.wait("the messages to be refused", 20, all)?;
    assert_eq!((status.stat("foreign_messages"), status.flows()), (sent, 10));
    let dumps = status.stat("dumps");
    let status = scene.tested.wait("dumps to go on", 20, |s| s.stat("dumps") > dumps + 1)?;
    assert_eq!((status.losses(), status.flows(), status.stat("events_destroy")), (vec![], 10, 0));
    assert_eq!(scene.tested.account()?.lines.len(), 0);
    // Full to the brim, none of its sockets ends it.
    for &port in &ports {
        for _ in 0..5_000 {
            if !netlink::send_to(&scene.netns, port, &forged[3])? {
                break;
            }
        }
    }
    let dumps = status.stat("dumps");
    let status = scene.tested.wait("dumps to go on", 20, |s| s.stat("dumps") > dumps + 1)?;
    assert_eq!((status.losses(), status.flows()), (vec![], 10));
    Ok(())
}

// --- configurations and signals ------------------------------------------------------------------

/// Runs the daemon with this configuration file to its end, which must come by itself.
fn run_to_end(netns: &Netns, config: &Path) -> io::Result<Output> {
    let arguments = ["run", "-c", config.to_str().unwrap_or_default()];
    let mut command = tool::command(netns, &binary()?, &arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ended = measure::wait_for("the daemon to refuse", 20, || Ok(child.try_wait()?.map(drop)));
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended.map(|()| output)
}

/// Configurations, the lines that must be told, and a word of each message.
const WRONG: &[(&str, &[(u32, &str)])] = &[
    ("[table]\ncapacity = 15\n", &[(2, "16")]),
    ("[table]\ncapacity = 4194305\n", &[(2, "4194304")]),
    ("[table]\ncapacity = -1\n", &[(2, "capacity")]),
    ("[table]\ncapacity = \"many\"\n", &[(2, "capacity")]),
    ("[table]\ncapasity = 64\n", &[(2, "capacity")]),
    ("[tabel]\ncapacity = 64\n", &[(1, "table")]),
    ("[events]\nreceive_buffer = \"12 parsecs\"\n", &[(2, "receive_buffer")]),
    ("[events]\ngroups = [\"new\", \"old\"]\n", &[(2, "old")]),
    ("[control]\nsocket = \"relative.sock\"\n", &[(2, "socket")]),
    ("[[sink]]\ntype = \"carrier-pigeon\"\n", &[(2, "type")]),
    ("[[sink]]\npath = \"/tmp/x\"\n", &[(1, "type")]),
    ("[console]\nbaud = 9600\n", &[(1, "console")]),
    ("[table\ncapacity = 64\n", &[(1, "")]),
    ("[table]\ncapacity = 64\ncapacity = 65\n", &[(3, "capacity")]),
    (
        "[table]\nrefresh_s = 0\n\n[events]\ncoalesce_ms = 1000\nremember = true\n",
        &[(2, "refresh_s"), (5, "coalesce_ms"), (6, "remember")],
    ),
];

fn wrong_configurations() -> Outcome {
    let netns = Netns::new()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("wrong.toml");
    for (text, faults) in WRONG {
        fs::write(&file, text)?;
        let output = run_to_end(&netns, &file)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{text}\n{said}");
        for (line, word) in *faults {
            let head = format!("{}:{line}: ", file.display());
            let told = said.lines().any(|it| it.starts_with(&head) && it.contains(word));
            assert!(told, "{head}…{word} in\n{said}");
        }
        assert_eq!(said.lines().count(), faults.len(), "one line each:\n{said}");
    }
    fs::write(&file, [0xff, 0xfe, 0, b'\n', b'['])?;
    assert_eq!(run_to_end(&netns, &file)?.status.code(), Some(78), "no text at all");
    fs::write(&file, "[table]\n".repeat(100_000))?;
    assert_eq!(run_to_end(&netns, &file)?.status.code(), Some(78), "800 KB");
    for unreadable in [directory.path().to_owned(), PathBuf::from("/nowhere/at/all.toml")] {
        let output = run_to_end(&netns, &unreadable)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(&unreadable.display().to_string()), "{said}");
    }
    Ok(())
}

fn reload() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let config = scene.tested.daemon.config();
    let old = fs::read_to_string(&config)?;
    let dumps = |status: &Status| status.stat("dumps");
    let first = scene.tested.wait("the first dump", 20, |status| dumps(status) > 0)?;
    // A wrong one: told by line, and everything stays.
    fs::write(&config, format!("{old}\n[events]\nreliable = 7\n"))?;
    scene.tested.signal(Signal::SIGHUP)?;
    let line = format!("firmware-ctd.toml:{}: ", old.lines().count() + 2);
    assert!(scene.tested.daemon.wait_for_log(&line, LATENCY), "{}", scene.tested.log());
    assert!(scene.tested.daemon.wait_for_log("the old one stays", LATENCY));
    // None at all.
    fs::remove_file(&config)?;
    scene.tested.signal(Signal::SIGHUP)?;
    assert!(scene.tested.daemon.wait_for_log("No such file", LATENCY), "{}", scene.tested.log());
    scene.churn(&Flows::default(), 100, 100)?;
    assert_eq!(dumps(&scene.rest(0)?), dumps(&first), "no dump is due for a minute");
    // A right one: what can be applied is, what cannot is told.
    let new = old
        .replace("refresh_s = 60", "refresh_s = 1")
        .replace("capacity = 16384", "capacity = 32768")
        .replace(&format!("max_bytes = {}", 1 << 30), "max_bytes = 40000");
    assert_ne!(new, old);
    fs::write(&config, new)?;
    scene.tested.signal(Signal::SIGHUP)?;
    assert!(scene.tested.daemon.wait_for_log("configuration read again", LATENCY));
    assert!(scene.tested.daemon.wait_for_log("table.capacity has changed", LATENCY));
    let more = dumps(&first) + 2;
    scene.tested.wait("dumps each second", 20, |status| dumps(status) >= more)?;
    scene.churn(&Flows::default(), 500, 500)?;
    let status = scene.rest(0)?;
    assert_eq!((status.number("table_capacity"), status.sink("delivered")), (16_384, 600));
    let sink = scene.tested.sink();
    let sizes = [fs::metadata(&sink)?.len(), fs::metadata(rotated(&sink))?.len()];
    assert!(sizes[0] <= 40_000, "{sizes:?}");
    assert_eq!((status.losses(), status.number("allocations_since_ready")), (vec![], 0));
    assert!(status.number("reload_allocations") > 0, "counted apart");
    Ok(())
}

fn signals() -> Outcome {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut scene = Scene::new(&Settings::default())?;
        let (sink, socket) = (scene.tested.sink(), scene.tested.daemon.socket());
        let directory = scene.tested.directory();
        assert!(socket.exists());
        scene.churn(&Flows::default(), 200, 200)?;
        scene.tested.signal(signal)?;
        let end = scene.tested.daemon.process().wait(Duration::from_secs(10))?;
        assert_eq!(end.and_then(|status| status.code()), Some(0), "{signal}");
        assert!(!socket.exists(), "the socket is gone");
        // What the kernel had told by then is written.
        assert_eq!(Account::read(&sink)?.keys(), 200, "{signal}");
        drop(directory);
    }
    Ok(())
}

fn second_daemon() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let output = run_to_end(&scene.netns, &scene.tested.daemon.config())?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("another daemon answers there"), "{said}");
    scene.churn(&Flows::default(), 100, 100)?;
    scene.rest(0)?;
    assert_eq!(scene.tested.account()?.keys(), 100);
    // A file that is no socket is not taken away either.
    let precious = scene.tested.daemon.directory().join("precious");
    fs::write(&precious, "mine")?;
    let text = Settings::default().toml(Path::new("/nowhere"));
    let text = text.replace("/nowhere/ctd.sock", precious.to_str().unwrap_or_default());
    let config = scene.tested.daemon.directory().join("other.toml");
    fs::write(
        &config,
        text.replace("/nowhere", scene.tested.daemon.directory().to_str().unwrap_or_default()),
    )?;
    assert_eq!(run_to_end(&scene.netns, &config)?.status.code(), Some(69));
    assert_eq!(fs::read_to_string(&precious)?, "mine");
    Ok(())
}

/// Its socket is replaced, its file goes on, and the table is learnt again.
fn killed_and_started_again() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    complete(&scene.loader.create(&Flows::default(), 0..300, 300)?)?;
    complete(&scene.loader.delete(&Flows::default(), 0..100, 100)?)?;
    scene.rest(200)?;
    let directory = scene.tested.directory();
    scene.tested.signal(Signal::SIGKILL)?;
    scene.tested.daemon.process().wait(Duration::from_secs(10))?;
    assert!(scene.tested.daemon.socket().exists(), "a dead daemon leaves its socket");
    scene.tested = Tested::start_at(&scene.netns, &Settings::default(), directory)?;
    scene.tested.wait("the table to be learnt", 20, |status| status.flows() == 200)?;
    complete(&scene.loader.delete(&Flows::default(), 100..300, 100)?)?;
    scene.rest(0)?;
    let account = scene.tested.account()?;
    assert_eq!((account.lines.len(), account.keys(), account.weak()), (300, 300, 0));
    Ok(())
}

/// That a daemon before it was ready does not make it try for ever.
fn failed_start_after_a_kill() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    scene.tested.signal(Signal::SIGKILL)?;
    scene.tested.daemon.process().wait(Duration::from_secs(10))?;
    let socket = scene.tested.daemon.socket();
    fs::remove_file(&socket)?;
    fs::write(&socket, "mine")?;
    let output = run_to_end(&scene.netns, &scene.tested.daemon.config())?;
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(&socket)?, "mine");
    Ok(())
}

// --- the sink's file -----------------------------------------------------------------------------

/// A scene whose sink lies in `disk` below a directory of its own, which `prepare` may mount.
fn scene_with_disk(
    settings: &Settings,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Scene> {
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    fs::create_dir(&disk)?;
    prepare(&disk)?;
    let (netns, loader) = bench::place()?;
    let settings = Settings { sink: "disk/flows.jsonl".into(), ..settings.clone() };
    let tested = Tested::start_at(&netns, &settings, directory.into())?;
    Ok(Scene { netns, loader, tested })
}

/// Records are kept back while the disk is full, then refused and counted; nothing is torn.
fn full_disk() -> Outcome {
    mounts::privately(|| {
        let mut scene = scene_with_disk(&Settings::default(), |disk| {
            mounts::tmpfs(disk, 4 << 20)?;
            fs::write(disk.join("filler"), vec![0; 4032 << 10])
        })?;
        // More than the queue holds: the kernel keeps the rest.
        scene.churn(&Flows::default(), 3000, 1000)?;
        let full = |status: &Status| {
            status.sink("errno") == libc_enospc() && status.number("pressure") == 1
        };
        scene.tested.wait("the disk to be full, and destroys to be held", 20, full)?;
        let begin = measure::now();
        while begin.elapsed() < Duration::from_secs(10) {
            measure::pause(200);
            // Nothing torn at any time: each read fails on a torn last line.
            scene.tested.account()?;
        }
        fs::remove_file(scene.tested.sink().with_file_name("filler"))?;
        let status = scene.tested.wait("all to be written", 60, |s| s.sink("delivered") == 3000)?;
        assert_eq!((status.sink("owed"), status.sink("errno")), (0, 0));
        assert_eq!(status.number("lost_records"), 0);
        assert_eq!(status.number("allocations_since_ready"), 0);
        let account = scene.tested.account()?;
        assert_eq!((account.lines.len(), account.keys()), (3000, 3000));
        let log = scene.tested.log();
        assert!(log.contains("No space left") && log.contains("writing again"), "{log}");
        scene.churn(&Flows::default(), 10, 10)?;
        assert_eq!(scene.rest(0)?.sink("delivered"), 3010);
        Ok(())
    })?;
    Ok(())
}

const fn libc_enospc() -> u64 {
    nix::errno::Errno::ENOSPC as u64
}

fn remount(disk: &Path, flags: MsFlags) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(none, disk, none, MsFlags::MS_REMOUNT | flags, none)?)
}

/// The file cannot even be opened; what fits into the buffer is not lost.
fn read_only_disk() -> Outcome {
    mounts::privately(|| {
        let mut scene = scene_with_disk(&Settings::default(), |disk| {
            mounts::tmpfs(disk, 1 << 20)?;
            remount(disk, MsFlags::MS_RDONLY)
        })?;
        scene.churn(&Flows::default(), 50, 50)?;
        let enough = |status: &Status| status.sink("owed") == 50 && status.sink("failures") > 1;
        let status = scene.tested.wait("another attempt", 20, enough)?;
        assert_eq!(status.sink("errno"), nix::errno::Errno::EROFS as u64);
        let disk = scene.tested.sink();
        remount(disk.parent().unwrap_or(&disk), MsFlags::empty())?;
        scene.tested.wait("the records to be written", 20, |s| s.sink("owed") == 0)?;
        assert_eq!(scene.tested.account()?.keys(), 50);
        Ok(())
    })?;
    Ok(())
}

fn missing_directory() -> Outcome {
    let settings = Settings { sink: "not/there/yet/flows.jsonl".into(), ..Settings::default() };
    let mut scene = Scene::new(&settings)?;
    scene.churn(&Flows::default(), 50, 50)?;
    scene.rest(0)?;
    assert_eq!(scene.tested.account()?.keys(), 50);
    // Taken away under it, directory and all.
    fs::remove_dir_all(scene.tested.daemon.directory().join("not"))?;
    let log = "removed or replaced";
    assert!(
        scene.tested.daemon.wait_for_log(log, Duration::from_secs(10)),
        "{}",
        scene.tested.log()
    );
    scene.churn(&Flows::default(), 50, 50)?;
    scene.rest(0)?;
    assert_eq!(scene.tested.account()?.keys(), 50);
    Ok(())
}

fn renamed_and_removed() -> Outcome {
    let mut scene = Scene::new(&Settings::default())?;
    let sink = scene.tested.sink();
    let moved = sink.with_file_name("moved");
    for round in 1..=2_usize {
        scene.churn(&Flows::default(), 100, 100)?;
        scene.rest(0)?;
        assert_eq!(scene.tested.account()?.keys(), 100, "round {round}");
        if round == 1 {
            fs::rename(&sink, &moved)?;
            let log = "removed or replaced";
            let told = scene.tested.daemon.wait_for_log(log, Duration::from_secs(10));
            assert!(told, "{}", scene.tested.log());
        }
    }
    assert_eq!(Account::read(&moved)?.keys(), 100);
    // A file that another program put there is gone on with.
    fs::write(&sink, "")?;
    scene.churn(&Flows::default(), 100, 100)?;
    assert_eq!(scene.rest(0)?.sink("delivered"), 300);
    Ok(())
}

/// At most twice the size is on disk at any time, and whatever is there is whole lines.
fn rotation() -> Outcome {
    const MAX: u64 = 64 << 10;
    let mut scene = Scene::new(&Settings { max_bytes: MAX, ..Settings::default() })?;
    let sink = scene.tested.sink();
    let size = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
    for round in 0..40 {
        complete(&scene.loader.churn(&Flows::default(), round * 100..(round + 1) * 100, 100)?)?;
        let sizes = (size(&sink), size(&rotated(&sink)));
        assert!(sizes.0 <= MAX && sizes.1 <= MAX, "{sizes:?}");
    }
    let status = scene.rest(0)?;
    assert_eq!((status.sink("delivered"), status.losses()), (4000, vec![]));
    let account = scene.tested.account()?;
    let kept = account.lines.len();
    assert!(kept as u64 * 300 > MAX && account.keys() == kept, "{kept} lines are still there");
    // The newest are kept: the last flow made is the last line's.
    let files = fs::read_dir(scene.tested.daemon.directory())?.flatten();
    let names: Vec<_> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("flows.jsonl")).count(), 2, "{names:?}");
    let ports: Vec<u64> =
        account.lines.iter().filter_map(|line| line["orig"]["sport"].as_u64()).collect();
    let first = u64::from(ports.iter().min().is_some_and(|least| *least > 1024 + 3000));
    assert_eq!(first, 1, "old ones are gone, none between is: {:?}", ports.iter().min());
    Ok(())
}

fn torn_line() -> Outcome {
    let directory = tempfile::tempdir()?;
    let sink = directory.path().join("flows.jsonl");
    let whole = "{\"type\":\"destroy\",\"key\":\"0000000000000001\"}\n";
    fs::write(&sink, format!("{whole}{{\"type\":\"destroy\",\"key\":\"00000"))?;
    let (netns, loader) = bench::place()?;
    let tested = Tested::start_at(&netns, &Settings::default(), directory.into())?;
    let mut scene = Scene { netns, loader, tested };
    assert!(
        scene.tested.log().contains("cut off 30 bytes of a torn line"),
        "{}",
        scene.tested.log()
    );
    scene.churn(&Flows::default(), 20, 20)?;
    scene.rest(0)?;
    assert_eq!(scene.tested.account()?.keys(), 21);
    assert!(fs::read_to_string(&sink)?.starts_with(whole));
    Ok(())
}
