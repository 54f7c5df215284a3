//! A configuration in the making: what every front-end feeds.
//!
//! A front-end opens a section ([`Draft::open`]) and sets its keys ([`Draft::set`]), each with
//! the place where it was written. What a fault refuses leaves the draft as it was.
//! [`Draft::finish`] checks what no key can tell alone.

use std::path::PathBuf;

use super::schema::{self, Key, SCHEMA, Section};
use super::value::{Kind, Quoted, Value};
use super::{Config, Fault, Faults, FileSink, Log, LogTarget, Place, Sink};
use crate::nearest::nearest;

/// Most sinks of a configuration.
pub const MOST_SINKS: usize = 16;

/// A configuration in the making.
#[derive(Debug)]
pub struct Draft {
    config: Config,
    /// Where each sink was written; shorter than the list while that is the default.
    sink_places: Vec<(PathBuf, Option<u32>)>,
    sinks_replaced: bool,
}

/// A section that values are set in.
#[derive(Clone, Copy, Debug)]
pub struct Instance {
    section: &'static Section,
    index: usize,
}

impl Instance {
    /// What the section may hold.
    #[must_use]
    pub const fn section(&self) -> &'static Section {
        self.section
    }
}

impl Draft {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        let sinks = vec![Sink::File(FileSink::default())];
        let config = Config {
            kernel: super::Kernel::default(),
            events: super::Events::default(),
            table: super::Table::default(),
            retry: super::Retry::default(),
            sinks,
            control: super::Control::default(),
            log: Log { target: LogTarget::Stderr, level: log::LevelFilter::Info },
        };
        let mut draft = Self { config, sink_places: Vec::new(), sinks_replaced: false };
        SCHEMA.iter().for_each(|section| draft.set_defaults(Instance { section, index: 0 }));
        draft
    }

    fn set_defaults(&mut self, at: Instance) {
        for key in at.section.keys {
            // A test checks that the defaults of the schema are valid.
            if let Ok(value) = key.kind.check(Value::Untyped(key.default)) {
                key.store(&mut self.config, at.index, value);
            }
        }
    }

    /// Begins a file that overlays what was read so far.
    pub fn begin_file(&mut self) {
        self.sinks_replaced = false;
    }

    /// Removes the sinks of earlier files, once a file.
    pub fn replace_sinks(&mut self) {
        if !self.sinks_replaced {
            self.config.sinks.clear();
            self.sink_places.clear();
            self.sinks_replaced = true;
        }
    }

    /// Opens section `name`; `variant` is the value of `type` where the section has one.
    ///
    /// # Errors
    /// The section is not known or not built in, its type is missing or not known, or there are
    /// [`MOST_SINKS`] already.
    pub fn open(
        &mut self,
        name: &str,
        variant: Option<&str>,
        place: Place<'_>,
    ) -> Result<Instance, Fault> {
        let section = find_section(name, variant).map_err(|message| place.fault(message))?;
        if section.variant.is_none() {
            return Ok(Instance { section, index: 0 });
        }
        self.replace_sinks();
        if self.config.sinks.len() == MOST_SINKS {
            return Err(place.fault(format!("more than {MOST_SINKS} sinks")));
        }
        let at = Instance { section, index: self.config.sinks.len() };
        self.config.sinks.push(Sink::File(FileSink::default()));
        self.sink_places.push((place.file.to_path_buf(), place.line));
        self.set_defaults(at);
        Ok(at)
    }

    /// Sets `key` of the section opened as `at`.
    ///
    /// # Errors
    /// The key is not known, or the value is not allowed.
    pub fn set(
        &mut self,
        at: Instance,
        key: &str,
        value: Value<'_>,
        place: Place<'_>,
    ) -> Result<(), Fault> {
        let section = at.section;
        let Some(known) = section.keys.iter().find(|known| known.name == key) else {
            return Err(place.fault(unknown_key(section, key)));
        };
        let checked = known
            .kind
            .check(value)
            .map_err(|wrong| place.fault(not_allowed(section.name, known, value, wrong)))?;
        known.store(&mut self.config, at.index, checked);
        if let (Kind::Path(_), Some(known_at)) = (known.kind, self.sink_places.get_mut(at.index)) {
            if section.variant.is_some() {
                known_at.1 = place.line;
            }
        }
        Ok(())
    }

    /// The checked configuration, if `faults` and the check of the whole find none.
    ///
    /// # Errors
    /// `faults` and those of the whole.
    pub fn finish(self, mut faults: Faults) -> Result<Config, Faults> {
        for (i, sink) in self.config.sinks.iter().enumerate() {
            let others = self.config.sinks.get(..i).unwrap_or_default();
            let taken = if others.iter().any(|other| other.path() == sink.path()) {
                "another sink"
            } else if self.config.control.socket == sink.path() {
                "control.socket"
            } else {
                continue;
            };
            let (file, line) = self.sink_places.get(i).cloned().unwrap_or_default();
            let path = sink.path().to_string_lossy();
            let message = format!("sink.path = {} is taken by {taken}", Quoted(&path));
            faults.push(Fault { file, line, message });
        }
        if faults.is_empty() { Ok(self.into_config()) } else { Err(faults) }
    }

    /// The configuration without the check of the whole, for the defaults.
    pub(super) fn into_config(self) -> Config {
        let mut config = self.config;
        if config.table.extensions == 0 {
            config.table.extensions = (config.table.capacity / 16).max(16);
        }
        config
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}

