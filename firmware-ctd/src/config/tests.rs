//! Tests of the layers below the files: values, schema, draft.

use std::path::Path;

use proptest::prelude::*;

use super::draft::Draft;
use super::schema::{SCHEMA, Section};
use super::value::{Checked, Kind, Size, Value};
use super::{Config, Faults, FileSink, LogTarget, Place, Sink, WhenFull};

fn here() -> Place<'static> {
    Place::line(Path::new("test"), 7)
}

/// The draft with `section.key = value`, a sink being of type file.
fn set(draft: &mut Draft, section: &str, key: &str, value: Value<'_>) -> Result<(), String> {
    let variant = (section == "sink").then_some("file");
    let at = draft.open(section, variant, here()).map_err(|f| f.to_string())?;
    draft.set(at, key, value, here()).map_err(|f| f.to_string())
}

fn with(section: &str, key: &str, value: Value<'_>) -> Result<Config, String> {
    let mut draft = Draft::new();
    set(&mut draft, section, key, value)?;
    draft.finish(Faults::default()).map_err(|f| f.to_string())
}

/// The configuration with this section, and in it what `set` puts there.
fn with_in(section: &Section, set: Option<(&str, Value<'_>)>) -> Result<Config, String> {
    let mut draft = Draft::new();
    let at = draft.open(section.name, section.variant, here()).map_err(|f| f.to_string())?;
    if let Some((key, value)) = set {
        draft.set(at, key, value, here()).map_err(|f| f.to_string())?;
    }
    draft.finish(Faults::default()).map_err(|f| f.to_string())
}

#[test]
fn every_default_of_the_schema_is_valid() {
    for section in SCHEMA {
        for key in section.keys {
            let checked = key.kind.check(Value::Untyped(key.default));
            assert!(checked.is_ok(), "{}.{}: {checked:?}", section.name, key.name);
        }
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = Config::default();
    assert!(config.kernel.manage_sysctls);
    assert!(config.events.reliable);
    assert_eq!(config.events.receive_buffer_bytes, 512 * 1024);
    assert_eq!(config.events.coalesce_ms, 5);
    assert!(config.events.groups.new && config.events.groups.update);
    assert!(config.events.groups.destroy);
    assert_eq!(config.events.remember, 16_384);
    assert_eq!(config.table.capacity, 16_384);
    assert_eq!(config.table.extensions, 1_024);
    assert_eq!(config.table.refresh_s, 60);
    let file = FileSink {
        path: "/tmp/firmware-ctd/flows.jsonl".into(),
        max_bytes: 1 << 20,
        reliable: true,
    };
    assert_eq!(config.sinks, [Sink::File(file)]);
    assert_eq!(config.control.socket, Path::new("/var/run/firmware-ctd.sock"));
    assert_eq!(config.control.clients, 8);
    assert_eq!(config.log.target, LogTarget::Stderr);
    assert_eq!(config.log.level, log::LevelFilter::Info);
    assert_eq!(config.warnings(), Vec::<&str>::new());
}

#[test]
fn the_schema_names_nothing_twice() {
    for (i, section) in SCHEMA.iter().enumerate() {
        let same =
            |s: &&super::schema::Section| s.name == section.name && s.variant == section.variant;
        assert_eq!(SCHEMA.iter().skip(i).filter(same).count(), 1, "{}", section.name);
        for (j, key) in section.keys.iter().enumerate() {
            let same = section.keys.iter().skip(j).filter(|k| k.name == key.name);
            assert_eq!(same.count(), 1, "{}.{}", section.name, key.name);
        }
    }
}

/// Values of `kind` that must all be told apart, as untyped text.
fn samples(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Flag => vec!["true".into(), "false".into()],
        Kind::Number(min, max) => vec![(min + 1).to_string(), (max - 1).to_string()],
        Kind::Size(min, max) => vec![(min + 1).to_string(), (max - 1).to_string()],
        Kind::Path(_) => vec!["/a".into(), "/b/c".into()],
        Kind::Choice(names) => names.iter().map(ToString::to_string).collect(),
        Kind::Directory(_) => vec!["/a".into(), "/b/c/".into(), "/".into()],
        Kind::Rules => vec!["assured".into(), "all,assured".into(), "proto=udp port=53".into()],
        Kind::Endpoint => vec!["192.0.2.1:1".into(), "[2001:db8::1]:2".into()],
        Kind::Choices(names) => {
            vec![names[names.len() - 1].into(), [names[0], names[names.len() - 1]].join(" ")]
        }
    }
}

#[test]
fn every_key_reaches_its_own_place_in_the_configuration() {
    for section in SCHEMA {
        // What nobody acknowledges has one value only.
        let only = |name| name == "type" || section.variant == Some("syslog");
        for key in section.keys.iter().filter(|key| !only(key.name)) {
            let configs: Vec<_> = samples(key.kind)
                .iter()
                .map(|text| with_in(section, Some((key.name, Value::Untyped(text)))).unwrap())
                .collect();
            for (i, config) in configs.iter().enumerate() {
                let twin = configs.iter().skip(i + 1).any(|other| other == config);
                assert!(!twin, "{}.{} is not stored", section.name, key.name);
            }
            // And no other key's: setting it back to the default gives the default.
            let back = with_in(section, Some((key.name, Value::Untyped(key.default)))).unwrap();
            assert_eq!(back, with_in(section, None).unwrap(), "{}.{}", section.name, key.name);
        }
    }
}

#[test]
fn the_borders_of_every_range_are_allowed_and_what_is_beyond_is_not() {
    for section in SCHEMA {
        for key in section.keys {
            let (min, max) = match key.kind {
                Kind::Number(min, max) => (u64::from(min), u64::from(max)),
                Kind::Size(min, max) => (min, max),
                _ => continue,
            };
            let check = |n: u64| {
                let text = n.to_string();
                let untyped = with_in(section, Some((key.name, Value::Untyped(&text)))).is_ok();
                let typed = Value::Integer(i64::try_from(n).unwrap());
                assert_eq!(untyped, with_in(section, Some((key.name, typed))).is_ok());
                untyped
            };
            let name = format!("{}.{}", section.name, key.name);
            assert!(check(min), "{name} = {min}");
            assert!(check(max), "{name} = {max}");
            assert!(!check(max + 1), "{name} = {max} + 1");
            assert!(min == 0 || !check(min - 1), "{name} = {min} - 1");
            let below = with_in(section, Some((key.name, Value::Integer(-1))));
            assert!(below.is_err(), "{name} = -1");
        }
    }
}

#[test]
fn the_ranges_are_the_documented_ones() {
    let kind = |section: &str, key: &str| {
        let section = SCHEMA.iter().find(|s| s.name == section).unwrap();
        section.keys.iter().find(|k| k.name == key).unwrap().kind
    };
    assert_eq!(kind("events", "receive_buffer"), Kind::Size(2048, 268_435_456));
    assert_eq!(kind("events", "coalesce_ms"), Kind::Number(0, 100));
    assert_eq!(kind("events", "remember"), Kind::Number(256, 1_048_576));
    assert_eq!(kind("table", "capacity"), Kind::Number(16, 4_194_304));
    assert_eq!(kind("table", "refresh_s"), Kind::Number(1, 86_400));
    assert_eq!(kind("sink", "max_bytes"), Kind::Size(4096, 1_099_511_627_776));
    assert_eq!(kind("control", "clients"), Kind::Number(1, 64));
    assert_eq!(kind("control", "socket"), Kind::Path(107));
}

#[test]
fn an_untyped_front_end_needs_no_toml() {
    let mut draft = Draft::new();
    for (section, key, text) in [
        ("kernel", "manage_sysctls", "0"),
        ("events", "reliable", "on"),
        ("events", "receive_buffer", "64KiB"),
        ("events", "groups", "destroy  new"),
        ("table", "capacity", "100"),
        ("sink", "path", "/mnt/a.jsonl"),
        ("log", "level", "debug"),
    ] {
        set(&mut draft, section, key, Value::Untyped(text)).unwrap();
    }
    let config = draft.finish(Faults::default()).unwrap();
    assert!(!config.kernel.manage_sysctls);
    assert_eq!(config.events.receive_buffer_bytes, 65_536);
    assert!(config.events.groups.new && !config.events.groups.update);
    assert_eq!((config.table.capacity, config.table.extensions), (100, 16));
    assert_eq!(config.sinks.len(), 1);
    assert_eq!(config.sinks[0].path(), Some(Path::new("/mnt/a.jsonl")));
    assert_eq!(config.log.level, log::LevelFilter::Debug);
}

#[test]
fn untyped_text_that_is_no_value_is_refused() {
    for (section, key, text) in [
        ("kernel", "manage_sysctls", "maybe"),
        ("kernel", "manage_sysctls", ""),
        ("table", "capacity", "+100"),
        ("table", "capacity", "1e3"),
        ("table", "capacity", ""),
        ("table", "capacity", "99999999999999999999999"),
        ("events", "groups", ""),
        ("events", "groups", "new update"),
        ("events", "groups", "destroy destroy"),
        ("log", "level", "INFO"),
    ] {
        let fault = with(section, key, Value::Untyped(text)).unwrap_err();
        assert!(fault.starts_with(&format!("test:7: {section}.{key} = ")), "{fault}");
        assert!(fault.contains("; allowed: "), "{fault}");
    }
}

#[test]
fn a_refused_value_changes_nothing() {
    let mut draft = Draft::new();
    assert!(set(&mut draft, "table", "capacity", Value::Integer(15)).is_err());
    assert!(set(&mut draft, "events", "groups", Value::Untyped("new bogus")).is_err());
    assert_eq!(draft.finish(Faults::default()).unwrap(), Config::default());
}

#[test]
fn paths_are_checked() {
    let path = |key: &str, text: &str| {
        with(if key == "socket" { "control" } else { "sink" }, key, Value::Text(text))
    };
    assert!(path("socket", &format!("/{}", "x".repeat(106))).is_ok());
    assert!(path("socket", &format!("/{}", "x".repeat(107))).unwrap_err().contains("too long"));
    assert!(path("path", "relative").unwrap_err().contains("begin with /"));
    assert!(path("path", "").unwrap_err().contains("begin with /"));
    assert!(path("path", "/tmp/").unwrap_err().contains("directory"));
    assert!(path("path", "/tmp/a\nb").unwrap_err().contains("control character"));
    assert!(path("path", "/tmp/a\0b").unwrap_err().contains("control character"));
    assert!(path("path", "/tmp/grün.jsonl").is_ok());
}

#[test]
fn two_sinks_do_not_share_a_file_nor_the_socket() {
    let mut draft = Draft::new();
    set(&mut draft, "sink", "path", Value::Text("/tmp/x")).unwrap();
    set(&mut draft, "sink", "path", Value::Text("/tmp/x")).unwrap();
    set(&mut draft, "sink", "path", Value::Text("/var/run/firmware-ctd.sock")).unwrap();
    let faults = draft.finish(Faults::default()).unwrap_err().to_string();
    let lines: Vec<_> = faults.lines().collect();
    assert_eq!(lines.len(), 2, "{faults}");
    assert_eq!(lines[0], "test:7: sink.path = \"/tmp/x\" is taken by another sink");
    assert!(lines[1].contains("is taken by control.socket"), "{faults}");
}

#[test]
fn extensions_follow_the_capacity_unless_given() {
    let extensions = |capacity: i64, extensions: i64| {
        let mut draft = Draft::new();
        set(&mut draft, "table", "capacity", Value::Integer(capacity)).unwrap();
        set(&mut draft, "table", "extensions", Value::Integer(extensions)).unwrap();
        draft.finish(Faults::default()).unwrap().table.extensions
    };
    assert_eq!(extensions(16_384, 0), 1_024);
    assert_eq!(extensions(100, 0), 16);
    assert_eq!(extensions(100, 3), 3);
}

#[test]
fn unwise_values_are_warned_of() {
    let warned = |change: fn(&mut Config), word: &str| {
        let mut config = Config::default();
        change(&mut config);
        let warnings = config.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(word), "{warnings:?}");
    };
    warned(|c| c.events.receive_buffer_bytes = 65_535, "events.receive_buffer");
    warned(|c| c.events.reliable = false, "events.reliable");
    warned(|c| c.table.extensions = 16_385, "table.extensions");
    warned(|c| c.sinks.clear(), "no sink");
    let mut quiet = Config::default();
    quiet.events.receive_buffer_bytes = 64 << 10;
    assert_eq!(quiet.warnings(), Vec::<&str>::new());
}

