//! The configuration files in `config/`, and the reference in the README, against the schema.

use std::path::{Path, PathBuf};

use firmware_ctd::config::schema::{self, SCHEMA};
use firmware_ctd::config::{self, Config};

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn text(path: &str) -> String {
    let path = top(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every key at its default under its explanation, in the order of the schema.
fn expected_default_file() -> String {
    let mut out = String::new();
    for section in SCHEMA {
        let brackets = if section.variant.is_some() { ("[[", "]]") } else { ("[", "]") };
        // Without the mark in front it is a sink beside the default one.
        let mark = if section.variant.is_none_or(|v| v == "file") { "" } else { "#" };
        out += "\n";
        out += &wrapped(section.help);
        out += &format!("{mark}{}{}{}\n", brackets.0, section.name, brackets.1);
        for key in section.keys {
            out += &wrapped(key.help);
            out += &wrapped(&format!("Allowed: {}", key.kind));
            out += &format!("{mark}{} = {}\n", key.name, key.toml_default());
        }
    }
    out
}

/// Comment lines of at most 80 columns.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 80 {
            out += &line;
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    out + &line + "\n"
}

#[test]
fn the_default_file_shows_every_key_with_its_explanation() {
    let file = text("config/firmware-ctd.toml");
    let (head, body) = file.split_at(file.find("\n\n").unwrap() + 1);
    assert!(head.lines().all(|line| line.starts_with('#')), "the file begins with a comment");
    assert_eq!(body, expected_default_file(), "config/firmware-ctd.toml is not the schema's");
}

#[test]
fn the_sinks_that_are_commented_out_can_be_had() {
    let file = text("config/firmware-ctd.toml");
    let with_all: String = file
        .lines()
        .map(|line| line.strip_prefix('#').filter(|it| !it.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let path = std::env::temp_dir().join(format!("ctd-shipped-{}", std::process::id()));
    std::fs::write(&path, with_all).unwrap();
    let config = config::load(std::slice::from_ref(&path));
    std::fs::remove_file(&path).unwrap();
    let kinds: Vec<_> = config.unwrap().sinks.iter().map(config::Sink::kind).collect();
    assert_eq!(kinds, ["file", "unix", "syslog", "ipfix"]);
}

#[test]
fn the_default_file_reads_as_the_defaults() {
    let read = config::load(&[top("config/firmware-ctd.toml")]);
    assert_eq!(read.unwrap(), Config::default());
}

#[test]
fn every_shipped_file_is_valid_alone_and_over_the_default_one() {
    let mut shipped = vec![top("config/firmware-ctd.toml")];
    for entry in std::fs::read_dir(top("config/boards")).unwrap() {
        shipped.push(entry.unwrap().path());
    }
    assert!(shipped.len() >= 2);
    for file in &shipped {
        let alone = config::load(std::slice::from_ref(file)).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(alone.warnings(), Vec::<&str>::new(), "{}", file.display());
        let over = config::load(&[shipped[0].clone(), file.clone()]);
        assert_eq!(over.unwrap(), alone, "{}", file.display());
    }
}

#[test]
fn a_board_holds_the_flows_that_its_kernel_does() {
    for (name, megabytes) in [("small-32mb", 32), ("small-64mb", 64), ("medium-256mb", 256)] {
        let config = config::load(&[top(&format!("config/boards/{name}.toml"))]).unwrap();
        // RAM / 2048 / sizeof(pointer), as OpenWrt's kernel sizes nf_conntrack_max; 32-bit.
        let kernel_max = (megabytes << 20) / 2048 / 4;
        let capacity = config.table.capacity;
        assert!(capacity >= kernel_max, "{name}: the table is smaller than the kernel's");
        assert!(capacity <= kernel_max * 3 / 2, "{name}: the table is larger than it need be");
        assert!(config.events.receive_buffer_bytes >= 64 << 10);
    }
}

#[test]
fn the_readme_has_the_reference_of_the_schema() {
    let mut expected = String::new();
    schema::reference(&mut expected).unwrap();
    let readme = text("README.md");
    let mark = "<!-- config reference -->\n";
    let parts: Vec<_> = readme.split(mark).collect();
    assert_eq!(parts.len(), 3, "README.md has the mark {mark:?} before and after the reference");
    assert_eq!(
        parts[1].trim(),
        expected.trim(),
        "README.md's reference is not the schema's; put the right-hand side there"
    );
}

/// The parts of a text between a line "```toml" and a line "```".
fn snippets(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn the_snippets_for_a_fleet_are_valid() {
    let mut seen = 0;
    for entry in std::fs::read_dir(top("config/fleet")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "md") {
            continue;
        }
        for snippet in snippets(&std::fs::read_to_string(&path).unwrap()) {
            let written =
                std::env::temp_dir().join(format!("ctd-fleet-{}-{seen}", std::process::id()));
            std::fs::write(&written, snippet).unwrap();
            let config = config::load(std::slice::from_ref(&written));
            std::fs::remove_file(&written).unwrap();
            let config = config.unwrap_or_else(|faults| panic!("{}: {faults}", path.display()));
            assert_eq!(config.warnings(), Vec::<&str>::new(), "{snippet}");
            assert!(config.sinks.iter().any(|sink| sink.kind() == "ipfix"), "{snippet}");
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen}");
}
