//! Configuration files as users write them: what they mean, and how faults are told.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use firmware_ctd::config::draft::{Draft, MOST_SINKS};
use firmware_ctd::config::{self, Config, Faults, Sink, document};
use proptest::prelude::*;

/// A directory of one test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ctd-config-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(text: &str) -> Result<Config, String> {
    read_bytes(text.as_bytes())
}

/// What one file with `bytes` gives; faults with the file's name as `FILE`.
fn read_bytes(bytes: &[u8]) -> Result<Config, String> {
    let dir = Dir::new();
    let file = dir.file("a.toml", bytes);
    config::load(std::slice::from_ref(&file))
        .map_err(|faults| faults.to_string().replace(file.to_str().unwrap(), "FILE"))
}

/// The faults of `text` alone, without the check of the whole.
fn in_memory(text: &str) -> Faults {
    let mut draft = Draft::new();
    let mut faults = Faults::default();
    document::read(Path::new("FILE"), text, &mut draft, &mut faults);
    faults
}

fn faults(text: &str) -> Vec<String> {
    read(text).unwrap_err().lines().map(str::to_owned).collect()
}

fn paths(config: &Config) -> Vec<&Path> {
    config.sinks.iter().filter_map(Sink::path).collect()
}

#[test]
fn an_empty_file_and_no_file_are_the_defaults() {
    for text in ["", "\n", "# nothing\n", "\u{feff}", "[table]\n", "\r\n[table]\r\n"] {
        assert_eq!(read(text), Ok(Config::default()), "{text:?}");
    }
    assert_eq!(config::load(&[]), Ok(Config::default()));
}

#[test]
fn every_form_of_toml_is_understood() {
    let config = read(
        "table.capacity = 1_000\r\n\
         events = { coalesce_ms = 0x10, groups = [\n 'destroy',\n] }\n\
         [[sink]]\ntype = 'file'\npath = '''/x'''\nmax_bytes = \"4KiB\"\n",
    )
    .unwrap();
    assert_eq!(config.table.capacity, 1000);
    assert_eq!(config.events.coalesce_ms, 16);
    assert!(!config.events.groups.new && config.events.groups.destroy);
    assert_eq!(paths(&config), [Path::new("/x")]);
}

#[test]
fn all_faults_are_told_with_their_lines() {
    let found = faults(
        "capacity = 9\n\
         [table]\n\
         capacity = 15\n\
         capasity = 20\n\
         refresh_s = \"60\"\n\
         [events]\n\
         receive_buffer = \"512KB\"\n\
         groups = [\"new\"]\n\
         coalesce_ms = 1.5\n\
         reliable = 1\n\
         clients = 3\n\
         [console]\n\
         device = \"/dev/ttyS1\"\n\
         [tabel]\n\
         [[sink]]\n\
         type = \"syslog\"\n\
         [[sink]]\n\
         path = \"/x\"\n\
         [[sink]]\n\
         type = \"fiel\"\n\
         [zzz]\n",
    );
    assert_eq!(
        found,
        [
            "FILE:1: key \"capacity\" belongs to [table]",
            "FILE:3: table.capacity = 15 is out of range; allowed: integer, 16 to 4194304",
            "FILE:4: unknown key \"capasity\" in [table]; did you mean \"capacity\"?",
            "FILE:5: table.refresh_s = \"60\" is a string; allowed: integer, 1 to 86400",
            "FILE:7: events.receive_buffer = \"512KB\" has an unknown unit (KiB is 1024 bytes; \
             also MiB, GiB, TiB); allowed: size, 2KiB to 256MiB",
            "FILE:8: events.groups = [\"new\"] lacks what must be in it; allowed: list of \"new\", \
             \"update\" and \"destroy\", always with \"destroy\"",
            "FILE:9: events.coalesce_ms = 1.5 is a floating-point number; allowed: integer, 0 to 100",
            "FILE:10: events.reliable = 1 is an integer; allowed: true or false",
            "FILE:11: unknown key \"clients\" in [events]; it belongs to [control]",
            "FILE:12: [console] is not built into this version; remove the section",
            "FILE:14: unknown section \"tabel\"; did you mean \"table\"?",
            "FILE:17: [[sink]] lacks its type; allowed: \"file\", \"unix\", \"syslog\" or \"ipfix\"",
            "FILE:20: unknown type \"fiel\" of sink; did you mean \"file\"?",
            "FILE:21: unknown section \"zzz\"; known: kernel, events, table, retry, sink, checkpoint, control, log",
        ]
    );
}

