//! Every section and key of the configuration, once.
//!
//! Reading, checking, the defaults, the reference in the README and what a reload can apply all
//! come from [`SCHEMA`]. Defaults are text, read as an untyped front-end's values are. Explanations
//! are for the README and the default file: a router's program is built without them.

mod keys;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use log::LevelFilter;

use super::value::{Checked, Kind};
use super::{Config, Groups, Keep, LogTarget, Transport, WhenFull};
pub(super) use keys::SINK_TYPES;
pub use keys::{LATER_SECTIONS, SCHEMA};

/// One section.
#[derive(Debug)]
pub struct Section {
    /// `table` of `[table]`.
    pub name: &'static str,
    /// The value of `type`, for a section that may stand several times (`[[sink]]`).
    pub variant: Option<&'static str>,
    /// One line of explanation; empty without the feature `reference`.
    pub help: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// As it is written: `[table]`, `[[sink]] of type "ipfix"`.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variant {
            None => write!(f, "[{}]", self.name),
            Some(variant) => write!(f, "[[{}]] of type \"{variant}\"", self.name),
        }
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its default as an untyped value.
    pub default: &'static str,
    /// Whether a reload (SIGHUP) applies a change; otherwise a restart does.
    pub live: bool,
    /// One line of explanation; empty without the feature `reference`.
    pub help: &'static str,
    slot: Find,
}

/// Finds the value of a key; the number counts sections of one name.
type Find = fn(&mut Config, usize) -> Option<Slot<'_>>;