fn find_section(name: &str, variant: Option<&str>) -> Result<&'static Section, String> {
    let mut named = SCHEMA.iter().filter(|section| section.name == name).peekable();
    let Some(first) = named.peek() else {
        return Err(unknown_section(name));
    };
    if first.variant.is_none() {
        return Ok(first);
    }
    let Some(wanted) = variant else {
        return Err(format!("[[{name}]] lacks its type; allowed: {}", first_kind(first)));
    };
    named
        .find(|section| section.variant == Some(wanted))
        .ok_or_else(|| unknown_variant(name, wanted))
}

fn first_kind(section: &Section) -> Kind {
    section.keys.first().map_or(Kind::Flag, |key| key.kind)
}

/// The fault of a section that this version does not have.
pub(super) fn unknown_section(name: &str) -> String {
    if schema::LATER_SECTIONS.contains(&name) {
        return format!("[{name}] is not built into this version; remove the section");
    }
    let names = || SCHEMA.iter().map(|section| section.name);
    unknown("section", name, "", &mut names(), &mut names())
}

fn unknown_variant(name: &str, wanted: &str) -> String {
    if schema::LATER_SINKS.contains(&wanted) {
        return format!("{name}.type = {} is not built into this version", Quoted(wanted));
    }
    let names = || SCHEMA.iter().filter(|s| s.name == name).filter_map(|s| s.variant);
    unknown("type", wanted, " of sink", &mut names(), &mut names())
}

/// The fault of a key that `section` does not have.
pub(super) fn unknown_key(section: &Section, key: &str) -> String {
    let names = || section.keys.iter().map(|known| known.name);
    let mut homes = SCHEMA.iter().filter(|s| s.keys.iter().any(|known| known.name == key));
    if let Some(home) = homes.next() {
        let (quoted, here) = (Quoted(key), section.name);
        return format!("unknown key {quoted} in [{here}]; it belongs to [{}]", home.name);
    }
    let place = format!(" in [{}]", section.name);
    unknown("key", key, &place, &mut names(), &mut names())
}

/// "unknown key "x" in [y]; did you mean ...", or all names there are.
fn unknown(
    what: &str,
    word: &str,
    place: &str,
    names: &mut dyn Iterator<Item = &'static str>,
    again: &mut dyn Iterator<Item = &'static str>,
) -> String {
    let mut message = format!("unknown {what} {}{place}; ", Quoted(word));
    if let Some(name) = nearest(word, names) {
        message += "did you mean \"";
        message += name;
        message += "\"?";
        return message;
    }
    message += "known: ";
    for (i, name) in again.enumerate() {
        message += if i == 0 { "" } else { ", " };
        message += name;
    }
    message
}

/// The fault of a key whose value is `wrong`.
pub(super) fn not_allowed(section: &str, key: &Key, value: Value<'_>, wrong: &str) -> String {
    format!("{section}.{} = {value} {wrong}; allowed: {}", key.name, key.kind)
}
