//! Tests of the log back-end that need no logger of the whole process.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    let mut line = Line::new();
    line.fill(format_args!("<6>x: "), &format_args!("{text}"));
    line.end();
    String::from_utf8(line.bytes().to_vec()).unwrap()
}

#[test]
fn a_line_is_its_head_its_text_and_a_line_break() {
    assert_eq!(shown("ready"), "<6>x: ready\n");
    assert_eq!(shown(""), "<6>x: \n");
}

#[test]
fn control_characters_are_escaped() {
    assert_eq!(shown("a\nb\r\t\0\u{1b}[2J\u{7f}"), "<6>x: a\\nb\\r\\t\\u{0}\\u{1b}[2J\\u{7f}\n");
    assert_eq!(shown("\u{9b}31m"), "<6>x: \\u{9b}31m\n");
    assert_eq!(shown("grün 路由器"), "<6>x: grün 路由器\n");
}

#[test]
fn the_longest_line_is_512_bytes_and_what_is_longer_ends_in_dots() {
    let room = LONGEST - "<6>x: ".len() - "...\n".len();
    let fits = shown(&"a".repeat(room));
    assert!(fits.ends_with("a\n"), "{fits}");
    let cut = shown(&"a".repeat(room + 1));
    assert_eq!(cut.len(), LONGEST);
    assert!(cut.ends_with("a...\n"), "{cut}");
    let wide = shown(&"路".repeat(300));
    assert!(wide.ends_with("路...\n") && wide.len() <= LONGEST, "{wide}");
}

#[test]
fn a_value_that_cannot_be_shown_cuts_the_line_only() {
    struct Broken;
    impl fmt::Display for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    let mut line = Line::new();
    line.fill(format_args!("<6>"), &format_args!("a {} b", Broken));
    assert_eq!(line.bytes(), b"<6>a ...");
}

proptest! {
    #[test]
    fn any_text_gives_one_bounded_line(text in "\\PC{0,600}|[\\x00-\\x9f]{0,300}") {
        let line = shown(&text);
        prop_assert!(line.len() <= LONGEST);
        prop_assert!(line.ends_with('\n'));
        prop_assert!(!line[..line.len() - 1].contains(char::is_control));
    }
}

/// The socket of a log daemon, removed at the end.
struct Daemon {
    path: &'static str,
    socket: Option<UnixDatagram>,
}

impl Daemon {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctd-log-{}-{name}", std::process::id()));
        let path: &'static PathBuf = Box::leak(Box::new(path));
        let mut daemon = Self { path: path.to_str().unwrap(), socket: None };
        daemon.start();
        daemon
    }

    fn start(&mut self) {
        let socket = UnixDatagram::bind(self.path).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.socket = Some(socket);
    }

    fn stop(&mut self) {
        self.socket = None;
        std::fs::remove_file(self.path).unwrap();
    }

    fn received(&self) -> Option<String> {
        let mut buffer = [0; 1024];
        let size = self.socket.as_ref()?.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..size].to_vec()).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path);
    }
}

fn send(backend: &Backend, level: Level, text: &str) -> bool {
    backend.to_syslog(&Record::builder().level(level).args(format_args!("{text}")).build())
}

#[test]
fn syslog_lines_have_the_priority_and_the_process() {
    let daemon = Daemon::new("format");
    let backend = Backend::new(daemon.path);
    let head = format!("firmware-ctd[{}]: ", std::process::id());
    for (level, priority) in [
        (Level::Error, 27),
        (Level::Warn, 28),
        (Level::Info, 30),
        (Level::Debug, 31),
        (Level::Trace, 31),
    ] {
        assert!(send(&backend, level, "te\nxt"));
        assert_eq!(daemon.received(), Some(format!("<{priority}>{head}te\\nxt")));
    }
}

#[test]
fn a_log_daemon_that_comes_back_is_used_at_once() {
    let mut daemon = Daemon::new("back");
    let backend = Backend::new(daemon.path);
    assert!(send(&backend, Level::Info, "one"));
    daemon.stop();
    assert!(!send(&backend, Level::Info, "two"));
    daemon.start();
    assert!(send(&backend, Level::Info, "three"));
    assert!(daemon.received().unwrap().ends_with(": three"));
    assert_eq!(daemon.received(), None);
}