#[test]
fn every_section_of_the_design_that_is_not_here_yet_is_named_so() {
    for section in ["sync", "console"] {
        let found = faults(&format!("\n[{section}]\ncapacity = 1\n"));
        let wanted = format!("FILE:2: [{section}] is not built into this version");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{found:?}");
    }
}

#[test]
fn sections_in_the_wrong_form_are_told_the_right_one() {
    assert_eq!(faults("table = 5"), ["FILE:1: table is a section; write [table]"]);
    assert_eq!(faults("[[table]]"), ["FILE:1: table is a section; write [table]"]);
    assert_eq!(
        faults("[sink]\ntype = \"file\""),
        ["FILE:1: sink is a list of sections; write [[sink]]"]
    );
    assert_eq!(faults("sink = [ 5 ]"), ["FILE:1: sink holds what is no section"]);
    assert_eq!(faults("[[sink]]\ntype = 5"), ["FILE:2: sink.type must be a string"]);
    let nested = faults("[table.capacity]\nx = 1");
    assert_eq!(nested.len(), 1);
    assert!(nested[0].starts_with("FILE:1: table.capacity = {...} is a section"), "{nested:?}");
}

#[test]
fn a_syntax_fault_does_not_hide_the_others() {
    let found = faults("[table]\ncapacity = = 5\nrefresh_s = 0\n[log\nlevel = \"loud\"\n");
    assert!(found.iter().any(|f| f.starts_with("FILE:2: not TOML: ")), "{found:?}");
    assert!(found.iter().any(|f| f.starts_with("FILE:3: table.refresh_s = 0")), "{found:?}");
    assert!(found.iter().any(|f| f.starts_with("FILE:4: not TOML: ")), "{found:?}");
    let on_2 = found.iter().filter(|f| f.starts_with("FILE:2:")).count();
    assert_eq!(on_2, found.iter().filter(|f| f.starts_with("FILE:2: not TOML")).count());
}

#[test]
fn a_key_or_section_given_twice_is_a_fault() {
    for (text, fault) in [
        (
            "[table]\ncapacity = 20\ncapacity = 30\n",
            "FILE:3: table.capacity is given twice, first in line 2",
        ),
        ("[table]\n[events]\n[table]\n", "FILE:3: [table] is given twice, first in line 1"),
        (
            "table.capacity = 20\n[table]\nrefresh_s = 5\n",
            "FILE:2: [table] is given twice, first in line 1",
        ),
        (
            "table = { capacity = 20 }\ntable.refresh_s = 5\n",
            "FILE:2: [table] is given twice, first in line 1",
        ),
        ("sink = []\nsink = []\n", "FILE:2: [sink] is given twice, first in line 1"),
        (
            "[[sink]]\ntype = 'file'\npath = '/a'\npath = '/b'\n",
            "FILE:4: sink.path is given twice, first in line 3",
        ),
    ] {
        assert_eq!(faults(text), [fault], "{text}");
    }
    assert!(read("table.capacity = 20\nevents.coalesce_ms = 1\ntable.refresh_s = 5\n").is_ok());
    let sinks = "[[sink]]\ntype = 'file'\npath = '/a'\n[[sink]]\ntype = 'file'\npath = '/b'\n";
    assert!(read(sinks).is_ok());
}

#[test]
fn integers_of_any_size_are_judged() {
    for number in ["-1", "4194305", "9223372036854775807", "-9223372036854775808"] {
        let found = faults(&format!("table.capacity = {number}"));
        assert!(found[0].contains(&format!("{number} is out of range")), "{found:?}");
    }
    let found = faults("table.capacity = 99999999999999999999");
    assert!(found[0].contains("99999999999999999999 is out of range"), "{found:?}");
}

#[test]
fn later_files_win_per_key() {
    let dir = Dir::new();
    let a =
        dir.file("a", "[table]\ncapacity = 100\nrefresh_s = 7\n[[sink]]\ntype='file'\npath='/a'\n");
    let b = dir.file("b", "[table]\ncapacity = 200\n");
    let config = config::load(&[a, b]).unwrap();
    assert_eq!((config.table.capacity, config.table.refresh_s), (200, 7));
    assert_eq!(config.table.extensions, 16, "it follows the capacity of the later file");
    assert_eq!(paths(&config), [Path::new("/a")]);
}

