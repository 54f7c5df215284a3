//! The program itself: what it prints, where, and with which exit code.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firmware-ctd")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = program(args);
    (output.status.code().unwrap(), text(&output.stdout).into(), text(&output.stderr).into())
}

/// A file that is removed at the end of its test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctd-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn version_is_the_name_and_the_number() {
    assert_eq!(run(&["--version"]), (0, "firmware-ctd 0.1.0\n".into(), String::new()));
}

#[test]
fn help_goes_to_standard_output() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("Usage: firmware-ctd COMMAND"), "{out}");
    let (code, out, err) = run(&["flows", "--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("Usage: firmware-ctd flows "), "{out}");
}

#[test]
fn usage_errors_are_one_line_and_exit_64() {
    let (code, out, err) = run(&["statsu"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert_eq!(err, "firmware-ctd: unknown command \"statsu\"; did you mean \"status\"?\n");
    for args in [&[][..], &["run", "-c"], &["status", "x"], &["flows", "port="], &["--bogus"]] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn a_valid_file_is_told_so_with_its_warnings() {
    let good = File::new("good", "[events]\nreceive_buffer = 4096\n");
    let (code, out, err) = run(&["validate", "-c", good.path()]);
    assert_eq!((code, out.as_str()), (0, ""));
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 2, "{err}");
    assert!(lines[0].starts_with("warning: events.receive_buffer is below 64KiB"), "{err}");
    assert_eq!(lines[1], "configuration is valid");
    assert_eq!(run(&["validate"]), (0, String::new(), "configuration is valid\n".into()));
}

#[test]
fn every_fault_of_every_file_is_printed_and_the_code_is_78() {
    let a = File::new("a", "[table]\ncapacity = 1\nfoo = 2\n");
    let b = File::new("b", "[console]\n");
    let (code, out, err) = run(&["validate", "-c", a.path(), "-c", b.path(), "-c", "/nowhere"]);
    assert_eq!((code, out.as_str()), (78, ""));
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 4, "{err}");
    let at = |file: &File, line: u32| format!("{}:{line}: ", file.path());
    assert!(lines[0].starts_with(&at(&a, 2)), "{err}");
    assert!(lines[1].starts_with(&at(&a, 3)), "{err}");
    assert!(lines[2].starts_with(&at(&b, 1)), "{err}");
    assert!(lines[3].starts_with("/nowhere: cannot be read"), "{err}");
}

#[test]
fn a_daemon_does_not_start_with_a_wrong_configuration() {
    let bad = File::new("bad", "[table]\ncapacity = 1\n");
    let (code, out, err) = run(&["run", "-c", bad.path()]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(
        err.contains(&format!("{}:2: table.capacity = 1 is out of range", bad.path())),
        "{err}"
    );
}

#[test]
fn a_full_standard_output_is_an_error_of_writing() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmware-ctd"));
    let status = command.arg("--help").stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(74));
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    // The read end is closed before the program starts.
    let (read, write) = nix::unistd::pipe().unwrap();
    drop(read);
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmware-ctd"));
    let status = command.arg("statsu").stderr(write).status().unwrap();
    assert_eq!(status.code(), Some(64));
}

/// An image whose content `tests/checkpoint/golden.rs` has.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoint/golden.ckpt");

#[test]
fn a_good_checkpoint_is_told_so_and_shown() {
    let summary = "good: generation 42, 63 flows (1 IPv6), 1 expectations, 1778 bytes\n";
    assert_eq!(run(&["checkpoint", "verify", GOLDEN]), (0, summary.into(), String::new()));
    let (code, out, err) = run(&["checkpoint", "show", GOLDEN]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "generation    42");
    assert!(lines.contains(&"orderly end   yes"), "{out}");
    // The first flow of the golden image, and its expectation.
    let flow = "tcp established 192.168.1.10:40000>198.51.100.0:1024 snat 1/777 1/0 432000s";
    assert!(lines.iter().any(|line| line.starts_with(flow)), "{out}");
    let last = "expect udp [2001:db8::5]:5353>[2001:db8:ffff::1]:53 300s of \
                192.0.2.1:4660>192.0.2.2 sip-5060";
    assert_eq!(lines.last(), Some(&last));
    let (code, out, _) = run(&["checkpoint", "show", "--json", GOLDEN]);
    assert_eq!((code, out.lines().count()), (0, 1 + 63 + 1));
    let head = "{\"type\":\"checkpoint\",\"generation\":42,\
                \"boot_id\":\"000102030405060708090a0b0c0d0e0f\",\"saved\":1795289206.230,\
                \"boot_ms\":86400123,\"synchronised\":true,\"orderly\":true,\"flows\":63,\"ipv6\":1,\
                \"expectations\":1,\"bytes\":1778,\
                \"sections\":[{\"section\":257,\"version\":2,\"bytes\":12}]}";
    assert_eq!(out.lines().next(), Some(head));
    assert!(out.lines().all(|line| line.starts_with("{\"type\":\"") && line.ends_with('}')));
}

#[test]
fn a_damaged_checkpoint_is_refused_with_65_and_the_place() {
    let image = std::fs::read(GOLDEN).unwrap();
    let path = std::env::temp_dir().join(format!("ctd-cli-{}-ckpt", std::process::id()));
    std::fs::write(&path, &image[..1000]).unwrap();
    let file = path.to_str().unwrap();
    let expected =
        format!("firmware-ctd: {file}: byte 1000: it ends in the middle; it will not be loaded\n");
    for verb in ["verify", "show"] {
        assert_eq!(run(&["checkpoint", verb, file]), (65, String::new(), expected.clone()));
    }
    std::fs::remove_file(&path).unwrap();
    let (code, out, err) = run(&["checkpoint", "verify", file]);
    assert_eq!((code, out.as_str()), (74, ""));
    assert!(err.contains(file), "{err}");
}
