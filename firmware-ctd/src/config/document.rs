//! The TOML front-end: finds sections, keys and values with their lines.
//!
//! Syntax is the TOML project's own event parser (`toml_parser`), which goes on behind a fault,
//! so that one faulty line does not hide the next; what else is wrong on such a line is not told.
//! No tree of the document is built: values go to the draft as they come. Only the keys of a
//! `[[sink]]` wait until its end, since its type may stand last.
//!
//! Limits: values nested deeper than [`DEEPEST`] are a fault.

use std::borrow::Cow;
use std::path::Path;

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source, Span};

use super::draft::{self, Draft, Instance};
use super::fault::FileFaults;
use super::node::{LIST, Node, TABLE};
use super::schema::{SCHEMA, Section};
use super::value::Quoted;
use super::{Faults, Place};

/// Deepest nesting of lists and tables in a value.
pub const DEEPEST: u32 = 16;

/// Reads `text`, which was found in `path`, over what `draft` holds; faults go to `faults`.
pub fn read(path: &Path, text: &str, draft: &mut Draft, faults: &mut Faults) {
    let lines = Lines::of(text);
    let source = Source::new(text);
    let mut syntax = FileFaults::new(path);
    let mut broken = vec![false; lines.0.len() + 1];
    let mut on_error = |error: ParseError| {
        let line = lines.number(error.unexpected().map_or(0, |span| span.start()));
        if let Some(mark) = broken.get_mut(line as usize) {
            *mark = true;
        }
        syntax.add(line, syntax_message(&error));
    };
    draft.begin_file();
    let mut reader = Reader::new(path, source, &lines, draft);
    {
        let mut receiver = ValidateWhitespace::new(&mut reader, source);
        let mut receiver = RecursionGuard::new(&mut receiver, DEEPEST);
        parse_document(&source.lex().into_vec(), &mut receiver, &mut on_error);
    }
    reader.end_list_section();
    let mut found = reader.faults;
    found.retain(|line| broken.get(line as usize) == Some(&false));
    syntax.merge(found);
    faults.append(syntax);
}

