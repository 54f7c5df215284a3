//! Values as a front-end delivers them, and the kinds that a key may be of.
//!
//! A typed front-end (TOML) gives [`Value::Bool`], [`Value::Integer`], [`Value::Text`] and
//! [`Value::List`]; one that knows only text (UCI, the defaults of the schema) gives
//! [`Value::Untyped`], which each [`Kind`] reads in its own way.

use std::fmt;
use std::net::SocketAddr;

use crate::checkpoint::Keep;
use crate::checkpoint::keep::{MOST_RULES, RuleFault};

/// A value as written by the user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// A list.
    List(&'a [Self]),
    /// Text of a format without types; a list is separated by white space.
    Untyped(&'a str),
    /// Something that no key takes: its text, and what is wrong with it ("has a fraction").
    Other(&'a str, &'static str),
}

/// Longest part of a string that a fault shows, in characters.
const SHOWN: usize = 40;
/// Most items of a list that a fault shows.
const SHOWN_ITEMS: usize = 4;

/// As a fault shows it: on one line, cut, without control characters.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => f.write_str(if *flag { "true" } else { "false" }),
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) | Self::Untyped(text) => Quoted(text).fmt(f),
            Self::List(items) => list(f, items),
            Self::Other(text, _) => cut(f, text),
        }
    }
}

/// The first items of a list.
fn list(f: &mut fmt::Formatter<'_>, items: &[Value<'_>]) -> fmt::Result {
    f.write_str("[")?;
    for (i, item) in items.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        if i == SHOWN_ITEMS {
            f.write_str("...")?;
            break;
        }
        fmt::Display::fmt(item, f)?;
    }
    f.write_str("]")
}

/// A foreign string in quotes: cut after 40 characters, control characters escaped.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        cut(f, self.0)?;
        f.write_str("\"")
    }
}

fn cut(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (i, letter) in text.chars().enumerate() {
        if i == SHOWN {
            return f.write_str("...");
        }
        if letter.is_control() || letter == '"' || letter == '\\' {
            write!(f, "{}", letter.escape_default())?;
        } else {
            fmt::Write::write_char(f, letter)?;
        }
    }
    Ok(())
}

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Flag,
    /// An integer from `.0` to `.1`.
    Number(u32, u32),
    /// A number of bytes from `.0` to `.1`.
    Size(u64, u64),
    /// An absolute path of at most so many bytes.
    Path(usize),
    /// One of these.
    Choice(&'static [&'static str]),
    /// Some of these, each once; the last always.
    Choices(&'static [&'static str]),
    /// An address with a port.
    Endpoint,
    /// An absolute path of a directory of at most so many bytes, or nothing.
    Directory(usize),
    /// Rules for what is kept, each a string of filter words.
    Rules,
}

/// A value that its kind allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked<'a> {
    /// Of a [`Kind::Flag`].
    Flag(bool),
    /// Of a [`Kind::Number`] or [`Kind::Size`].
    Number(u64),
    /// Of a [`Kind::Path`].
    Path(&'a str),
    /// Of a [`Kind::Choice`]: which.
    Choice(usize),
    /// Of a [`Kind::Choices`]: a bit each, the first in the lowest.
    Choices(u32),
    /// Of a [`Kind::Endpoint`].
    Endpoint(SocketAddr),
    /// Of a [`Kind::Rules`].
    Rules(Keep),
}

impl Kind {
    /// Checks `value`.
    ///
    /// # Errors
    /// What the value is instead, to follow it in a sentence: "is out of range".
    pub fn check<'a>(&self, value: Value<'a>) -> Result<Checked<'a>, &'static str> {
        match *self {
            Self::Flag => flag(value).map(Checked::Flag),
            Self::Number(min, max) => {
                within(number(value)?, u64::from(min), u64::from(max)).map(Checked::Number)
            }
            Self::Size(min, max) => within(size(value)?, min, max).map(Checked::Number),
            Self::Path(longest) => path(text(value)?, longest).map(Checked::Path),
            Self::Choice(names) => choice(text(value)?, names).map(Checked::Choice),
            Self::Choices(names) => choices(value, names).map(Checked::Choices),
            Self::Endpoint => endpoint(text(value)?).map(Checked::Endpoint),
            Self::Directory(longest) => directory(text(value)?, longest).map(Checked::Path),
            Self::Rules => rules(value).map(Checked::Rules),
        }
    }
}

/// What is allowed, as faults and the reference say it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Flag => f.write_str("true or false"),
            Self::Number(min, max) => write!(f, "integer, {min} to {max}"),
            Self::Size(min, max) => write!(f, "size, {} to {}", Size(min), Size(max)),
            Self::Path(longest) => write!(f, "absolute path, at most {longest} bytes"),
            Self::Directory(longest) => {
                write!(f, "absolute path of a directory, at most {longest} bytes, or \"\"")
            }
            Self::Rules => write!(
                f,
                "list of at most {MOST_RULES} strings, each \"all\", \"tcp-established\" or words of a \
                 filter"
            ),
            Self::Choice(names) => alternatives(f, names, " or "),
            Self::Endpoint => {
                f.write_str("address and port, as 192.0.2.9:4739 or [2001:db8::9]:4739")
            }
            Self::Choices(names) => {
                f.write_str("list of ")?;
                alternatives(f, names, " and ")?;
                write!(f, ", always with \"{}\"", names.last().copied().unwrap_or_default())
            }
        }
    }
}