#[test]
fn a_later_file_with_a_sink_replaces_all_earlier_ones() {
    let dir = Dir::new();
    let sink = |path: &str| format!("[[sink]]\ntype = \"file\"\npath = \"{path}\"\n");
    let a = dir.file("a", sink("/a") + &sink("/b"));
    let b = dir.file("b", sink("/c"));
    let none = dir.file("none", "sink = []\n");
    let read = |files: &[&PathBuf]| {
        let files: Vec<_> = files.iter().map(|f| (*f).clone()).collect();
        config::load(&files).unwrap()
    };
    assert_eq!(paths(&read(&[&a])), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths(&read(&[&a, &b])), [Path::new("/c")]);
    assert_eq!(paths(&read(&[&b, &a])), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths(&read(&[&a, &none])), Vec::<&Path>::new());
    assert_eq!(paths(&read(&[&none, &b])), [Path::new("/c")]);
}

#[test]
fn the_faults_of_all_files_are_told_in_the_order_of_the_files() {
    let dir = Dir::new();
    let b = dir.file("b", "x = 1\n");
    let a = dir.file("a", "\ny = 1\n");
    let missing = dir.0.join("missing");
    let faults = config::load(&[b.clone(), missing.clone(), a.clone()]).unwrap_err();
    let found: Vec<_> = faults.as_slice().iter().map(|f| (f.file.clone(), f.line)).collect();
    assert_eq!(found, [(b, Some(1)), (missing, None), (a, Some(2))]);
}

#[test]
fn two_sinks_with_one_path_are_a_fault_of_the_later_line() {
    let sink = "[[sink]]\ntype = \"file\"\npath = \"/a\"\n";
    assert_eq!(
        faults(&format!("{sink}{sink}")),
        ["FILE:6: sink.path = \"/a\" is taken by another sink"]
    );
    let socket = "[[sink]]\ntype = \"file\"\npath = \"/var/run/firmware-ctd.sock\"\n";
    assert_eq!(
        faults(socket),
        ["FILE:3: sink.path = \"/var/run/firmware-ctd.sock\" is taken by control.socket"]
    );
}

#[test]
fn sinks_of_every_type_are_understood() {
    let config = read(
        "[[sink]]\ntype = 'unix'\npath = '/r'\n\
         [[sink]]\ntype = 'syslog'\n\
         [[sink]]\ntype = 'ipfix'\ncollector = '[2001:db8::9]:2055'\ntransport = 'udp'\n\
         [[sink]]\ntype = 'ipfix'\ncollector = '192.0.2.9:4739'\nenterprise = 32473\n",
    )
    .unwrap();
    let told: Vec<_> = config.sinks.iter().map(|s| (s.kind(), s.target(), s.reliable())).collect();
    let told: Vec<_> = told.iter().map(|(kind, target, r)| (*kind, target.as_str(), *r)).collect();
    assert_eq!(
        told,
        [
            ("unix", "/r", true),
            ("syslog", "/dev/log", false),
            ("ipfix", "udp [2001:db8::9]:2055", false),
            ("ipfix", "tcp 192.0.2.9:4739", true),
        ]
    );
}

#[test]
fn what_nobody_acknowledges_is_not_reliable() {
    let refused = |text: &str| faults(&format!("[[sink]]\n{text}\nreliable = true\n"));
    assert_eq!(
        refused("type = 'syslog'"),
        [
            "FILE:3: sink.reliable = true is refused for syslog: nobody says what arrived there; use \
          type \"unix\" or \"file\""
        ]
    );
    assert_eq!(
        refused("type = 'ipfix'\ntransport = 'udp'"),
        ["FILE:4: sink.reliable = true is refused for udp: nobody says what arrived there; use \
          transport = \"tcp\""]
    );
    assert!(read("[[sink]]\ntype = 'syslog'\nreliable = false\n").is_ok());
    assert!(read("[[sink]]\ntype = 'ipfix'\nreliable = true\n").is_ok());
}

#[test]
fn collectors_are_addresses_with_ports_and_not_shared() {
    let sink = |collector: &str| format!("[[sink]]\ntype='ipfix'\ncollector='{collector}'\n");
    for wrong in ["192.0.2.9", "192.0.2.9:0", "collector.example:4739", "2001:db8::9:4739", ":1"] {
        let found = faults(&sink(wrong));
        assert!(found.len() == 1 && found[0].starts_with("FILE:3: sink.collector = "), "{found:?}");
    }
    let one = sink("192.0.2.9:4739");
    assert_eq!(
        faults(&format!("{one}{one}")),
        ["FILE:6: sink.collector = \"tcp 192.0.2.9:4739\" is taken by another sink"]
    );
    assert!(read(&format!("{one}{one}transport = 'udp'\n")).is_ok());
    assert_eq!(
        faults(&format!("{one}enterprise = 29305\n")),
        ["FILE:3: sink.enterprise = 29305 is that of RFC 5103"]
    );
}