#[test]
fn what_a_reload_cannot_apply_is_named() {
    let old = Config::default();
    let restart = |change: &dyn Fn(&mut Config)| {
        let mut new = Config::default();
        change(&mut new);
        old.needs_restart(&new).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(restart(&|_| {}).is_empty());
    assert!(
        restart(&|c| {
            c.kernel.manage_sysctls = false;
            c.events.reliable = false;
            c.events.coalesce_ms = 0;
            c.table.refresh_s = 1;
            c.log.level = log::LevelFilter::Error;
            let Sink::File(sink) = &mut c.sinks[0] else { unreachable!("the default") };
            sink.max_bytes = 4096;
            sink.reliable = false;
            c.retry.max_delay_s = 1;
            c.retry.when_full = WhenFull::DropOldest;
            c.retry.dying_budget_percent = 20;
            c.retry.stall_s = 1;
        })
        .is_empty()
    );
    assert_eq!(
        restart(&|c| {
            c.events.groups.new = false;
            c.events.remember = 256;
            c.table.capacity = 16;
            c.table.extensions = 16;
            c.control.socket = "/x".into();
        }),
        [
            "events.groups",
            "events.remember",
            "table.capacity",
            "table.extensions",
            "control.socket"
        ]
    );
    let another = Sink::File(FileSink { path: "/y".into(), ..FileSink::default() });
    assert_eq!(restart(&|c| c.sinks = vec![another.clone()]), ["sink.path"]);
    assert_eq!(restart(&|c| c.sinks.push(another.clone())), ["sink.path"]);
    assert_eq!(restart(&|c| c.sinks.clear()), ["sink.path"]);
}

#[test]
fn sizes_are_read_exactly() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("512KiB", 524_288),
        ("1MiB", 1_048_576),
        ("2GiB", 2_147_483_648),
        ("1TiB", 1_099_511_627_776),
        ("0KiB", 0),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
    }
    for text in
        ["", "KiB", "1KB", "1kB", "1K", "1 KiB", "1kib", "-1", "+1", "1.5MiB", "0x10", "1KiB "]
    {
        assert!(Size::parse(text).is_err(), "{text}");
    }
    for text in ["18446744073709551616", "18446744073709551615KiB", "16777216TiB"] {
        assert_eq!(Size::parse(text), Err("is out of range"), "{text}");
    }
    assert!(Size::parse("512KB").unwrap_err().contains("KiB is 1024 bytes"));
}