fn alternatives(f: &mut fmt::Formatter<'_>, names: &[&str], last: &str) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        let before = if i == 0 {
            ""
        } else if i + 1 == names.len() {
            last
        } else {
            ", "
        };
        write!(f, "{before}\"{name}\"")?;
    }
    Ok(())
}

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// A number of bytes, shown in the largest unit that divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0 % (1 << shift) == 0 {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        self.0.fmt(f)
    }
}

impl Size {
    /// Reads digits and, directly behind them, one of KiB, MiB, GiB and TiB.
    ///
    /// # Errors
    /// What the text is instead, to follow it in a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        if digits.is_empty() {
            return Err("is not a size (digits, then KiB, MiB, GiB or TiB)");
        }
        let shift = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, shift)) => *shift,
            None if unit.is_empty() => 0,
            None => return Err("has an unknown unit (KiB is 1024 bytes; also MiB, GiB, TiB)"),
        };
        let count: u64 = digits.parse().map_err(|_| OUT_OF_RANGE)?;
        count.checked_mul(1 << shift).map(Self).ok_or(OUT_OF_RANGE)
    }
}

const OUT_OF_RANGE: &str = "is out of range";

fn within(number: u64, min: u64, max: u64) -> Result<u64, &'static str> {
    if (min..=max).contains(&number) { Ok(number) } else { Err(OUT_OF_RANGE) }
}

/// What a value is, where another type is asked for.
fn wrong_type<T>(value: Value<'_>) -> Result<T, &'static str> {
    Err(match value {
        Value::Bool(_) => "is a boolean",
        Value::Integer(_) => "is an integer",
        Value::Text(_) => "is a string",
        Value::List(_) => "is a list",
        Value::Untyped(_) => "is of the wrong type",
        Value::Other(_, wrong) => wrong,
    })
}

fn flag(value: Value<'_>) -> Result<bool, &'static str> {
    match value {
        Value::Bool(flag) => Ok(flag),
        Value::Untyped("1" | "true" | "yes" | "on" | "enabled") => Ok(true),
        Value::Untyped("0" | "false" | "no" | "off" | "disabled") => Ok(false),
        Value::Untyped(_) => Err("is neither true nor false"),
        other => wrong_type(other),
    }
}

fn number(value: Value<'_>) -> Result<u64, &'static str> {
    match value {
        Value::Integer(number) => u64::try_from(number).map_err(|_| OUT_OF_RANGE),
        Value::Untyped(text) => whole_number(text),
        other => wrong_type(other),
    }
}

fn whole_number(text: &str) -> Result<u64, &'static str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("is not a whole number");
    }
    text.parse().map_err(|_| OUT_OF_RANGE)
}

fn size(value: Value<'_>) -> Result<u64, &'static str> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Size::parse(text).map(|size| size.0),
        other => number(other),
    }
}

fn text(value: Value<'_>) -> Result<&str, &'static str> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Ok(text),
        other => wrong_type(other),
    }
}

fn path(text: &str, longest: usize) -> Result<&str, &'static str> {
    if !text.starts_with('/') {
        Err("is not an absolute path (it must begin with /)")
    } else if text.ends_with('/') {
        Err("names a directory, not a file")
    } else if text.contains(char::is_control) {
        Err("contains a control character")
    } else if text.len() > longest {
        Err("is too long")
    } else {
        Ok(text)
    }
}

fn directory(text: &str, longest: usize) -> Result<&str, &'static str> {
    match text {
        "" | "/" => Ok(text),
        _ => path(text.strip_suffix('/').unwrap_or(text), longest),
    }
}

/// Untyped text has one rule a line, or after a comma.
fn rules(value: Value<'_>) -> Result<Keep, &'static str> {
    let mut keep = Keep::default();
    let mut add = |rule: &str| {
        keep.push(rule).map_err(|fault| match fault {
            RuleFault::Word(_) => "holds a rule with a word that no filter knows",
            RuleFault::TooMany => "holds too many rules",
        })
    };
    match value {
        Value::List(items) => {
            for item in items {
                add(text(*item).map_err(|_| "holds what is no string")?)?;
            }
        }
        Value::Untyped(rules) => rules.split([',', '\n']).try_for_each(add)?,
        other => return wrong_type(other),
    }
    if keep.is_empty() { Err("is empty: nothing would be kept") } else { Ok(keep) }
}

fn endpoint(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "is not an address with a port")?;
    if address.port() == 0 { Err("has no port") } else { Ok(address) }
}

fn choice(text: &str, names: &[&str]) -> Result<usize, &'static str> {
    names.iter().position(|name| *name == text).ok_or("is not known")
}

fn choices(value: Value<'_>, names: &[&str]) -> Result<u32, &'static str> {
    let mut bits = 0;
    match value {
        Value::List(items) => {
            for item in items {
                add_choice(&mut bits, text(*item).map_err(|_| "holds what is no string")?, names)?;
            }
        }
        Value::Untyped(words) => {
            for word in words.split_ascii_whitespace() {
                add_choice(&mut bits, word, names)?;
            }
        }
        other => return wrong_type(other),
    }
    if bits >> (names.len() - 1) == 0 { Err("lacks what must be in it") } else { Ok(bits) }
}

fn add_choice(bits: &mut u32, word: &str, names: &[&str]) -> Result<(), &'static str> {
    let bit = 1 << choice(word, names).map_err(|_| "holds an unknown name")?;
    if *bits & bit != 0 {
        return Err("names one twice");
    }
    *bits |= bit;
    Ok(())
}
