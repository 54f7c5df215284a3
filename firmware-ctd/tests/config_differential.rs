//! The configuration's own reading of TOML events against the tree of the crate `toml`.
//!
//! Both must agree on which documents are valid, and on what they mean.

use std::path::Path;

use firmware_ctd::config::draft::Draft;
use firmware_ctd::config::schema::SCHEMA;
use firmware_ctd::config::value::Value;
use firmware_ctd::config::{Config, Fault, Faults, Place, document};
use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

/// What the events say.
fn by_events(text: &str) -> Result<Config, Faults> {
    let mut draft = Draft::new();
    let mut faults = Faults::default();
    document::read(Path::new("x"), text, &mut draft, &mut faults);
    draft.finish(faults)
}

/// What the tree says; nothing if it is not valid.
fn by_tree(text: &str) -> Option<Config> {
    let document = DeTable::parse(text).ok()?;
    let mut draft = Draft::new();
    for (name, value) in document.get_ref().iter() {
        let listed = SCHEMA.iter().find(|s| s.name == name.get_ref())?.variant.is_some();
        match value.get_ref() {
            DeValue::Table(table) if !listed => section(&mut draft, name.get_ref(), table)?,
            DeValue::Array(items) if listed => {
                draft.replace_sinks();
                for item in items.iter() {
                    let DeValue::Table(table) = item.get_ref() else { return None };
                    section(&mut draft, name.get_ref(), table)?;
                }
            }
            _ => return None,
        }
    }
    draft.finish(Faults::default()).ok()
}

fn section(draft: &mut Draft, name: &str, table: &DeTable<'_>) -> Option<()> {
    let place = Place::whole(Path::new("x"));
    let variant = match table.get("type") {
        Some(kind) => Some(kind.get_ref().as_str()?),
        None => None,
    };
    let at = draft.open(name, variant.filter(|_| name == "sink"), place).ok()?;
    for (key, value) in table.iter() {
        let items: Vec<_> = match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|item| typed(item.get_ref(), &[])).collect(),
            _ => Vec::new(),
        };
        let set: Result<(), Fault> =
            draft.set(at, key.get_ref(), typed(value.get_ref(), &items), place);
        set.ok()?;
    }
    Some(())
}

fn typed<'v>(value: &'v DeValue<'_>, items: &'v [Value<'v>]) -> Value<'v> {
    match value {
        DeValue::String(text) => Value::Text(text),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other("", "is too large"), Value::Integer),
        DeValue::Array(_) => Value::List(items),
        _ => Value::Other("", "is something else"),
    }
}

/// Lines that together often make valid documents, in many of TOML's forms.
const LINES: [&str; 58] = [
    "[table]",
    "[ table ] # here",
    "[\"table\"]",
    "[events]",
    "[kernel]",
    "[control]",
    "[log]",
    "[[sink]]",
    "[[sink]]\ntype = 'file'",
    "[[sink]]\ntype = 'file'\npath = '/a'",
    "[[ 'sink' ]]\npath = '/b'\ntype = \"file\"",
    "[sink]",
    "[[table]]",
    "[table.capacity]",
    "[sink.path]",
    "[retry]",
    "[]",
    "type = 'file'",
    "path = '/c'",
    "path = \"/d\\u00e9\\t\"",
    "path = '''/e'''",
    "path = \"\"\"\\\n   /f\"\"\"",
    "max_bytes = '4KiB'",
    "reliable = false",
    "capacity = 100",
    "capacity = 0x1_00",
    "capacity = +1_000",
    "capacity = 0o7777",
    "capacity = 0b11111",
    "capacity = 1e2",
    "capacity = 1979-05-27",
    "capacity = 99999999999999999999",
    "capacity = 012",
    "capacity.x = 100",
    "\"capacity\" = 200",
    "'refresh_s' = 3",
    "refresh_s=4#comment",
    "coalesce_ms = 7",
    "groups = ['destroy']",
    "groups = [ 'new', # first\n 'destroy', ]",
    "groups = ['destroy' 'new']",
    "groups = [['destroy']]",
    "groups = [{a = 1}]",
    "groups = []",
    "level = 'debug'",
    "table.capacity = 300",
    "table.refresh_s = 5",
    "table . capacity = 301",
    "events = { coalesce_ms = 3, groups = ['destroy', 'update'] }",
    "events = {\n coalesce_ms = 4,\n}",
    "events.coalesce_ms = 2",
    "table = {}",
    "table = { capacity.x = 100 }",
    "sink = []",
    "sink = [{ type = 'file', path = '/g' }, { path = '/h', type = 'file', }]",
    "sink = [{ type = 'file' }, 5]",
    "sink = [{ type = 'file', path = { x = 1 } }]",
    "table = 5",
];

fn agree(text: &str) {
    let events = by_events(text);
    let tree = by_tree(text);
    match (&events, &tree) {
        (Ok(events), Some(tree)) => assert_eq!(events, tree, "{text}"),
        (Err(faults), None) => assert!(!faults.is_empty()),
        _ => panic!("events say {events:?}, the tree says {tree:?}, of:\n{text}"),
    }
}

#[test]
fn every_line_alone_and_every_pair_is_read_alike() {
    for a in LINES {
        agree(a);
        for b in LINES {
            agree(&format!("{a}\n{b}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn documents_are_read_alike(lines in prop::collection::vec(prop::sample::select(&LINES), 0..7)) {
        agree(&lines.join("\n"));
    }

    #[test]
    fn damaged_documents_are_read_alike(
        lines in prop::collection::vec(prop::sample::select(&LINES), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}=.,'\"# \na1\\\\]?"), 1..3),
    ) {
        let mut letters: Vec<String> = lines.join("\n").chars().map(String::from).collect();
        for (at, letter) in damage {
            let at = at.index(letters.len());
            letters[at] = letter;
        }
        agree(&letters.concat());
    }
}