proptest! {
    #[test]
    fn a_shown_size_is_read_as_the_same(bytes in any::<u64>(), shift in 0u32..64) {
        let size = Size((bytes >> shift) << (shift / 2));
        prop_assert_eq!(Size::parse(&size.to_string()), Ok(size));
    }

    #[test]
    fn a_range_decides_by_its_borders_alone(a: u32, b: u32, n: i64) {
        let (min, max) = (a.min(b), a.max(b));
        let inside = (i64::from(min)..=i64::from(max)).contains(&n);
        let checked = Kind::Number(min, max).check(Value::Integer(n));
        prop_assert_eq!(checked.is_ok(), inside);
        let text = n.to_string();
        prop_assert_eq!(Kind::Number(min, max).check(Value::Untyped(&text)), checked);
    }

    #[test]
    fn any_untyped_text_is_judged_without_panic(text in ".{0,60}") {
        for section in SCHEMA {
            for key in section.keys {
                let value = Value::Untyped(&text);
                if let Ok(Checked::Path(path)) = key.kind.check(value) {
                    let off = matches!(key.kind, Kind::Directory(_)) && path.is_empty();
                    prop_assert!(off || path.starts_with('/'));
                }
                let _ = with_in(section, Some((key.name, value)));
            }
        }
    }

    #[test]
    fn a_fault_is_one_line_without_control_characters(name in "\\PC{0,80}|[\\x00-\\x1f]{1,9}") {
        let texts = [
            with("table", "capacity", Value::Text(&name)).unwrap_err(),
            with("table", &format!("{name}?"), Value::Bool(true)).unwrap_err(),
            with(&format!("{name}?"), "capacity", Value::Bool(true)).unwrap_err(),
        ];
        for text in texts {
            prop_assert!(!text.contains(char::is_control), "{:?}", text);
            prop_assert!(text.chars().count() < 250, "{}", text);
        }
    }
}
