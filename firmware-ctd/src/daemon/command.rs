//! The commands that ask a running daemon, or the kernel: thin clients of the control socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::output::{print, to_output};
use super::selftest::{self, Finding};
use crate::cli::Format;
use crate::engine::EventPath;
use crate::exit;

/// The command `status`; returns the exit code.
#[must_use]
pub fn status(socket: &Path, format: Format) -> u8 {
    ask(
        socket,
        match format {
            Format::Text => "status text\n",
            Format::Json => "status json\n",
            Format::Prometheus => "status prometheus\n",
        },
    )
}

/// The command `flows`; returns the exit code.
#[must_use]
pub fn flows(socket: &Path, json: bool, all: bool, filter: &[String]) -> u8 {
    let mut question = String::from(if json { "flows json" } else { "flows text" });
    for word in all.then_some("all").into_iter().chain(filter.iter().map(String::as_str)) {
        question.push(' ');
        question.push_str(word);
    }
    question.push('\n');
    ask(socket, &question)
}

/// The command `events`; returns the exit code.
#[must_use]
pub fn events(socket: &Path, json: bool) -> u8 {
    ask(socket, if json { "events json\n" } else { "events text\n" })
}

/// The command `checkpoint save`; returns the exit code.
#[must_use]
pub fn save(socket: &Path, wait_s: u16) -> u8 {
    ask(socket, &format!("save {wait_s}\n"))
}

/// Asks the daemon and prints what it answers.
fn ask(socket: &Path, question: &str) -> u8 {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return unreachable_daemon(socket, &error),
    };
    match converse(stream, question) {
        Ok(code) => code,
        Err(error) => fail(exit::IO, &format!("the daemon's answer broke off: {error}")),
    }
}

fn converse(mut stream: UnixStream, question: &str) -> io::Result<u8> {
    // A daemon that has refused us has closed its end already; its word is still to be read.
    let asked = stream.write_all(question.as_bytes());
    let mut answer = BufReader::new(stream);
    let mut first = String::new();
    answer.read_line(&mut first)?;
    let first = first.trim_end();
    if first == "ok" {
        to_output(|out| copy(&mut answer, out))?;
        return Ok(exit::OK);
    }
    let refusal = first.strip_prefix("error ").and_then(|rest| rest.split_once(' '));
    match refusal {
        Some((code, text)) => Ok(fail(code.parse().unwrap_or(exit::SOFTWARE), text)),
        None => {
            asked?;
            Ok(fail(exit::UNAVAILABLE, "the daemon closed the connection; try again"))
        }
    }
}

/// Copies what comes as it comes.
fn copy(from: &mut impl Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

fn unreachable_daemon(socket: &Path, error: &io::Error) -> u8 {
    let path = socket.display();
    match error.kind() {
        ErrorKind::PermissionDenied => fail(
            exit::NO_PERMISSION,
            &format!("{path}: {error}; ask as root or as the socket's group"),
        ),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => fail(
            exit::UNAVAILABLE,
            &format!("no daemon answers at {path}; is it running? (-s names another socket)"),
        ),
        _ => fail(exit::UNAVAILABLE, &format!("{path}: {error}")),
    }
}

pub(super) fn fail(code: u8, text: &str) -> u8 {
    // Nobody is left to tell when standard error is gone; the exit code still tells.
    let _ = writeln!(io::stderr(), "firmware-ctd: {text}");
    code
}

/// The command `selftest`; returns the exit code: 0 if events are reliable, 69 if not.
#[must_use]
pub fn selftest(json: bool) -> u8 {
    let finding = match selftest::run() {
        Ok(finding) => finding,
        Err(error) => return fail(code_of(&error), &explain(&error)),
    };
    let text = if json { finding_json(&finding) } else { finding_text(&finding) };
    match print(&text) {
        exit::OK if finding.events != EventPath::Reliable => exit::UNAVAILABLE,
        code => code,
    }
}

/// The exit code for what kept the daemon or a test from the kernel.
#[must_use]
pub fn code_of(error: &io::Error) -> u8 {
    match error.kind() {
        ErrorKind::PermissionDenied => exit::NO_PERMISSION,
        _ => exit::UNAVAILABLE,
    }
}

/// What it means and what to do.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{error}: conntrack needs CAP_NET_ADMIN; run as root or with that capability")
        }
        _ if error.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT) => {
            format!("{error}: this kernel has no nfnetlink; load nf_conntrack_netlink")
        }
        _ if error.raw_os_error() == Some(nix::libc::EINVAL) => {
            format!("{error}: is nf_conntrack_netlink loaded? (modprobe nf_conntrack_netlink)")
        }
        _ => format!("the kernel's conntrack cannot be reached: {error}"),
    }
}

fn finding_text(finding: &Finding) -> String {
    let yes = |set: bool| if set { "yes" } else { "no" };
    let advice = match finding.events {
        EventPath::Reliable => "destroys that do not fit into a buffer are kept and repeated",
        EventPath::BestEffort => "destroys that do not fit into a buffer are lost by this kernel",
        EventPath::None => "no event came: nf_conntrack_events is 0, or another module listens",
    };
    let max = finding.max.map_or_else(|| "unknown".to_string(), |max| max.to_string());
    format!(
        "events        {}\n              {advice}\nevent times   {}\ncounters      {}\n\
         timestamps    {}\nflows at most {max}\n",
        finding.events.name(),
        yes(finding.event_times),
        yes(finding.counters),
        yes(finding.timestamps),
    )
}

fn finding_json(finding: &Finding) -> String {
    let max = finding.max.map_or_else(|| "null".to_string(), |max| max.to_string());
    format!(
        "{{\"events\":\"{}\",\"event_times\":{},\"counters\":{},\"timestamps\":{},\"max\":{max}}}\n",
        finding.events.name(),
        finding.event_times,
        finding.counters,
        finding.timestamps,
    )
}
