//! One client of the control socket: its question, and the answer in parts.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::EpollFlags;

use super::super::checkpoint::Asked;
use super::super::lines;
use super::super::status::{Facts, MAX_PART};
use super::{PATIENCE, save};
use crate::cli::Format;
use crate::exit;
use crate::filter::{Filter, FlowFacts};
use crate::record::text::Text;
use crate::record::{Record, json};
use crate::table::{FlowRef, Slot};
use crate::time::{Duration, Instant};

/// Longest question.
const QUESTION: usize = 1024;
/// Room for an answer's part.
const ANSWER: usize = 8 << 10;
/// Parts of an answer made in one turn.
const PARTS_A_TURN: usize = 8;
/// Buckets of the table looked at for one part.
const BUCKETS_A_PART: usize = 4096;
/// Flows shown unless all are asked for.
const FLOWS_SHOWN: u32 = 1000;

const _: () = assert!(MAX_PART <= ANSWER && json::MAX_LINE * 2 < ANSWER);

/// The buffers of a client.
pub(super) struct Room {
    question: [u8; QUESTION],
    asked: usize,
    answer: Box<[u8]>,
    /// What of the answer waits to be sent.
    waiting: core::ops::Range<usize>,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({} asked, {:?} waiting)", self.asked, self.waiting)
    }
}

impl Room {
    pub(super) fn new() -> Self {
        Self { question: [0; QUESTION], asked: 0, answer: vec![0; ANSWER].into(), waiting: 0..0 }
    }

    pub(super) fn clear(&mut self) {
        self.asked = 0;
        self.waiting = 0..0;
    }

