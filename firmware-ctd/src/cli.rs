//! The command line: words in, one [`Action`] out.
//!
//! Nothing here reads a file, opens a socket or prints; `main` does. A wrong command line gives
//! a [`UsageError`], one line that says what to do.

mod checkpoint;
mod help;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::config::DEFAULT_SOCKET;
use crate::config::value::Quoted;
use crate::filter::{Filter, FilterError};
use crate::nearest::nearest;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be the daemon.
    Run {
        /// Configuration files, the later over the earlier; none = the defaults.
        files: Vec<PathBuf>,
    },
    /// Check configuration files.
    Validate {
        /// The files, the later over the earlier.
        files: Vec<PathBuf>,
    },
    /// Ask the daemon how it is.
    Status {
        /// The daemon.
        at: At,
        /// The form of the answer.
        format: Format,
    },
    /// Ask the daemon for its flow table.
    Flows {
        /// The daemon.
        at: At,
        /// JSON lines instead of text.
        json: bool,
        /// Without the bound on the number of lines.
        all: bool,
        /// Words of a [`Filter`], already checked.
        filter: Vec<String>,
    },
    /// Follow the daemon's events.
    Events {
        /// The daemon.
        at: At,
        /// JSON lines instead of text.
        json: bool,
    },
    /// Have the daemon save its flows.
    CheckpointSave {
        /// The daemon.
        at: At,
        /// How long to wait for it, in seconds.
        wait_s: u16,
    },
    /// Make the flows of a checkpoint again in the kernel.
    CheckpointRestore {
        /// Configuration files.
        files: Vec<PathBuf>,
        /// An image; otherwise the best one of the configuration's directory.
        image: Option<PathBuf>,
    },
    /// Show what is in a checkpoint file.
    CheckpointShow {
        /// The file.
        file: PathBuf,
        /// JSON lines instead of text.
        json: bool,
    },
    /// Tell whether a checkpoint file is good.
    CheckpointVerify {
        /// The file.
        file: PathBuf,
    },
    /// Tell what this kernel can do.
    Selftest {
        /// JSON instead of text.
        json: bool,
    },
    /// Print [`VERSION`].
    Version,
    /// Print a help text.
    Help(Topic),
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people, at most 80 columns.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Prometheus' text format.
    Prometheus,
}

/// What a help text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The program.
    Program,
    /// `run`
    Run,
    /// `validate`
    Validate,
    /// `status`
    Status,
    /// `flows`
    Flows,
    /// `events`
    Events,
    /// `checkpoint`
    Checkpoint,
    /// `selftest`
    Selftest,
}

/// Where a daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// At this control socket.
    Socket(PathBuf),
    /// At the one of these configuration files, the later over the earlier.
    Configured(Vec<PathBuf>),
}

/// What `--version` prints.
pub const VERSION: &str = concat!("firmware-ctd ", env!("CARGO_PKG_VERSION"), "\n");

const COMMANDS: [(&str, Topic); 7] = [
    ("run", Topic::Run),
    ("validate", Topic::Validate),
    ("status", Topic::Status),
    ("flows", Topic::Flows),
    ("events", Topic::Events),
    ("checkpoint", Topic::Checkpoint),
    ("selftest", Topic::Selftest),
];

/// Options of all commands: name, short letter, and the commands that take it.
const OPTIONS: [(&str, Option<char>, &[Topic]); 6] = [
    (
        "config",
        Some('c'),
        &[
            Topic::Run,
            Topic::Validate,
            Topic::Status,
            Topic::Flows,
            Topic::Events,
            Topic::Checkpoint,
        ],
    ),
    ("socket", Some('s'), &[Topic::Status, Topic::Flows, Topic::Events, Topic::Checkpoint]),
    ("wait", None, &[Topic::Checkpoint]),
    (
        "json",
        None,
        &[Topic::Status, Topic::Flows, Topic::Events, Topic::Checkpoint, Topic::Selftest],
    ),
    ("prometheus", None, &[Topic::Status]),
    ("all", None, &[Topic::Flows]),
];

/// A command line that cannot be followed; exit code 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

/// One line that says what is wrong and what to do.
impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Everything that options and words may say, before the command makes sense of it.
#[derive(Default)]
struct Words {
    files: Vec<PathBuf>,
    socket: Option<PathBuf>,
    json: bool,
    prometheus: bool,
    all: bool,
    filter: Vec<String>,
    /// What `checkpoint` is to do, and its file.
    plain: Vec<OsString>,
    wait_s: Option<u16>,
}

