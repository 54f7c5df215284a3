//! A configuration in the making: what every front-end feeds.
//!
//! A front-end opens a section ([`Draft::open`]) and sets its keys ([`Draft::set`]), each with
//! the place where it was written. What a fault refuses leaves the draft as it was.
//! [`Draft::finish`] checks what no key can tell alone.

use std::path::PathBuf;

use super::schema::{self, Key, SCHEMA, Section};
use super::value::{Checked, Kind, Quoted, Value};
use super::{Config, Fault, Faults, FileSink, Log, LogTarget, Place, Sink};
use crate::ipfix::Exporter;
use crate::nearest::nearest;

/// Most sinks of a configuration.
pub const MOST_SINKS: usize = 16;

/// A configuration in the making.
#[derive(Debug)]
pub struct Draft {
    config: Config,
    /// Where each sink was written; shorter than the list while that is the default.
    sink_places: Vec<SinkPlace>,
    sinks_replaced: bool,
}

/// Where a sink was written.
#[derive(Clone, Debug, Default)]
struct SinkPlace {
    file: PathBuf,
    /// The line that says where it sends to, or the section's.
    line: Option<u32>,
    /// The line that says `reliable = true`.
    reliable: Option<Option<u32>>,
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
            checkpoint: super::Checkpoint::default(),
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
        self.config.sinks.push(Sink::of_kind(section.variant.unwrap_or_default()));
        let (file, line) = (place.file.to_path_buf(), place.line);
        self.sink_places.push(SinkPlace { file, line, reliable: None });
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
        let is_true = checked == Checked::Flag(true);
        known.store(&mut self.config, at.index, checked);
        if let (Some(at), true) = (self.sink_places.get_mut(at.index), section.variant.is_some()) {
            match known.kind {
                Kind::Path(_) | Kind::Endpoint => at.line = place.line,
                Kind::Flag if is_true => at.reliable = Some(place.line),
                _ => {}
            }
        }
        Ok(())
    }

    /// The checked configuration, if `faults` and the check of the whole find none.
    ///
    /// # Errors
    /// `faults` and those of the whole.
    pub fn finish(mut self, mut faults: Faults) -> Result<Config, Faults> {
        for (i, sink) in self.config.sinks.iter_mut().enumerate() {
            let place = self.sink_places.get(i).cloned().unwrap_or_default();
            let mut fault = |line, message| {
                faults.push(Fault { file: place.file.clone(), line, message });
            };
            if let Some(why) = sink.best_effort_by_nature() {
                match place.reliable {
                    Some(line) => fault(line, format!("sink.reliable = true {why}")),
                    None => sink.make_best_effort(),
                }
            }
            if let Sink::Ipfix(ipfix) = sink {
                let number = ipfix.enterprise;
                if number != 0 && !Exporter::is_usable_enterprise(number) {
                    let message = format!("sink.enterprise = {number} is that of RFC 5103");
                    fault(place.line, message);
                }
            }
        }
        self.find_shared_targets(&mut faults);
        if faults.is_empty() { Ok(self.into_config()) } else { Err(faults) }
    }

    /// No two sinks share a target, and none has the daemon's own.
    fn find_shared_targets(&self, faults: &mut Faults) {
        for (i, sink) in self.config.sinks.iter().enumerate() {
            let others = self.config.sinks.get(..i).unwrap_or_default();
            let socket = &self.config.control.socket;
            let target = sink.target();
            let taken = if others.iter().any(|other| other.target() == target) {
                "another sink"
            } else if sink.path() == Some(socket) {
                "control.socket"
            } else if sink.path() == Some(&socket.with_extension("state")) {
                "what outlives the daemon beside control.socket"
            } else {
                continue;
            };
            let key = match sink {
                Sink::File(_) | Sink::Unix(_) => "path",
                Sink::Syslog(_) => "type",
                Sink::Ipfix(_) => "collector",
            };
            let SinkPlace { file, line, .. } = self.sink_places.get(i).cloned().unwrap_or_default();
            let message = format!("sink.{key} = {} is taken by {taken}", Quoted(&target));
            faults.push(Fault { file, line, message });
        }
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
        let types = Kind::Choice(schema::SINK_TYPES);
        return Err(format!("[[{name}]] lacks its type; allowed: {types}"));
    };
    named
        .find(|section| section.variant == Some(wanted))
        .ok_or_else(|| unknown_variant(name, wanted))
}

/// The fault of a section that this version does not have.
pub(super) fn unknown_section(name: &str) -> String {
    if schema::LATER_SECTIONS.contains(&name) {
        return format!("[{name}] is not built into this version; remove the section");
    }
    // A section of several types is one name.
    let first = |(i, s): &(usize, &Section)| SCHEMA[..*i].iter().all(|other| other.name != s.name);
    let names = || SCHEMA.iter().enumerate().filter(first).map(|(_, section)| section.name);
    unknown("section", name, "", &mut names(), &mut names())
}

fn unknown_variant(name: &str, wanted: &str) -> String {
    let names = || SCHEMA.iter().filter(|s| s.name == name).filter_map(|s| s.variant);
    unknown("type", wanted, " of sink", &mut names(), &mut names())
}

/// The fault of a key that `section` does not have.
pub(super) fn unknown_key(section: &Section, key: &str) -> String {
    let names = || section.keys.iter().map(|known| known.name);
    let mut homes = SCHEMA.iter().filter(|s| s.keys.iter().any(|known| known.name == key));
    if let Some(home) = homes.next() {
        let mut message = format!("unknown key {} in {section}; it belongs to {home}", Quoted(key));
        for home in homes {
            message += &format!(" or {home}");
        }
        return message;
    }
    let place = format!(" in {section}");
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
