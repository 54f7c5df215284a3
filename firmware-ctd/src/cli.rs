//! The command line: words in, one [`Action`] out.
//!
//! Nothing here reads a file, opens a socket or prints; `main` does. A wrong command line gives
//! a [`UsageError`], one line that says what to do.

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
        /// The daemon's control socket.
        socket: PathBuf,
        /// The form of the answer.
        format: Format,
    },
    /// Ask the daemon for its flow table.
    Flows {
        /// The daemon's control socket.
        socket: PathBuf,
        /// JSON lines instead of text.
        json: bool,
        /// Without the bound on the number of lines.
        all: bool,
        /// Words of a [`Filter`], already checked.
        filter: Vec<String>,
    },
    /// Follow the daemon's events.
    Events {
        /// The daemon's control socket.
        socket: PathBuf,
        /// JSON lines instead of text.
        json: bool,
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
const OPTIONS: [(&str, Option<char>, &[Topic]); 5] = [
    ("config", Some('c'), &[Topic::Run, Topic::Validate]),
    ("socket", Some('s'), &[Topic::Status, Topic::Flows, Topic::Events]),
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
        "json" => words.json = true,
        "prometheus" => words.prometheus = true,
        _ => words.all = true,
    }
    Ok(())
}

impl Words {
    fn action(self, topic: Topic) -> Result<Action, UsageError> {
        if topic == Topic::Checkpoint {
            return self.checkpoint();
        }
        let Self { files, json, all, filter, .. } = self;
        let format = match (json, self.prometheus) {
            (true, true) => return Err(wrong("choose one of --json and --prometheus", topic)),
            (true, false) => Format::Json,
            (false, true) => Format::Prometheus,
            (false, false) => Format::Text,
        };
        let socket = self.socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
        Filter::parse(filter.iter().map(String::as_str)).map_err(|e| wrong_filter(&filter, e))?;
        Ok(match topic {
            Topic::Run => Action::Run { files },
            Topic::Validate => Action::Validate { files },
            Topic::Status => Action::Status { socket, format },
            Topic::Flows => Action::Flows { socket, json, all, filter },
            Topic::Events => Action::Events { socket, json },
            Topic::Selftest => Action::Selftest { json },
            Topic::Program | Topic::Checkpoint => Action::Help(topic),
        })
    }

    fn checkpoint(self) -> Result<Action, UsageError> {
        let topic = Topic::Checkpoint;
        let mut plain = self.plain.into_iter();
        let Some(verb) = plain.next() else { return Err(wrong("checkpoint: do what?", topic)) };
        let verb = verb.to_string_lossy();
        if !["show", "verify"].contains(&&*verb) {
            let message = format!("checkpoint cannot {}", Quoted(&verb));
            return Err(match nearest(&verb, &mut ["show", "verify"].into_iter()) {
                Some(near) => UsageError(format!("{message}; did you mean \"{near}\"?")),
                None => wrong(&message, topic),
            });
        }
        let Some(file) = plain.next().filter(|file| !file.is_empty()).map(PathBuf::from) else {
            return Err(wrong(&format!("checkpoint {verb} needs a file"), topic));
        };
        match (&*verb, self.json) {
            ("show", json) => Ok(Action::CheckpointShow { file, json }),
            (_, false) => Ok(Action::CheckpointVerify { file }),
            (_, true) => Err(wrong("checkpoint verify has no option --json", topic)),
        }
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
            Self::Program => HELP,
            Self::Run => HELP_RUN,
            Self::Validate => HELP_VALIDATE,
            Self::Status => HELP_STATUS,
            Self::Flows => HELP_FLOWS,
            Self::Events => HELP_EVENTS,
            Self::Checkpoint => HELP_CHECKPOINT,
            Self::Selftest => HELP_SELFTEST,
        }
    }
}

const HELP: &str = "\
firmware-ctd makes a router's connection tracking dependable: it receives the
kernel's conntrack events reliably and accounts every flow exactly.

Usage: firmware-ctd COMMAND [OPTION]...

  run        be the daemon, in the foreground
  validate   check configuration files
  status     how the daemon is, what it has seen and what was lost
  flows      the flow table as the daemon sees it
  events     follow flows as they begin, change and end
  checkpoint look into a checkpoint file
  selftest   what this kernel can do

  COMMAND --help   more about a command
  --version        print the version

Exit codes: 0 success, 64 usage, 65 a file's content is wrong, 69 the daemon or
the kernel does not answer, 70 internal fault, 74 reading or writing failed,
77 a privilege is missing, 78 the configuration is wrong.
";

const HELP_RUN: &str = "\
Usage: firmware-ctd run [-c FILE]...

Runs the daemon in the foreground; it logs \"ready\" once it serves. Needs
CAP_NET_ADMIN. SIGTERM and SIGINT end it, SIGHUP makes it read the files again;
when they are wrong it goes on with what it has.

  -c, --config FILE   configuration in TOML; later files overlay earlier ones;
                      without any the defaults apply
";

const HELP_VALIDATE: &str = "\
Usage: firmware-ctd validate [-c FILE]...

Checks configuration files as `run` reads them. Prints every fault as
file:line: message and ends with 78; ends with 0 when there is none.

  -c, --config FILE   configuration in TOML; later files overlay earlier ones
";

const HELP_STATUS: &str = "\
Usage: firmware-ctd status [-s SOCKET] [--json|--prometheus]

Shows how the daemon is: the table, the events seen, what was lost and why,
the sinks, and the memory.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
      --json            one JSON object
      --prometheus      Prometheus' text format
";

const HELP_FLOWS: &str = "\
Usage: firmware-ctd flows [-s SOCKET] [--json] [--all] [FILTER]...

Lists the flows in the table, one a line, the first 1000 unless --all is given.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
      --json            one JSON object a line
      --all             every flow

A flow is shown when it meets every FILTER:
  family=ipv4|ipv6      address family
  proto=NAME|NUMBER     tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite, 0-255
  src=ADDR[/PREFIX]     source of the original direction; also dst=
  addr=ADDR[/PREFIX]    either end, in either direction
  sport=N[-M]           source port of the original direction; also dport=
  port=N[-M]            either end, in either direction
  zone=N                conntrack zone
  mark=N[/MASK]         connection mark, decimal or 0x...
  state=NAME            TCP state: established, syn-sent, time-wait, ...
  assured, snat, dnat, offload
                        flows with that status
";

const HELP_EVENTS: &str = "\
Usage: firmware-ctd events [-s SOCKET] [--json]

Follows flows as they begin, change and end. Best effort: a reader that is too
slow misses events, and is told how many.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
      --json            one JSON object a line
";

const HELP_CHECKPOINT: &str = "\
Usage: firmware-ctd checkpoint show FILE [--json]
       firmware-ctd checkpoint verify FILE

Looks into a checkpoint file: `show` lists what it tells of itself and every
flow in it, `verify` tells on one line whether it is whole and sound. Both end
with 65 when it is not, and tell the first fault and at which byte it is.

      --json   one JSON object a line
";

const HELP_SELFTEST: &str = "\
Usage: firmware-ctd selftest [--json]

Tells what this kernel can do: events, reliable events, accounting, timestamps.
Creates and deletes one probe flow. Needs CAP_NET_ADMIN.

      --json   one JSON object
";