    /// Appends to the answer what `write` makes, if all of it fits.
    fn append(&mut self, write: impl FnOnce(&mut Text<'_>)) -> bool {
        if self.waiting.start > 0 {
            self.answer.copy_within(self.waiting.clone(), 0);
            self.waiting = 0..self.waiting.len();
        }
        let mut text = Text::new(&mut self.answer[self.waiting.end..]);
        write(&mut text);
        let fits = !text.is_cut();
        if fits {
            self.waiting.end += text.len();
        }
        fits
    }
}

/// What a client asked for, and how far the answer is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each client, in place")]
enum State {
    Asking,
    Status {
        format: Format,
        part: usize,
    },
    Flows(FlowWalk),
    Events {
        json: bool,
        missed: u64,
    },
    /// Waits for the save with this number; none before it was asked for.
    Save {
        wait: Duration,
        asked: Option<(u32, Instant)>,
    },
    /// The answer is complete.
    Ending,
}

/// A walk through the table.
#[derive(Clone, Copy, Debug)]
struct FlowWalk {
    json: bool,
    left: u32,
    filter: Filter,
    bucket: usize,
    /// Flows of the bucket that are done.
    skip: usize,
    shown: u32,
}

/// A client. See the module's own documentation.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    state: State,
    flags: EpollFlags,
    moved: Instant,
    /// It has said all it will, but may still read.
    silent: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream, now: Instant) -> Self {
        let flags = EpollFlags::EPOLLIN;
        Self { stream, state: State::Asking, flags, moved: now, silent: false }
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) const fn watches(&self) -> bool {
        matches!(self.state, State::Events { .. })
    }

    /// When the client is closed if nothing moves: an events client with nothing to read may wait
    /// for ever.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if let State::Save { wait, asked } = self.state {
            // It is answered before it is closed.
            return asked.map(|(_, at)| at + wait + PATIENCE);
        }
        let idle = self.watches() && !self.flags.contains(EpollFlags::EPOLLOUT);
        (!idle).then(|| self.moved + PATIENCE)
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Notes what to wait for; true if that is something else than before.
    pub(super) fn waits_for(&mut self, flags: EpollFlags) -> bool {
        core::mem::replace(&mut self.flags, flags) != flags
    }

    /// Reads, makes and sends what can be; what to wait for then, or nothing to close.
    pub(super) fn turn(
        &mut self,
        room: &mut Room,
        events: EpollFlags,
        facts: &Facts<'_, '_>,
    ) -> Option<EpollFlags> {
        let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if events.intersects(gone) {
            return None;
        }
        if events.contains(EpollFlags::EPOLLIN) && !self.read(room, facts) {
            return None;
        }
        for _ in 0..PARTS_A_TURN {
            if !self.send(room, facts.now.boot)? {
                return Some(EpollFlags::EPOLLOUT);
            }
            if matches!(self.state, State::Ending) {
                return None;
            }
            if !self.next_part(room, facts) {
                return Some(self.listening());
            }
        }
        Some(EpollFlags::EPOLLOUT)
    }

    /// Makes the next part of the answer; false if there is nothing to make now.
    fn next_part(&mut self, room: &mut Room, facts: &Facts<'_, '_>) -> bool {
        match &mut self.state {
            State::Asking | State::Ending => false,
            State::Events { .. } => self.tell_missed(room),
            State::Save { .. } => self.tell_save(room, facts),
            State::Status { format, part } => {
                let mut more = false;
                let fits = room.append(|out| more = facts.write(out, *format, *part));
                *part += 1;
                if !more || !fits {
                    self.state = State::Ending;
                }
                true
            }
            State::Flows(walk) => {
                if !walk.part(room, facts) {
                    self.state = State::Ending;
                }
                true
            }
        }
    }

    /// Hanging up is told in any case.
    fn listening(&self) -> EpollFlags {
        if self.silent { EpollFlags::empty() } else { EpollFlags::EPOLLIN }
    }

    /// Reads the question; false if the client went away.
    fn read(&mut self, room: &mut Room, facts: &Facts<'_, '_>) -> bool {
        let free = &mut room.question[room.asked..];
        if !matches!(self.state, State::Asking) {
            // Nothing more is expected: the end of what it says, or noise that is not kept.
            self.silent |= matches!(self.stream.read(&mut [0; 64]), Ok(0));
            return true;
        }
        match self.stream.read(free) {
            Ok(0) => false,
            Ok(count) => {
                room.asked += count;
                self.moved = facts.now.boot;
                self.understand(room);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Begins the answer once the question is complete.
    fn understand(&mut self, room: &mut Room) {
        let question = &room.question[..room.asked];
        let line = match question.iter().position(|&byte| byte == b'\n') {
            Some(end) => core::str::from_utf8(&question[..end]).unwrap_or(""),
            None if room.asked < QUESTION => return,
            None => "",
        };
        let mut error = [0; 640];
        let mut text = Text::new(&mut error);
        let state = match parse(line, &mut text) {
            // How it went is known later.
            Some(state @ State::Save { .. }) => state,
            Some(state) => {
                text.str("ok\n");
                state
            }
            None => State::Ending,
        };
        let len = text.len();
        room.append(|out| out.bytes(&error[..len]));
        self.state = state;
    }

    /// Sends what waits; true if nothing waits any more, nothing if the client is gone.
    fn send(&mut self, room: &mut Room, now: Instant) -> Option<bool> {
        while !room.waiting.is_empty() {
            match self.stream.write(&room.answer[room.waiting.clone()]) {
                Ok(0) => return None,
                Ok(count) => {
                    room.waiting.start += count;
                    self.moved = now;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(false),
                Err(_) => return None,
            }
        }
        room.waiting = 0..0;
        Some(true)
    }

    /// Shows a record to an events client; false if there was no room, here and in its socket.
    pub(super) fn show(&mut self, room: &mut Room, record: &Record, now: Instant) -> bool {
        let State::Events { json, missed } = self.state else { return true };
        let line = |out: &mut Text<'_>| {
            if json { json::line(out, record) } else { lines::line(out, record) }
        };
        // Who missed lines is told so before the next one.
        let fits = missed == 0
            && (room.append(line) || self.send(room, now).is_some() && room.append(line));
        if !fits {
            self.state = State::Events { json, missed: missed + 1 };
        }
        fits
    }

    /// Asks for a save, and tells what became of it; false while it is under way.
    fn tell_save(&mut self, room: &mut Room, facts: &Facts<'_, '_>) -> bool {
        let State::Save { wait, asked } = &mut self.state else { return false };
        let Some(checkpoints) = facts.checkpoints else {
            room.append(save::none);
            self.state = State::Ending;
            return true;
        };
        let (number, since) = *asked.get_or_insert_with(|| (checkpoints.ask(), facts.now.boot));
        let late = facts.now.boot.since(since) >= *wait;
        match checkpoints.outcome(number) {
            Asked::Waiting if !late => return false,
            Asked::Waiting => room.append(|out| save::under_way(out, *wait)),
            Asked::Over(image) => {
                room.append(|out| save::over(out, &image, checkpoints.last_file()))
            }
        };
        self.state = State::Ending;
        true
    }

    /// Whether it waits for something that a turn may bring.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.state, State::Events { .. } | State::Save { .. })
    }

    /// When a wait of its own is over.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        match self.state {
            State::Save { wait, asked: Some((_, since)) } => Some(since + wait),
            _ => None,
        }
    }

    /// Tells an events client how many lines it missed; false if none.
    fn tell_missed(&mut self, room: &mut Room) -> bool {
        let State::Events { json, missed } = &mut self.state else { return false };
        let count = core::mem::take(missed);
        if count == 0 {
            return false;
        }
        let json = *json;
        room.append(|out| {
            out.str(if json { "{\"type\":\"missed\",\"count\":" } else { "missed " });
            out.number(count);
            out.str(if json { "}\n" } else { " lines: this reader is too slow\n" });
        })
    }
}