/// Where the value of a key lies in a [`Config`].
#[derive(Debug, PartialEq)]
pub(super) enum Slot<'a> {
    Flag(&'a mut bool),
    U32(&'a mut u32),
    U64(&'a mut u64),
    Path(&'a mut PathBuf),
    Target(&'a mut LogTarget),
    Level(&'a mut LevelFilter),
    Groups(&'a mut Groups),
    WhenFull(&'a mut WhenFull),
    Endpoint(&'a mut SocketAddr),
    Transport(&'a mut Transport),
    Keep(&'a mut Keep),
}

impl Key {
    /// Puts `value` where this key's value lies; `instance` counts sections of one name.
    pub(super) fn store(&self, config: &mut Config, instance: usize, value: Checked<'_>) {
        if let Some(slot) = (self.slot)(config, instance) {
            slot.store(value);
        }
    }

    /// The default as TOML writes it.
    #[must_use]
    pub fn toml_default(&self) -> impl fmt::Display {
        TomlDefault(self)
    }

    fn differs(&self, a: &mut Config, b: &mut Config, instance: usize) -> bool {
        (self.slot)(a, instance) != (self.slot)(b, instance)
    }
}

impl Slot<'_> {
    /// Takes over the value of the same key of another configuration.
    fn take(self, from: Self) {
        match (self, from) {
            (Self::Flag(to), Self::Flag(from)) => *to = *from,
            (Self::U32(to), Self::U32(from)) => *to = *from,
            (Self::U64(to), Self::U64(from)) => *to = *from,
            (Self::Path(to), Self::Path(from)) => to.clone_from(from),
            (Self::Target(to), Self::Target(from)) => *to = *from,
            (Self::Level(to), Self::Level(from)) => *to = *from,
            (Self::Groups(to), Self::Groups(from)) => *to = *from,
            (Self::WhenFull(to), Self::WhenFull(from)) => *to = *from,
            (Self::Endpoint(to), Self::Endpoint(from)) => *to = *from,
            (Self::Transport(to), Self::Transport(from)) => *to = *from,
            (Self::Keep(to), Self::Keep(from)) => to.clone_from(from),
            _ => {}
        }
    }

    /// The kind of the key and its slot belong together; a test sets every key of the schema.
    fn store(self, value: Checked<'_>) {
        match (self, value) {
            (Self::Flag(slot), Checked::Flag(flag)) => *slot = flag,
            (Self::U32(slot), Checked::Number(n)) => *slot = u32::try_from(n).unwrap_or(u32::MAX),
            (Self::U64(slot), Checked::Number(n)) => *slot = n,
            (Self::Path(slot), Checked::Path(text)) => *slot = PathBuf::from(text),
            (Self::Target(slot), Checked::Choice(which)) => *slot = target(which),
            (Self::Level(slot), Checked::Choice(which)) => *slot = level(which),
            (Self::Groups(slot), Checked::Choices(bits)) => *slot = groups(bits),
            (Self::WhenFull(slot), Checked::Choice(which)) => *slot = when_full(which),
            (Self::Endpoint(slot), Checked::Endpoint(address)) => *slot = address,
            (Self::Transport(slot), Checked::Choice(which)) => *slot = transport(which),
            (Self::Keep(slot), Checked::Rules(keep)) => *slot = keep,
            _ => {}
        }
    }
}

const fn when_full(which: usize) -> WhenFull {
    if which == 0 { WhenFull::Hold } else { WhenFull::DropOldest }
}

const fn transport(which: usize) -> Transport {
    if which == 0 { Transport::Tcp } else { Transport::Udp }
}

const fn target(which: usize) -> LogTarget {
    if which == 0 { LogTarget::Stderr } else { LogTarget::Syslog }
}

const fn level(which: usize) -> LevelFilter {
    match which {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    }
}

const fn groups(bits: u32) -> Groups {
    Groups { new: bits & 1 != 0, update: bits & 2 != 0, destroy: bits & 4 != 0 }
}

/// The full name of a key, shown as `table.capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The section.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.key)
    }
}

/// Every key that differs and that a reload cannot apply.
pub(super) fn fixed_changes(old: &Config, new: &Config) -> Vec<KeyName> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let most = old.sinks.len().max(new.sinks.len());
    let mut changed = Vec::new();
    for section in SCHEMA {
        let instances = if section.variant.is_some() { most } else { 1 };
        for key in section.keys.iter().filter(|key| !key.live) {
            let name = KeyName { section: section.name, key: key.name };
            let differs = (0..instances).any(|i| key.differs(&mut old, &mut new, i));
            if differs && !changed.contains(&name) {
                changed.push(name);
            }
        }
    }
    changed
}

/// Takes over what a reload applies.
pub(super) fn take_live(old: &mut Config, new: &Config) {
    let mut new = new.clone();
    let most = old.sinks.len().max(new.sinks.len());
    for section in SCHEMA {
        let instances = if section.variant.is_some() { most } else { 1 };
        for key in section.keys.iter().filter(|key| key.live) {
            for i in 0..instances {
                if let (Some(to), Some(from)) = ((key.slot)(old, i), (key.slot)(&mut new, i)) {
                    to.take(from);
                }
            }
        }
    }
}

/// Writes the reference of all keys as Markdown.
///
/// # Errors
/// Those of `out`.
pub fn reference(out: &mut dyn fmt::Write) -> fmt::Result {
    for (i, section) in SCHEMA.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        match section.variant {
            None => write!(out, "{gap}**`[{}]`**", section.name)?,
            Some(v) => write!(out, "{gap}**`[[{}]]`** with `type = \"{v}\"`", section.name)?,
        }
        writeln!(out, " – {}\n", section.help)?;
        out.write_str(
            "| key | allowed | default | applied by | meaning |\n|---|---|---|---|---|\n",
        )?;
        for key in section.keys {
            write!(out, "| `{}` | {} | `{}` ", key.name, key.kind, key.toml_default())?;
            let by = if key.live { "reload" } else { "restart" };
            writeln!(out, "| {by} | {} |", key.help)?;
        }
    }
    Ok(())
}

/// The default of a key as TOML writes it.
struct TomlDefault<'a>(&'a Key);

impl fmt::Display for TomlDefault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.default;
        match self.0.kind {
            Kind::Flag | Kind::Number(..) => f.write_str(text),
            Kind::Size(..)
            | Kind::Path(_)
            | Kind::Directory(_)
            | Kind::Choice(_)
            | Kind::Endpoint => {
                write!(f, "\"{text}\"")
            }
            Kind::Choices(_) => list(f, text, ' '),
            Kind::Rules => list(f, text, ','),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, text: &str, between: char) -> fmt::Result {
    for (i, word) in text.split(between).enumerate() {
        write!(f, "{}\"{word}\"", if i == 0 { "[" } else { ", " })?;
    }
    f.write_str("]")
}