/// Reads the command line; `args` begins with the program's name.
///
/// # Errors
/// An unknown command or option, a missing or wrong value, a wrong filter.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
    parse_words(Parser::from_iter(args.into_iter().collect::<Vec<_>>()))
}

fn parse_words(mut parser: Parser) -> Result<Action, UsageError> {
    let command = match next(&mut parser, Topic::Program)? {
        None => return Err(wrong("no command", Topic::Program)),
        Some(Word::Help) => return Ok(Action::Help(Topic::Program)),
        Some(Word::Version) => return Ok(Action::Version),
        Some(Word::Option(name)) => {
            let message = format!("{name} stands before the command");
            return Err(wrong(&message, Topic::Program));
        }
        Some(Word::Plain(word)) => word,
    };
    let Some(topic) = COMMANDS.iter().find(|(name, _)| OsStr::new(name) == command) else {
        return help_command(&mut parser, &command);
    };
    rest(&mut parser, topic.1)
}

/// `help [COMMAND]` is understood too; anything else is no command.
fn help_command(parser: &mut Parser, command: &OsStr) -> Result<Action, UsageError> {
    if command != "help" {
        return Err(unknown_command(command));
    }
    match next(parser, Topic::Program)? {
        Some(Word::Plain(word)) => COMMANDS
            .iter()
            .find(|(name, _)| OsStr::new(name) == word)
            .map(|(_, topic)| Action::Help(*topic))
            .ok_or_else(|| unknown_command(&word)),
        _ => Ok(Action::Help(Topic::Program)),
    }
}

/// One word of the command line.
enum Word {
    Help,
    Version,
    /// An option as it was written.
    Option(String),
    Plain(OsString),
}

fn next(parser: &mut Parser, topic: Topic) -> Result<Option<Word>, UsageError> {
    let arg = parser.next().map_err(|error| match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            wrong(&format!("{option} takes no value"), topic)
        }
        _ => wrong("an option cannot be read", topic),
    })?;
    Ok(arg.map(|arg| match arg {
        Arg::Short('h') | Arg::Long("help") => Word::Help,
        Arg::Short('V') | Arg::Long("version") => Word::Version,
        Arg::Short(letter) => Word::Option(printable("-", letter.encode_utf8(&mut [0; 4]))),
        Arg::Long(name) => Word::Option(printable("--", name)),
        Arg::Value(word) => Word::Plain(word),
    }))
}

/// `dashes` and `name`, which is cut after 40 characters and has `?` for control characters.
fn printable(dashes: &str, name: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    dashes.chars().chain(name.chars().take(40).map(plain)).collect()
}

fn rest(parser: &mut Parser, topic: Topic) -> Result<Action, UsageError> {
    let mut words = Words::default();
    while let Some(word) = next(parser, topic)? {
        match word {
            Word::Help => return Ok(Action::Help(topic)),
            Word::Version => return Ok(Action::Version),
            Word::Option(written) => option(parser, &written, topic, &mut words)?,
            Word::Plain(word) if topic == Topic::Flows => words.filter.push(text(word, topic)?),
            Word::Plain(word) if topic == Topic::Checkpoint && words.plain.len() < 2 => {
                words.plain.push(word);
            }
            Word::Plain(word) => {
                let word = word.to_string_lossy();
                let hint = if matches!(topic, Topic::Run | Topic::Validate) {
                    "; name a configuration file with -c FILE"
                } else {
                    ""
                };
                let message = format!("{} takes no {}{hint}", topic.name(), Quoted(&word));
                return Err(wrong(&message, topic));
            }
        }
    }
    words.action(topic)
}

