//! The TOML front-end: finds sections, keys and values with their lines.
//!
//! Syntax is the crate `toml`'s, which recovers from faults, so that one faulty line does not
//! hide the next. What is wrong on a line with a syntax fault is not judged any further.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::draft::{self, Draft};
use super::schema::SCHEMA;
use super::value::{Quoted, Value};
use super::{Fault, Faults, Place};

/// Longest file that is read, in bytes.
pub const LONGEST: u64 = 256 << 10;
/// Most faults that are reported of one file.
pub const MOST_FAULTS: usize = 64;

/// Reads `path` over what `draft` holds; faults go to `faults`.
pub fn read(path: &Path, draft: &mut Draft, faults: &mut Faults) {
    match text_of(path) {
        Ok(text) => read_text(path, &text, draft, faults),
        Err(fault) => faults.push(fault),
    }
}

/// Reads `text`, which was found in `path`, over what `draft` holds; faults go to `faults`.
pub fn read_text(path: &Path, text: &str, draft: &mut Draft, faults: &mut Faults) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { path, lines: Lines::of(text), draft, faults: Vec::new() };
    reader.draft.begin_file();
    for error in &errors {
        let place = reader.place(error.span().unwrap_or_default());
        reader.faults.push(place.fault(syntax_message(error.message())));
    }
    let broken: Vec<_> = reader.faults.iter().map(|fault| fault.line).collect();
    reader.sections(document.get_ref());
    let mut found = reader.faults;
    let mut index = 0;
    found.retain(|fault| {
        index += 1;
        index <= broken.len() || broken.binary_search(&fault.line).is_err()
    });
    faults.append(found, MOST_FAULTS);
}

fn syntax_message(text: &str) -> String {
    format!("not TOML: {}", text.trim().replace('\n', "; "))
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let whole = Place::whole(path);
    let unreadable = |error: std::io::Error| whole.fault(format!("cannot be read: {error}"));
    // Without O_NONBLOCK opening a named pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(unreadable)?;
    let kind = file.metadata().map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(whole.fault("is a directory; name a file".to_owned()));
    }
    if !kind.is_file() {
        return Err(whole.fault("is not a regular file".to_owned()));
    }
    let bytes = bytes_of(&file).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(whole.fault("is longer than 256 KiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(good).filter(|b| **b == b'\n').count();
        Place::line(path, u32::try_from(line).unwrap_or(u32::MAX))
            .fault("is not UTF-8 text".to_owned())
    })
}

fn bytes_of(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(i, _)| i + 1)).collect())
    }

    /// The line of byte `offset`, counted from 1.
    fn number(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }
}

struct Reader<'r> {
    path: &'r Path,
    lines: Lines,
    draft: &'r mut Draft,
    faults: Vec<Fault>,
}

impl<'r> Reader<'r> {
    fn place(&self, span: Range<usize>) -> Place<'r> {
        Place::line(self.path, self.lines.number(span.start))
    }

    fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.faults.push(fault)).ok()
    }

    fn sections(&mut self, document: &DeTable<'_>) {
        for (name, value) in document.iter() {
            let place = self.place(name.span());
            let name: &str = name.get_ref();
            match SCHEMA.iter().find(|section| section.name == name) {
                None => self.faults.push(place.fault(unknown_top(name, value.get_ref()))),
                Some(section) if section.variant.is_some() => self.list(name, value, place),
                Some(_) => self.single(name, value.get_ref(), place),
            }
        }
    }

    fn single(&mut self, name: &str, value: &DeValue<'_>, place: Place<'_>) {
        match value {
            DeValue::Table(table) => self.section(name, None, table, place),
            DeValue::Array(_) => {
                self.faults.push(
                    place.fault(format!("[{name}] stands once; write it with single brackets")),
                );
            }
            _ => self.faults.push(place.fault(format!("{name} is a section; write [{name}]"))),
        }
    }

    fn list(&mut self, name: &str, value: &Spanned<DeValue<'_>>, place: Place<'_>) {
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("{name} is a list of sections; write [[{name}]]");
            return self.faults.push(place.fault(message));
        };
        self.draft.replace_sinks();
        for item in items.iter() {
            let place = self.place(item.span());
            match item.get_ref() {
                DeValue::Table(table) => self.variant(name, table, place),
                _ => self.faults.push(place.fault(format!("{name} holds what is no section"))),
            }
        }
    }

    fn variant(&mut self, name: &str, table: &DeTable<'_>, place: Place<'_>) {
        let Some(kind) = table.get("type") else {
            return self.section(name, None, table, place);
        };
        let place = self.place(kind.span());
        match kind.get_ref() {
            DeValue::String(kind) => self.section(name, Some(kind), table, place),
            _ => self.faults.push(place.fault(format!("{name}.type must be a string"))),
        }
    }

    fn section(
        &mut self,
        name: &str,
        variant: Option<&str>,
        table: &DeTable<'_>,
        place: Place<'_>,
    ) {
        let opened = self.draft.open(name, variant, place);
        let Some(at) = self.keep(opened) else { return };
        for (key, value) in table.iter() {
            let place = self.place(key.span());
            let items = items_of(value.get_ref());
            let result =
                self.draft.set(at, key.get_ref(), value_of(value.get_ref(), &items), place);
            self.keep(result);
        }
    }
}

fn unknown_top(name: &str, value: &DeValue<'_>) -> String {
    let mut homes = SCHEMA.iter().filter(|s| s.keys.iter().any(|key| key.name == name));
    match (value, homes.next()) {
        (DeValue::Table(_) | DeValue::Array(_), _) | (_, None) => draft::unknown_section(name),
        (_, Some(home)) => format!("key {} belongs to [{}]", Quoted(name), home.name),
    }
}

/// The elements of a list; nothing for other values.
fn items_of<'v>(value: &'v DeValue<'_>) -> Vec<Value<'v>> {
    match value {
        DeValue::Array(list) => list_of(list),
        _ => Vec::new(),
    }
}

fn list_of<'v>(list: &'v DeArray<'_>) -> Vec<Value<'v>> {
    list.iter().map(|item| value_of(item.get_ref(), &[])).collect()
}

fn value_of<'v>(value: &'v DeValue<'_>, items: &'v [Value<'v>]) -> Value<'v> {
    match value {
        DeValue::String(text) => Value::Text(text),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other(integer.as_str(), "is out of range"), Value::Integer),
        DeValue::Array(_) => Value::List(items),
        DeValue::Float(float) => Value::Other(float.as_str(), "is a floating-point number"),
        DeValue::Datetime(_) => Value::Other("...", "is a date"),
        DeValue::Table(_) => Value::Other("{...}", "is a section"),
    }
}