#[test]
fn a_log_daemon_that_does_not_read_is_not_waited_for() {
    let daemon = Daemon::new("full");
    let backend = Backend::new(daemon.path);
    // The queue of a Unix datagram socket is bounded by net.unix.max_dgram_qlen.
    let sent = (0..100_000).take_while(|_| send(&backend, Level::Info, "x")).count();
    assert!(sent < 100_000, "the socket never filled");
    assert!(daemon.received().is_some());
    assert!(send(&backend, Level::Info, "x"), "there is room again");
}

#[test]
fn a_reader_of_standard_error_that_does_not_read_is_not_waited_for() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let line = [b'x'; LONGEST];
    let sent = (0..100_000).take_while(|_| put(writer.as_fd(), &line)).count();
    assert!(sent > 0 && sent < 100_000, "{sent}");
    let mut all = vec![0; sent * LONGEST];
    reader.read_exact(&mut all).unwrap();
    assert!(put(writer.as_fd(), b"again"));
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "again");
}

#[test]
fn a_full_pipe_is_not_waited_for_and_takes_whole_lines() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let line = [b'x'; LONGEST];
    let sent = (0..100_000).take_while(|_| put(writer.as_fd(), &line)).count();
    assert!(sent > 0 && sent < 100_000, "{sent}");
    drop(writer);
    let mut all = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent * LONGEST);
}

/// Lines of `limit` that pass when one is asked for at each of `times`.
fn passed(limit: &RateLimit, times: impl IntoIterator<Item = u32>) -> usize {
    times.into_iter().filter(|now| limit.admit(*now).is_some()).count()
}

#[test]
fn a_burst_passes_and_the_rest_is_counted_with_the_next_line() {
    let limit = RateLimit::new(3, 30);
    let before = suppressed();
    assert_eq!(passed(&limit, [100; 10]), 3);
    assert!(suppressed() - before >= 7, "other tests may add to the total");
    assert_eq!(limit.admit(109), None, "a third of the span gives one back");
    assert_eq!(limit.admit(110), Some(8));
    assert_eq!(limit.admit(110), None);
    assert_eq!(limit.admit(120), Some(1));
    assert_eq!(limit.admit(1_000), Some(0));
    assert_eq!(passed(&limit, [1_000; 10]), 2, "rest saves up one burst, no more");
}

#[test]
fn zero_counts_as_one() {
    let limit = RateLimit::new(0, 0);
    assert_eq!(passed(&limit, [5; 4]), 1);
    assert_eq!(passed(&limit, [6; 4]), 1);
}

#[test]
fn time_may_wrap() {
    let limit = RateLimit::new(1, 10);
    assert_eq!(passed(&limit, [u32::MAX - 5, u32::MAX, 3, 4, 5]), 2);
}

proptest! {
    #[test]
    fn no_span_sees_more_than_its_share(
        burst in 1u32..50,
        per_s in 1u32..100,
        steps in prop::collection::vec(0u32..5, 1..300),
    ) {
        let limit = RateLimit::new(burst, per_s);
        let mut now = 1_000;
        let mut passed: Vec<u32> = Vec::new();
        for step in steps {
            now += step;
            if limit.admit(now).is_some() {
                passed.push(now);
            }
        }
        for (i, first) in passed.iter().enumerate() {
            for (j, last) in passed.iter().enumerate().skip(i) {
                let lines = u32::try_from(j - i + 1).unwrap();
                prop_assert!(lines <= burst + (last - first) * burst / per_s + 1);
            }
        }
    }

    #[test]
    fn lines_slower_than_the_rate_all_pass(burst in 1u32..50, per_s in 1u32..100, n in 1u32..50) {
        let limit = RateLimit::new(burst, per_s);
        let step = per_s.div_ceil(burst);
        prop_assert_eq!(passed(&limit, (0..n).map(|i| 7 + i * step)), n as usize);
    }

    #[test]
    fn any_times_are_taken_without_panic(
        burst: u32,
        per_s: u32,
        times in prop::collection::vec(any::<u32>(), 0..20),
    ) {
        let limit = RateLimit::new(burst, per_s);
        let _ = passed(&limit, times);
    }
}
