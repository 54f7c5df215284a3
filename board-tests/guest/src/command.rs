//! The commands of the channel.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use board_guest::channel::{Said, from_hex, to_hex};
use board_guest::error::{Context, LabError};
use board_guest::netlink::{ACKED, Netlink, Request};
use board_guest::nft;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::SockProtocol;

use crate::reaper::End;
use crate::service::PROGRAM;
use crate::{Router, network, shutdown};

/// How long the daemon's command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a file in one line.
const PART: usize = 512;

/// What a command answers.
type Answer = Result<Vec<String>, String>;

/// Serves them on a thread of its own.
pub(crate) fn serve(router: &Arc<Router>) -> Result<(), LabError> {
    let reader = router.talk.reader().context("opening the channel")?;
    let router = Arc::clone(router);
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let done = answer(&router, line.trim_end()).map(|lines| {
                lines.into_iter().for_each(|line| router.talk.say(&Said::Line(line)));
            });
            router.talk.say(&Said::Done(done));
        }
    });
    Ok(())
}

fn answer(router: &Router, line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["ctd", words @ ..] => ctd(router, words),
        ["cat", path] => Ok(text(&fs::read(path).map_err(in_words)?)),
        ["get", path] => Ok(fs::read(path).map_err(in_words)?.chunks(PART).map(to_hex).collect()),
        ["put", path, hex] => put(Path::new(path), hex),
        ["remove", path] => fs::remove_file(path).map(|()| Vec::new()).map_err(in_words),
        ["list", path] => list(Path::new(path)),
        ["sysctl", key, value] => done(network::set(key, value)),
        ["flush"] => done(flush()),
        ["processes"] => processes(router),
        ["kernel"] => kernel_log().map_err(in_words),
        ["start"] => done(router.service.start()),
        ["stop"] => stop(router),
        ["signal", name] => signal(router, name),
        ["reboot", how @ ..] => {
            router.talk.event("shutdown 0 ms: begins");
            shutdown::now(router, how == ["forget"]);
            Err("the kernel did not reboot".to_owned())
        }
        _ => Err(format!("no such command: {line}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn in_words(error: std::io::Error) -> String {
    error.to_string()
}

fn done(result: Result<(), LabError>) -> Answer {
    result.map(|()| Vec::new()).map_err(|error| error.to_string())
}

fn text(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

fn ctd(router: &Router, words: &[&str]) -> Answer {
    let ran = router.reaper.output(Command::new(PROGRAM).args(words), LIMIT).map_err(in_words)?;
    match ran {
        (said, Some(End::Exit(0))) => Ok(text(said.as_bytes())),
        (said, Some(end)) => Err(format!("{end}: {said}")),
        (said, None) => Err(format!("it took too long: {said}")),
    }
}

fn put(path: &Path, hex: &str) -> Answer {
    let bytes = from_hex(hex).ok_or("no hexadecimal digits")?;
    fs::write(path, bytes).map_err(in_words)?;
    nix::unistd::sync();
    Ok(Vec::new())
}

fn list(path: &Path) -> Answer {
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok(format!("{} {}", entry.file_name().display(), entry.metadata()?.len()))
    };
    fs::read_dir(path).and_then(|entries| entries.map(of).collect()).map_err(in_words)
}

/// Has the kernel end every flow, each with its event.
fn flush() -> Result<(), LabError> {
    const DELETE: u16 = 1 << 8 | 2;
    let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter, 0)?;
    let mut request = Request::default();
    request.message(DELETE, ACKED, &nft::header(0, 0));
    netlink.ack(&request, "ending every flow")
}

/// Each process of the daemon: its id, and its lines of `smaps_rollup`.
fn processes(router: &Router) -> Answer {
    let first = router.service.pid().ok_or("the daemon does not run")?.as_raw();
    let entries = fs::read_dir("/proc").map_err(in_words)?.flatten();
    let mut lines = Vec::new();
    for pid in entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok()) {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| {
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<i32>().ok()
        });
        if pid == first || parent == Some(first) {
            let rollup = fs::read(format!("/proc/{pid}/smaps_rollup")).map_err(in_words)?;
            lines.extend(text(&rollup).iter().map(|line| format!("{pid} {line}")));
        }
    }
    Ok(lines)
}

/// What the kernel has logged since the boot.
fn kernel_log() -> std::io::Result<Vec<String>> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
    let (mut lines, mut record) = (Vec::new(), [0; 8192]);
    loop {
        match file.read(&mut record) {
            Ok(length) => lines.extend(text(record.get(..length).unwrap_or_default())),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(lines),
            // Records were overwritten meanwhile; the next read goes on after them.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(error),
        }
    }
}

fn stop(router: &Router) -> Answer {
    let end = router.service.stop(Duration::from_secs(10)).ok_or("it has not ended")?;
    Ok(vec![end.to_string()])
}

/// Sends the daemon's first process a signal.
fn signal(router: &Router, name: &str) -> Answer {
    let signal: Signal = name.parse().map_err(|_| format!("no such signal: {name}"))?;
    let pid = router.service.pid().ok_or("the daemon does not run")?;
    kill(pid, signal).map_err(|error| error.to_string())?;
    Ok(Vec::new())
}