fn option(
    parser: &mut Parser,
    written: &str,
    topic: Topic,
    words: &mut Words,
) -> Result<(), UsageError> {
    let known = OPTIONS.iter().find(|(name, letter, topics)| {
        topics.contains(&topic)
            && match written.strip_prefix("--") {
                Some(long) => long == *name,
                None => written.chars().nth(1) == *letter,
            }
    });
    let Some((name, ..)) = known else { return Err(unknown_option(written, topic)) };
    let mut value = || -> Result<PathBuf, UsageError> {
        let value = parser.value().map_err(|_| wrong(&format!("{written} needs a path"), topic))?;
        if value.is_empty() {
            return Err(wrong(&format!("{written} needs a path"), topic));
        }
        Ok(PathBuf::from(value))
    };
    match *name {
        "config" => words.files.push(value()?),
        "socket" => words.socket = Some(value()?),
        "wait" => {
            let value = parser.value().ok().and_then(|value| value.to_str()?.parse().ok());
            let needs = || wrong("--wait needs a number of seconds, 0 to 65535", topic);
            words.wait_s = Some(value.ok_or_else(needs)?);
        }
        "json" => words.json = true,
        "prometheus" => words.prometheus = true,
        _ => words.all = true,
    }
    Ok(())
}

impl Words {
    /// The daemon that is meant.
    fn at(&mut self, topic: Topic) -> Result<At, UsageError> {
        let files = std::mem::take(&mut self.files);
        match self.socket.take() {
            Some(_) if !files.is_empty() => {
                Err(wrong("choose one of --socket and --config", topic))
            }
            None if !files.is_empty() => Ok(At::Configured(files)),
            socket => Ok(At::Socket(socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))),
        }
    }

    fn action(mut self, topic: Topic) -> Result<Action, UsageError> {
        if topic == Topic::Checkpoint {
            return self.checkpoint();
        }
        let format = match (self.json, self.prometheus) {
            (true, true) => return Err(wrong("choose one of --json and --prometheus", topic)),
            (true, false) => Format::Json,
            (false, true) => Format::Prometheus,
            (false, false) => Format::Text,
        };
        Filter::parse(self.filter.iter().map(String::as_str))
            .map_err(|e| wrong_filter(&self.filter, e))?;
        let json = self.json;
        Ok(match topic {
            Topic::Run => Action::Run { files: self.files },
            Topic::Validate => Action::Validate { files: self.files },
            Topic::Status => Action::Status { at: self.at(topic)?, format },
            Topic::Flows => {
                Action::Flows { at: self.at(topic)?, json, all: self.all, filter: self.filter }
            }
            Topic::Events => Action::Events { at: self.at(topic)?, json },
            Topic::Selftest => Action::Selftest { json },
            Topic::Program | Topic::Checkpoint => Action::Help(topic),
        })
    }
}

fn text(word: OsString, topic: Topic) -> Result<String, UsageError> {
    word.into_string().map_err(|_| wrong("a filter is not UTF-8 text", topic))
}

fn wrong(message: &str, topic: Topic) -> UsageError {
    let command = topic.name();
    let gap = if command.is_empty() { "" } else { " " };
    UsageError(format!("{message}; see firmware-ctd {command}{gap}--help"))
}

fn wrong_filter(words: &[String], error: FilterError) -> UsageError {
    let word = words.get(error.index).map_or("", String::as_str);
    UsageError(format!("filter {}: {error}", Quoted(word)))
}

fn unknown_command(command: &OsStr) -> UsageError {
    let word = command.to_string_lossy();
    let message = format!("unknown command {}", Quoted(&word));
    match nearest(&word, &mut COMMANDS.iter().map(|(name, _)| *name)) {
        Some(name) => UsageError(format!("{message}; did you mean \"{name}\"?")),
        None => wrong(&message, Topic::Program),
    }
}

fn unknown_option(written: &str, topic: Topic) -> UsageError {
    let message = format!("{} has no option {written}", topic.name());
    let mut names = OPTIONS.iter().filter(|(.., topics)| topics.contains(&topic)).map(|o| o.0);
    match written.strip_prefix("--").and_then(|word| nearest(word, &mut names)) {
        Some(name) => UsageError(format!("{message}; did you mean --{name}?")),
        None => wrong(&message, topic),
    }
}

impl Topic {
    /// The command that the topic is; empty for the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        COMMANDS.iter().find(|(_, topic)| *topic == self).map_or("", |(name, _)| name)
    }

    /// The help text, of lines of at most 80 columns.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Program => help::HELP,
            Self::Run => help::HELP_RUN,
            Self::Validate => help::HELP_VALIDATE,
            Self::Status => help::HELP_STATUS,
            Self::Flows => help::HELP_FLOWS,
            Self::Events => help::HELP_EVENTS,
            Self::Checkpoint => help::HELP_CHECKPOINT,
            Self::Selftest => help::HELP_SELFTEST,
        }
    }
}