fn syntax_message(error: &ParseError) -> String {
    let mut message = format!("not TOML: {}", error.description().replace('\n', " "));
    for (i, expected) in error.expected().unwrap_or_default().iter().enumerate() {
        message += if i == 0 { ", expected " } else { ", " };
        match expected {
            Expected::Literal("\n") => message += "newline",
            Expected::Literal(text) => message += &Quoted(text).to_string(),
            Expected::Description(text) => message += text,
            _ => message += "something else",
        }
    }
    message
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

/// Where keys go.
#[derive(Clone, Copy)]
enum Target {
    /// Above the first header: the first part of a key is a section.
    Root,
    /// Into a section that stands once.
    Single(&'static Section),
    /// Into a section of a list; they wait for its end.
    Listed(&'static Section, u32),
    /// A fault is told already.
    Nowhere,
}

/// How a section was opened, which decides whether it may be opened again.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Header,
    Dotted,
    Inline,
}

/// A list or table that is open within a value.
#[derive(Clone, Copy)]
enum Frame {
    /// A list of values.
    List,
    /// The list of a section: `sink = [...]`.
    Sections(&'static Section),
    /// A section in braces; `0` is how long the path was outside.
    Table(usize),
    /// What is inside does not matter.
    Ignored,
}

struct Reader<'t, 'd> {
    file: &'d Path,
    source: Source<'t>,
    lines: &'d Lines,
    draft: &'d mut Draft,
    faults: FileFaults,
    /// The parts of the header and of the key that is read.
    path: Vec<Cow<'t, str>>,
    /// How many of them belong to the header or to the table in braces.
    base: usize,
    /// The line where the key or the header begins.
    line: u32,
    after_dot: bool,
    target: Target,
    frames: Vec<Frame>,
    list: Vec<Node<'t>>,
    waiting: Vec<(Cow<'t, str>, Node<'t>, u32)>,
    opened: Vec<(&'static str, How, u32)>,
    /// Known keys that have their value, and where.
    given: Vec<(&'static str, &'static str, u32)>,
}

impl<'t, 'd> Reader<'t, 'd> {
    fn new(file: &'d Path, source: Source<'t>, lines: &'d Lines, draft: &'d mut Draft) -> Self {
        Self {
            file,
            source,
            lines,
            draft,
            faults: FileFaults::new(file),
            path: Vec::new(),
            base: 0,
            line: 1,
            after_dot: false,
            target: Target::Root,
            frames: Vec::new(),
            list: Vec::new(),
            waiting: Vec::new(),
            opened: Vec::new(),
            given: Vec::new(),
        }
    }

    fn fault(&mut self, message: String) {
        self.faults.add(self.line, message);
    }

    fn ignored(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Ignored))
    }

    fn begin_header(&mut self, span: Span) {
        self.end_list_section();
        self.frames.clear();
        self.path.clear();
        self.base = 0;
        self.after_dot = false;
        self.line = self.lines.number(span.start());
        self.target = Target::Nowhere;
    }

    fn end_header(&mut self, listed: bool) {
        self.base = self.path.len();
        let Some(section) = self.section_of_path() else { return };
        if self.path.len() > 1 {
            return self.nested(section);
        }
        if listed != section.variant.is_some() {
            return self.wrong_form(section);
        }
        if listed {
            self.begin_list_section(section, How::Header);
        } else {
            self.open(section, How::Header);
            self.target = Target::Single(section);
        }
    }

    /// The section that the path begins with; none is a fault, unless the path is empty.
    fn section_of_path(&mut self) -> Option<&'static Section> {
        let name = self.path.first()?;
        let known = SCHEMA.iter().find(|section| section.name == name);
        if known.is_none() {
            let message = draft::unknown_section(name);
            self.fault(message);
        }
        known
    }

    /// `[table.capacity]` and the like.
    fn nested(&mut self, section: &'static Section) {
        let key = self.path.get(1).map_or("", |key| key);
        let name = section.name;
        let message = match section.keys.iter().find(|known| known.name == key) {
            Some(known) => draft::not_allowed(name, known, TABLE.value(&[]), "is a section"),
            None => draft::unknown_key(section, key),
        };
        self.fault(message);
    }

    fn wrong_form(&mut self, section: &Section) {
        let name = section.name;
        self.fault(if section.variant.is_some() {
            format!("{name} is a list of sections; write [[{name}]]")
        } else {
            format!("{name} is a section; write [{name}]")
        });
    }

    /// Notes that `section` is opened; twice is a fault, but for dotted keys and list headers.
    fn open(&mut self, section: &Section, how: How) {
        let again = section.variant.is_some() && how == How::Header || how == How::Dotted;
        match self.opened.iter().find(|(name, ..)| *name == section.name) {
            None => self.opened.push((section.name, how, self.line)),
            Some((_, before, _)) if again && *before == how => {}
            Some((name, _, line)) => {
                let message = format!("[{name}] is given twice, first in line {line}");
                self.fault(message);
            }
        }
    }

    fn begin_list_section(&mut self, section: &'static Section, how: How) {
        if how == How::Header {
            self.open(section, how);
            self.draft.replace_sinks();
        }
        self.target = Target::Listed(section, self.line);
    }

    /// Hands the keys that waited to the draft.
    fn end_list_section(&mut self) {
        let Target::Listed(section, line) = self.target else { return };
        self.target = Target::Nowhere;
        let waiting = std::mem::take(&mut self.waiting);
        let name = section.name;
        let kind = waiting.iter().find(|(key, ..)| key == "type");
        self.line = kind.map_or(line, |(_, _, line)| *line);
        let variant = match kind {
            None => None,
            Some((_, Node::Text(kind), _)) => Some(&**kind),
            Some(_) => return self.fault(format!("{name}.type must be a string")),
        };
        let place = Place::line(self.file, self.line);
        match self.draft.open(name, variant, place) {
            Ok(at) => {
                self.given.retain(|(section, ..)| *section != name);
                waiting.iter().for_each(|(key, node, line)| self.set(at, key, node, *line));
            }
            Err(fault) => self.fault(fault.message),
        }
    }

    fn set(&mut self, at: Instance, key: &str, node: &Node<'_>, line: u32) {
        self.line = line;
        let section = at.section();
        if let Some(known) = section.keys.iter().find(|known| known.name == key) {
            let mut given = self.given.iter();
            if let Some((s, k, first)) = given.find(|g| g.0 == section.name && g.1 == known.name) {
                let message = format!("{s}.{k} is given twice, first in line {first}");
                return self.fault(message);
            }
            self.given.push((section.name, known.name, line));
        }
        let items = node.items();
        let place = Place::line(self.file, line);
        if let Err(fault) = self.draft.set(at, key, node.value(&items), place) {
            self.fault(fault.message);
        }
    }

    /// A key has its value.
    fn leaf(&mut self, node: Node<'t>) {
        let depth = if matches!(self.target, Target::Root) { 1 } else { self.base };
        // `capacity.x = 1` makes a table of `capacity`.
        let node = if self.path.len() > depth + 1 { TABLE } else { node };
        let key = self.path.get(depth).cloned();
        match (self.target, key) {
            (Target::Root, key) => self.root_leaf(key, &node),
            (Target::Single(section), Some(key)) => self.set_single(section, &key, &node),
            (Target::Listed(..), Some(key)) => self.waiting.push((key, node, self.line)),
            _ => {}
        }
    }

    fn set_single(&mut self, section: &Section, key: &str, node: &Node<'_>) {
        let place = Place::line(self.file, self.line);
        if let Ok(at) = self.draft.open(section.name, None, place) {
            self.set(at, key, node, self.line);
        }
    }

    /// `table.capacity = 1`, `table = 1`, `capacity = 1` above the first header.
    fn root_leaf(&mut self, key: Option<Cow<'t, str>>, node: &Node<'_>) {
        let Some(key) = key else { return self.no_section(node) };
        let Some(section) = self.section_of_path() else { return };
        if section.variant.is_some() {
            return self.wrong_form(section);
        }
        if self.frames.is_empty() {
            self.open(section, How::Dotted);
        }
        self.set_single(section, &key, node);
    }

    fn no_section(&mut self, node: &Node<'_>) {
        let Some(name) = self.path.first().cloned() else { return };
        let section = SCHEMA.iter().find(|section| section.name == name);
        let home = SCHEMA.iter().find(|s| s.keys.iter().any(|key| key.name == name));
        match (section, home) {
            (Some(section), _) => self.wrong_form(section),
            (None, Some(home)) if !matches!(node, Node::List(_)) => {
                self.fault(format!("key {} belongs to {home}", Quoted(&name)));
            }
            _ => self.fault(draft::unknown_section(&name)),
        }
    }

    /// What a table in braces, at the place where the reader is, is for.
    fn table_frame(&mut self) -> Frame {
        match (self.frames.last(), self.target) {
            (Some(Frame::Sections(section)), _) => {
                self.begin_list_section(section, How::Inline);
                self.frame_of_table()
            }
            (Some(Frame::List), _) => {
                self.list.push(TABLE);
                Frame::Ignored
            }
            (None, Target::Root) if self.path.len() == 1 => self.inline_section(),
            _ => {
                self.leaf(TABLE);
                Frame::Ignored
            }
        }
    }

    fn frame_of_table(&mut self) -> Frame {
        Frame::Table(std::mem::replace(&mut self.base, self.path.len()))
    }

    /// `table = { capacity = 1 }`.
    fn inline_section(&mut self) -> Frame {
        match self.section_of_path() {
            Some(section) if section.variant.is_none() => {
                self.open(section, How::Inline);
                self.frame_of_table()
            }
            Some(section) => {
                self.wrong_form(section);
                Frame::Ignored
            }
            None => Frame::Ignored,
        }
    }

    /// What a list, at the place where the reader is, is for.
    fn list_frame(&mut self) -> Frame {
        match (self.frames.last(), self.target) {
            (Some(Frame::List | Frame::Sections(_)), _) => {
                self.list.push(LIST);
                return Frame::Ignored;
            }
            (None, Target::Root) if self.path.len() == 1 => {
                let name = self.path.first().map_or("", |name| name);
                let mut lists = SCHEMA.iter().filter(|section| section.variant.is_some());
                if let Some(section) = lists.find(|section| section.name == name) {
                    self.open(section, How::Inline);
                    self.draft.replace_sinks();
                    return Frame::Sections(section);
                }
            }
            _ => {}
        }
        Frame::List
    }

    fn end_list(&mut self) {
        let items = std::mem::take(&mut self.list);
        match self.frames.pop() {
            Some(Frame::Sections(section)) if !items.is_empty() => {
                self.fault(format!("{} holds what is no section", section.name));
            }
            Some(Frame::List) => self.leaf(Node::List(items)),
            _ => self.list = items,
        }
    }

    fn end_table(&mut self) {
        if let Some(Frame::Table(base)) = self.frames.pop() {
            if matches!(self.target, Target::Listed(..)) {
                self.end_list_section();
                self.target = Target::Root;
            }
            self.path.truncate(self.base);
            self.base = base;
        }
    }
}

impl EventReceiver for Reader<'_, '_> {
    fn std_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.begin_header(span);
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.end_header(false);
    }

    fn array_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.begin_header(span);
    }

    fn array_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.end_header(true);
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        if self.ignored() {
            return;
        }
        if !self.after_dot {
            self.path.truncate(self.base);
            self.line = self.lines.number(span.start());
        }
        self.after_dot = false;
        let mut text = Cow::Borrowed("");
        if let Some(raw) = self.source.get(span) {
            let raw = toml_parser::Raw::new_unchecked(raw.as_str(), encoding, span);
            raw.decode_key(&mut text, error);
        }
        self.path.push(text);
    }

    fn key_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.after_dot = !self.ignored();
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let node = Node::decode(self.source, span, encoding, error);
        match self.frames.last() {
            Some(Frame::Ignored) => {}
            Some(Frame::List | Frame::Sections(_)) => self.list.push(node),
            Some(Frame::Table(_)) | None => self.leaf(node),
        }
    }

    fn array_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        let frame = if self.ignored() { Frame::Ignored } else { self.list_frame() };
        self.frames.push(frame);
        true
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.end_list();
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        let frame = if self.ignored() {
            Frame::Ignored
        } else {
            if matches!(self.frames.last(), Some(Frame::Sections(_))) {
                self.line = self.lines.number(span.start());
            }
            self.table_frame()
        };
        self.frames.push(frame);
        true
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.end_table();
    }
}