/// What a line asks for; if that is not understood, the error goes to `error`.
fn parse(line: &str, error: &mut Text<'_>) -> Option<State> {
    use core::fmt::Write as _;
    let mut words = line.split_ascii_whitespace();
    let (command, format) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let json = format == "json";
    match (command, format) {
        ("status", "text" | "json" | "prometheus") => {
            let format = match format {
                "json" => Format::Json,
                "prometheus" => Format::Prometheus,
                _ => Format::Text,
            };
            Some(State::Status { format, part: 0 })
        }
        ("save", seconds) if seconds.parse::<u16>().is_ok() => {
            let wait = Duration::from_secs(seconds.parse().map_or(0, |s: u16| u64::from(s)));
            Some(State::Save { wait, asked: None })
        }
        ("events", "text" | "json") => Some(State::Events { json, missed: 0 }),
        ("flows", "text" | "json") => {
            let all = words.clone().next() == Some("all");
            let left = if all { u32::MAX } else { FLOWS_SHOWN };
            match Filter::parse(words.skip(usize::from(all))) {
                Ok(filter) => Some(State::Flows(FlowWalk {
                    json,
                    left,
                    filter,
                    bucket: 0,
                    skip: 0,
                    shown: 0,
                })),
                Err(fault) => {
                    let word =
                        line.split_ascii_whitespace().nth(fault.index + 2 + usize::from(all));
                    let word = word.unwrap_or("");
                    let _ = writeln!(error, "error {} filter word {word:?}: {fault}", exit::USAGE);
                    None
                }
            }
        }
        _ => {
            let _ = writeln!(
                error,
                "error {} not understood: status, flows, events or save",
                exit::USAGE
            );
            None
        }
    }
}

impl FlowWalk {
    /// Makes the next part; false if the walk is over.
    fn part(&mut self, room: &mut Room, facts: &Facts<'_, '_>) -> bool {
        let table = facts.engine.table();
        let end = (self.bucket + BUCKETS_A_PART).min(table.buckets());
        while self.bucket < end {
            if !self.rest_of_bucket(room, facts) {
                return true;
            }
            if self.left == 0 {
                self.tell_cut(room, table.len());
                return false;
            }
            self.bucket += 1;
            self.skip = 0;
        }
        self.bucket < table.buckets()
    }

    /// Shows what is left of the bucket; false if the room is full.
    fn rest_of_bucket(&mut self, room: &mut Room, facts: &Facts<'_, '_>) -> bool {
        let table = facts.engine.table();
        let mut next = table.first(self.bucket);
        for _ in 0..self.skip {
            next = next.and_then(|slot| table.next(slot));
        }
        while let Some(slot) = next.filter(|_| self.left > 0) {
            if self.passes(&table.flow(slot)) && !self.show(room, facts, slot) {
                return false;
            }
            self.skip += 1;
            next = table.next(slot);
        }
        true
    }

    fn passes(&self, flow: &FlowRef<'_>) -> bool {
        let (orig, reply) = (flow.orig(), flow.reply());
        self.filter.matches(&FlowFacts::of(flow, &orig, &reply))
    }

    fn show(&mut self, room: &mut Room, facts: &Facts<'_, '_>, slot: Slot) -> bool {
        let record = facts.engine.flow_record(facts.now, slot);
        let json = self.json;
        let fits = room
            .append(|out| if json { json::line(out, &record) } else { lines::line(out, &record) });
        if fits {
            self.left -= 1;
            self.shown += 1;
        }
        fits
    }

    fn tell_cut(&self, room: &mut Room, of: u32) {
        if self.json || of <= self.shown {
            return;
        }
        room.append(|out| {
            out.str("(the first ");
            out.number(u64::from(self.shown));
            out.str(" of ");
            out.number(u64::from(of));
            out.str(" flows; --all shows all)\n");
        });
    }
}