#[test]
fn there_are_at_most_sixteen_sinks() {
    let sinks = |n: usize| -> String {
        (0..n).map(|i| format!("[[sink]]\ntype = 'file'\npath = '/{i}'\n")).collect()
    };
    assert_eq!(read(&sinks(MOST_SINKS)).unwrap().sinks.len(), 16);
    assert_eq!(faults(&sinks(MOST_SINKS + 1)), ["FILE:50: more than 16 sinks"]);
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = Dir::new();
    let fault = |path: &Path| config::load(&[path.to_path_buf()]).unwrap_err().to_string();
    let missing = fault(&dir.0.join("missing"));
    assert!(missing.ends_with("missing: cannot be read: No such file or directory (os error 2)"));
    assert!(fault(&dir.0).ends_with(": is a directory; name a file"));
    assert!(fault(Path::new("/dev/zero")).ends_with("/dev/zero: is not a regular file"));
    assert!(fault(Path::new("/nonexistent/\n\u{1b}[2J")).lines().count() == 1);

    let pipe = dir.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(fault(&pipe).ends_with("pipe: is not a regular file"), "it must not wait");

    let longest = "#".repeat(256 * 1024);
    assert_eq!(read(&longest), Ok(Config::default()));
    assert_eq!(read(&(longest + "#")).unwrap_err(), "FILE: is longer than 256 KiB");
    assert_eq!(read_bytes(b"[table]\n# \xff\n").unwrap_err(), "FILE:2: is not UTF-8 text");
    assert!(read_bytes(b"[table]\0\n").unwrap_err().starts_with("FILE:1: not TOML"));
}

#[test]
fn a_hostile_file_is_judged_in_bounded_output() {
    let keys: String = (0..20_000).map(|i| format!("k{i}=1\n")).collect();
    let found = faults(&format!("[table]\n{keys}"));
    assert_eq!(found.len(), 65);
    assert_eq!(found[64], "FILE: and 19936 faults more");
    for text in ["[", "a.", "x=[", "x={a=", "[[sink]]\n", "\"", "'''", "[table]\n", "a=1\n"] {
        let count = 250_000 / text.len();
        assert!(read(&text.repeat(count)).is_err(), "{text:?}");
    }
}

/// Fragments that together often make almost valid files.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "[table]",
        "[[sink]]",
        "[events]",
        "[log",
        "]",
        "capacity",
        "path",
        "type",
        " = ",
        "=",
        "5",
        "\"512KiB\"",
        "'file'",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\n",
        "\r",
        "#",
        "\"",
        "'''",
        "\"\"\"",
        "\\",
        "\u{0}",
        "true",
        "-",
        "1979-05-27T07:32:00Z",
        "1e400",
        "inf",
        "0x",
        "groups",
        "\u{feff}",
        "é",
        "sink",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

proptest! {
    // Each case writes a file.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
        let _ = in_memory(&text);
    }

    #[test]
    fn faults_of_almost_valid_files_are_one_line_each_and_in_the_file(text in fragments()) {
        let lines = u32::try_from(text.split('\n').count()).unwrap();
        let faults = in_memory(&text);
        for fault in faults.as_slice() {
            let line = fault.line.unwrap();
            prop_assert!(line >= 1 && line <= lines, "{}", fault);
            prop_assert!(!fault.to_string().contains(char::is_control), "{:?}", fault);
        }
        prop_assert!(faults.as_slice().is_sorted_by_key(|fault| fault.line));
    }
}

#[test]
fn a_key_of_another_sink_is_told_its_types() {
    let text = "[[sink]]\ntype = \"file\"\ncollector = \"192.0.2.9:4739\"\n\
        [[sink]]\ntype = \"syslog\"\npath = \"/tmp/x\"\n";
    let path = std::env::temp_dir().join(format!("ctd-types-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let faults = firmware_ctd::config::load(std::slice::from_ref(&path)).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let faults: Vec<String> = faults.as_slice().iter().map(ToString::to_string).collect();
    let ends = [
        "unknown key \"collector\" in [[sink]] of type \"file\"; it belongs to [[sink]] of type \
         \"ipfix\"",
        "unknown key \"path\" in [[sink]] of type \"syslog\"; it belongs to [[sink]] of type \
         \"file\" or [[sink]] of type \"unix\"",
    ];
    assert_eq!(faults.len(), ends.len(), "{faults:?}");
    assert!(faults.iter().zip(ends).all(|(fault, end)| fault.ends_with(end)), "{faults:#?}");
}
