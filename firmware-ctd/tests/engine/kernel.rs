//! A simulated kernel: connection tracking and its ctnetlink sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::checkpoint::SavedFlow;
use firmware_ctd::time::{Instant, Now, WallTime};
use firmware_ctd::wire::nlmsg::flags;
use firmware_ctd::wire::{
    Conntrack, Counters, Done, Event, Helper, L4, Labels, Message, ProtoInfo, Protocol, Response,
    Status, Tcp, TcpState, Tuple, Writer,
};

/// When the simulation begins.
const EPOCH_NS: u64 = 1_795_289_206_000_000_000;
/// The time of an event is that much later than what it tells.
pub(crate) const NEW_AFTER_START_NS: u64 = 2;
/// A destroy that was not taken is repeated after this long, and then after the second.
const FIRST_RETRY_US: u64 = 1_000_000;
const RETRY_US: u64 = 10_000;

/// What kind of kernel it is, and how it is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// `nf_conntrack_timestamp`.
    pub(crate) timestamps: bool,
    /// `nf_conntrack_acct`.
    pub(crate) acct: bool,
    /// `CTA_TIMESTAMP_EVENT` is sent (with timestamps).
    pub(crate) event_ns: bool,
    /// It has an event path at all.
    pub(crate) events: bool,
    /// A destroy that is not taken is repeated.
    pub(crate) reliable: bool,
    /// Messages that wait in a socket at most.
    pub(crate) state_room: usize,
    pub(crate) destroy_room: usize,
    /// Entries in one part of a dump.
    pub(crate) part: usize,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            timestamps: true,
            acct: true,
            event_ns: true,
            events: true,
            reliable: true,
            state_room: 1_000,
            destroy_room: 1_000,
            part: 4,
        }
    }
}

/// One flow, from its beginning to long after its end.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Which flow it was; also in the low bits of its mark.
    pub(crate) serial: u32,
    pub(crate) orig: Tuple,
    pub(crate) reply: Tuple,
    pub(crate) zone: u16,
    pub(crate) id: u32,
    pub(crate) status: u32,
    pub(crate) mark: u32,
    pub(crate) expires_us: u64,
    pub(crate) start_ns: Option<u64>,
    pub(crate) stop_ns: Option<u64>,
    pub(crate) counters: Option<[Counters; 2]>,
    /// What was really transferred, whoever zeroed the counters.
    pub(crate) transferred: [Counters; 2],
    pub(crate) zeroed: bool,
    pub(crate) tcp_state: Option<u8>,
    pub(crate) helper: bool,
    pub(crate) labels: Option<Labels>,
    /// It has the event extension.
    pub(crate) tells: bool,
    missed_new: bool,
    missed_update: bool,
    pub(crate) died_us: Option<u64>,
    /// How often its DESTROY was put into our socket.
    pub(crate) delivered: u32,
    /// Its DESTROY is lost for good, or there never was one.
    pub(crate) silent: bool,
    /// The last dump that left it out although it lived: whole dumps before it, and one.
    pub(crate) skipped_in: u32,
    /// It was saved before a reboot, and this is when (wall clock in milliseconds).
    pub(crate) saved: Option<(SavedFlow, u64)>,
    /// And it was made again.
    pub(crate) made: bool,
}

impl Flow {
    /// The start that records tell.
    pub(crate) fn true_start_ns(&self) -> Option<u64> {
        let saved = self.saved.and_then(|(saved, _)| saved.start_ms);
        saved.map(|ms| ms * 1_000_000).or(self.start_ns)
    }

    /// What was counted before this boot.
    pub(crate) fn base(&self) -> Option<[Counters; 2]> {
        self.saved.and_then(|(saved, _)| saved.counters)
    }
}

/// What becomes of a saved flow until the daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is made again.
    Made,
    /// It is made, and ends unheard.
    Ended,
    /// The kernel refuses it.
    Refused,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Chooses the tuple and zone.
    pub(crate) name: u32,
    /// The same object of memory as before, so that the id repeats.
    pub(crate) same_memory: bool,
    pub(crate) tells: bool,
}

#[derive(Debug)]
struct Dump {
    seq: u32,
    /// The last entry that was made ready.
    after: Option<u64>,
    done: bool,
    /// One of its entries cannot be read.
    garbled: bool,
}

/// What goes wrong with the next dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// The request is refused.
    Refused,
    /// The end says that it failed.
    FailsAtEnd,
    /// It was not consistent.
    Interrupted,
    /// Nothing more comes.
    Silent,
    /// One entry is left out.
    Skips,
    /// One entry cannot be read.
    Garbled,
}

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) kind: Kind,
    pub(crate) boot_us: u64,
    pub(crate) wall_offset_ns: u64,
    /// All flows that ever were, by serial number.
    pub(crate) flows: Vec<Flow>,
    pub(crate) live: Vec<u32>,
    dying: VecDeque<u32>,
    retry_us: u64,
    pub(crate) state_queue: VecDeque<Vec<u8>>,
    pub(crate) destroy_queue: VecDeque<Vec<u8>>,
    pub(crate) state_drops: u32,
    pub(crate) destroy_drops: u32,
    /// NEWs and UPDATEs that another processor is about to send.
    delayed: Vec<(u64, Vec<u8>)>,
    /// Another reliable listener does not read: destroys are repeated to us too.
    pub(crate) other_listener_full: bool,
    pub(crate) stepped_back: bool,
    request_queue: VecDeque<Vec<u8>>,
    dump: Option<Dump>,
    pub(crate) trouble: Trouble,
    pub(crate) dumps_begun: u32,
    pub(crate) dumps_done: u32,
}

impl Kernel {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            boot_us: 100_000_000,
            wall_offset_ns: EPOCH_NS,
            flows: Vec::new(),
            live: Vec::new(),
            dying: VecDeque::new(),
            retry_us: 0,
            state_queue: VecDeque::new(),
            destroy_queue: VecDeque::new(),
            state_drops: 0,
            destroy_drops: 0,
            delayed: Vec::new(),
            other_listener_full: false,
            stepped_back: false,
            request_queue: VecDeque::new(),
            dump: None,
            trouble: Trouble::None,
            dumps_begun: 0,
            dumps_done: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { boot: Instant::from_micros(self.boot_us), wall: WallTime::from_nanos(self.wall_ns()) }
    }

    pub(crate) fn wall_ns(&self) -> u64 {
        self.wall_offset_ns + self.boot_us * 1_000
    }

    /// Somebody sets the clock.
    pub(crate) fn step_clock(&mut self, by_ns: i64) {
        self.wall_offset_ns = self.wall_offset_ns.saturating_add_signed(by_ns);
        self.stepped_back |= by_ns < 0;
    }

    /// Time passes: what was under way arrives, what was not taken is repeated.
    pub(crate) fn advance(&mut self, us: u64) {
        self.boot_us += us;
        let now = self.boot_us;
        let (due, later) = core::mem::take(&mut self.delayed).into_iter().partition(|d| d.0 <= now);
        self.delayed = later;
        for (_, bytes) in due {
            self.put_state(bytes, None);
        }
        // One after the other, until one is not taken.
        while let Some(&serial) = self.dying.front().filter(|_| self.retry_us <= now) {
            if self.offer_destroy(serial) {
                self.dying.pop_front();
            } else {
                self.retry_us = now + RETRY_US;
            }
        }
    }

    /// When the kernel does something by itself next.
    pub(crate) fn next_us(&self) -> u64 {
        let retry = (!self.dying.is_empty()).then_some(self.retry_us);
        retry.into_iter().chain(self.delayed.iter().map(|d| d.0)).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.dying.is_empty() && self.delayed.is_empty() && self.destroy_queue.is_empty()
    }

    pub(crate) fn flow(&self, serial: u32) -> &Flow {
        &self.flows[serial as usize - 1]
    }

    pub(crate) fn flow_mut(&mut self, serial: u32) -> &mut Flow {
        &mut self.flows[serial as usize - 1]
    }

    /// Makes a flow, unless one with its tuple lives. `delay_us` is how long its NEW is under way.
    pub(crate) fn create(&mut self, recipe: Recipe, delay_us: u64) -> Option<u32> {
        let (orig, zone) = name(recipe.name);
        if self.live.iter().any(|&s| (self.flow(s).orig, self.flow(s).zone) == (orig, zone)) {
            return None;
        }
        let serial = u32::try_from(self.flows.len()).unwrap() + 1;
        let id = self.new_id(recipe, serial);
        let tcp = orig.proto == Protocol::TCP;
        self.flows.push(Flow {
            serial,
            orig,
            reply: reply_of(&orig),
            zone,
            id,
            status: Status::CONFIRMED,
            mark: serial,
            expires_us: self.boot_us + 30_000_000,
            start_ns: self.kind.timestamps.then(|| self.wall_ns()),
            stop_ns: None,
            counters: self.kind.acct.then(Default::default),
            transferred: Default::default(),
            zeroed: false,
            tcp_state: tcp.then_some(1),
            helper: recipe.name % 7 == 1,
            labels: (recipe.name % 5 == 2)
                .then_some(Labels([u8::try_from(serial % 250).unwrap() + 1; 16])),
            tells: recipe.tells && self.kind.events,
            missed_new: false,
            missed_update: false,
            died_us: None,
            delivered: 0,
            silent: false,
            skipped_in: 0,
            saved: None,
            made: true,
        });
        self.live.push(serial);
        self.tell(serial, true, delay_us);
        // Nothing happens twice in the same microsecond.
        self.advance(1);
        Some(serial)
    }

    /// A kernel of the same kind after a reboot, half a minute later; its clock goes on.
    pub(crate) fn rebooted(&self) -> Self {
        let wall_offset_ns = self.wall_ns() + 30_000_000_000 - 20_000_000_000;
        Self { boot_us: 20_000_000, wall_offset_ns, ..Self::new(self.kind) }
    }

    /// Makes a saved flow again, or not; nobody listens. Its mark tells its serial.
    pub(crate) fn restore(&mut self, saved: &SavedFlow, saved_ms: u64, fate: Fate) -> u32 {
        let serial = u32::try_from(self.flows.len()).unwrap() + 1;
        assert_eq!(saved.mark & 0xff_ffff, serial);
        let made = fate != Fate::Refused;
        self.flows.push(Flow {
            serial,
            orig: saved.orig,
            reply: saved.reply,
            zone: saved.zone,
            id: serial.wrapping_mul(0x9e37_79b9) | 1,
            status: saved.status.0,
            mark: saved.mark,
            expires_us: self.boot_us + u64::from(saved.timeout_s.unwrap()) * 1_000_000,
            start_ns: (self.kind.timestamps && made).then(|| self.wall_ns()),
            stop_ns: None,
            counters: (self.kind.acct && made).then(Default::default),
            transferred: saved.counters.unwrap_or_default(),
            zeroed: false,
            tcp_state: saved.l4_state.map(|state| state.state),
            helper: saved.rare.helper.is_some(),
            labels: saved.rare.labels,
            tells: self.kind.events,
            missed_new: false,
            missed_update: false,
            died_us: (fate != Fate::Made).then_some(self.boot_us),
            delivered: 0,
            silent: fate != Fate::Made,
            skipped_in: 0,
            saved: Some((*saved, saved_ms)),
            made,
        });
        if fate == Fate::Made {
            self.live.push(serial);
        }
        self.advance(1);
        serial
    }

    /// `CTA_ID` is a hash of the tuple and the object's address; objects of the dying are in use.
    fn new_id(&self, recipe: Recipe, serial: u32) -> u32 {
        let of = |memory: u32| {
            recipe.name.wrapping_mul(0x9e37_79b9) ^ memory.wrapping_mul(0x85eb_ca6b) | 1
        };
        let taken = self.dying.iter().any(|&s| self.flow(s).id == of(0));
        if recipe.same_memory && !taken { of(0) } else { of(serial) }
    }

    /// Packets pass. A change of state is told.
    pub(crate) fn traffic(&mut self, serial: u32, packets: u64, bytes: u64, delay_us: u64) {
        let expires_us = self.boot_us + 60_000_000;
        let flow = self.flow_mut(serial);
        for direction in 0..2 {
            let more = |c: &mut Counters| {
                c.packets += packets;
                c.bytes += bytes * (1 + direction as u64);
            };
            more(&mut flow.transferred[direction]);
            if let Some(counters) = &mut flow.counters {
                more(&mut counters[direction]);
            }
        }
        flow.expires_us = expires_us;
        let status = flow.status | Status::SEEN_REPLY;
        let state = flow.tcp_state.map(|state| (state + 1).min(7));
        let changed = status != flow.status || state != flow.tcp_state;
        flow.status = status;
        flow.tcp_state = state;
        if changed || flow.missed_new || flow.missed_update {
            self.tell(serial, false, delay_us);
        }
    }

    pub(crate) fn change_mark(&mut self, serial: u32, delay_us: u64) {
        let flow = self.flow_mut(serial);
        flow.mark = flow.mark.wrapping_add(1 << 24);
        self.tell(serial, false, delay_us);
    }

    /// Another program reads and zeroes all counters.
    pub(crate) fn zero_counters(&mut self) {
        for at in 0..self.live.len() {
            let serial = self.live[at];
            let flow = self.flow_mut(serial);
            if let Some(counters) =
                flow.counters.as_mut().filter(|c| **c != [Counters::default(); 2])
            {
                *counters = [Counters::default(); 2];
                flow.zeroed = true;
            }
        }
    }

    pub(crate) fn destroy(&mut self, serial: u32) {
        let (now_us, wall_ns) = (self.boot_us, self.wall_ns());
        self.live.retain(|&s| s != serial);
        let timestamps = self.flow(serial).start_ns.is_some();
        let flow = self.flow_mut(serial);
        flow.died_us = Some(now_us);
        flow.stop_ns = timestamps.then_some(wall_ns);
        if flow.tells {
            self.send_destroy(serial);
        } else {
            flow.silent = true;
        }
        self.advance(1);
    }

    fn send_destroy(&mut self, serial: u32) {
        if self.offer_destroy(serial) {
            return;
        }
        if self.kind.reliable {
            if self.dying.is_empty() {
                self.retry_us = self.boot_us + FIRST_RETRY_US;
            }
            self.dying.push_back(serial);
        } else {
            self.flow_mut(serial).silent = self.flow(serial).delivered == 0;
        }
    }

    /// Offers a DESTROY to all listeners: whether all have taken it.
    fn offer_destroy(&mut self, serial: u32) -> bool {
        let taken = self.destroy_queue.len() < self.kind.destroy_room;
        if taken {
            let bytes = written(Event::Destroy, &self.as_destroyed(self.flow(serial)));
            self.destroy_queue.push_back(bytes);
            self.flow_mut(serial).delivered += 1;
        } else {
            self.destroy_drops = self.destroy_drops.wrapping_add(1);
        }
        taken && !self.other_listener_full
    }

    /// Sends a NEW or UPDATE.
    fn tell(&mut self, serial: u32, new: bool, delay_us: u64) {
        let flow = self.flow(serial);
        if !flow.tells {
            return;
        }
        let event = if new || flow.missed_new { Event::New } else { Event::Update };
        let mut ct = self.common(flow);
        ct.timeout_s = Some(self.timeout_s(flow));
        ct.helper = flow.helper.then_some(FTP);
        ct.protoinfo = tcp(flow, true);
        ct.labels = flow.labels.filter(|_| event == Event::New);
        let bytes = written(event, &ct);
        if delay_us > 0 {
            self.delayed.push((self.boot_us + delay_us, bytes));
        } else {
            self.put_state(bytes, Some((serial, event)));
        }
    }

    fn put_state(&mut self, bytes: Vec<u8>, of: Option<(u32, Event)>) {
        let taken = self.state_queue.len() < self.kind.state_room;
        if taken {
            self.state_queue.push_back(bytes);
        } else {
            self.state_drops = self.state_drops.wrapping_add(1);
        }
        if let Some((serial, event)) = of {
            let flow = self.flow_mut(serial);
            flow.missed_new = !taken && event == Event::New;
            flow.missed_update = !taken;
        }
    }

    fn timeout_s(&self, flow: &Flow) -> u32 {
        u32::try_from(flow.expires_us.saturating_sub(self.boot_us) / 1_000_000).unwrap()
    }

    fn common(&self, flow: &Flow) -> Conntrack<'static> {
        Conntrack {
            orig: Some(flow.orig),
            reply: Some(flow.reply),
            zone: (flow.zone != 0).then_some(flow.zone),
            id: Some(flow.id),
            status: Some(Status(flow.status)),
            mark: Some(flow.mark),
            event_ns: (self.kind.event_ns && flow.start_ns.is_some())
                .then(|| self.wall_ns() + NEW_AFTER_START_NS),
            ..Conntrack::default()
        }
    }

    fn as_destroyed(&self, flow: &Flow) -> Conntrack<'static> {
        let [orig, reply] = flow.counters.map_or([None; 2], |c| c.map(Some));
        Conntrack {
            counters_orig: orig,
            counters_reply: reply,
            start_ns: flow.start_ns,
            stop_ns: flow.stop_ns,
            protoinfo: tcp(flow, false),
            ..self.common(flow)
        }
    }

    fn as_listed(&self, flow: &Flow) -> Conntrack<'static> {
        Conntrack {
            timeout_s: Some(self.timeout_s(flow)),
            event_ns: None,
            stop_ns: None,
            helper: flow.helper.then_some(FTP),
            protoinfo: tcp(flow, true),
            labels: flow.labels,
            ..self.as_destroyed(flow)
        }
    }

    /// Somebody asks for the table: the first part is made ready at once.
    pub(crate) fn request_dump(&mut self, seq: u32) {
        self.dumps_begun += 1;
        self.request_queue.clear();
        if self.trouble == Trouble::Refused {
            self.trouble = Trouble::None;
            let refusal = Message::Response(Response { errno: 16, ..Response::default() });
            self.request_queue.push_back(message(&refusal, seq, 0));
            self.dump = None;
            return;
        }
        self.dump = Some(Dump { seq, after: None, done: false, garbled: false });
        self.make_part();
    }

    /// Reads a part; the next one is made ready then.
    pub(crate) fn read_part(&mut self) -> Option<Vec<u8>> {
        let part = self.request_queue.pop_front()?;
        self.make_part();
        Some(part)
    }

    fn make_part(&mut self) {
        let Some(dump) = &self.dump else { return };
        if dump.done || self.trouble == Trouble::Silent {
            self.trouble = Trouble::None;
            self.dump = None;
            return;
        }
        let (seq, after) = (dump.seq, dump.after);
        let mut listed: Vec<(u64, u32)> = self
            .live
            .iter()
            .map(|&serial| (place(self.flow(serial)), serial))
            .filter(|&(place, _)| after.is_none_or(|after| place > after))
            .collect();
        listed.sort_unstable();
        listed.truncate(self.kind.part);
        let flag = if self.trouble == Trouble::Interrupted { flags::DUMP_INTR } else { 0 };
        if listed.is_empty() {
            return self.end_dump(seq, flag);
        }
        let mut bytes = Vec::new();
        for &(_, serial) in &listed {
            bytes.extend(self.entry(serial, seq, flag));
        }
        self.request_queue.push_back(bytes);
        if let Some(dump) = &mut self.dump {
            dump.after = listed.last().map(|&(place, _)| place);
        }
    }

    /// One entry; the one that trouble is with, once, is left out or broken.
    fn entry(&mut self, serial: u32, seq: u32, flag: u16) -> Vec<u8> {
        // Never in two whole dumps that follow each other.
        let dump = self.dumps_done + 1;
        let flow = self.flow(serial);
        let spared = flow.skipped_in == 0 || dump - flow.skipped_in > 1;
        let ct = self.as_listed(flow);
        let mut bytes =
            message(&Message::Conntrack { event: Event::Update, ct }, seq, flags::MULTI | flag);
        if self.trouble == Trouble::Skips && spared {
            self.trouble = Trouble::None;
            self.flow_mut(serial).skipped_in = dump;
            bytes.clear();
        } else if self.trouble == Trouble::Garbled {
            self.trouble = Trouble::None;
            // The first attribute claims to be longer than the message.
            bytes[20..22].copy_from_slice(&u16::MAX.to_ne_bytes());
            if let Some(dump) = &mut self.dump {
                dump.garbled = true;
            }
        }
        bytes
    }

    fn end_dump(&mut self, seq: u32, flag: u16) {
        let errno = if self.trouble == Trouble::FailsAtEnd { 12 } else { 0 };
        let done = Message::Done(Done { errno, ext_msg: None });
        self.request_queue.push_back(message(&done, seq, flags::MULTI | flag));
        let garbled = self.dump.as_ref().is_some_and(|dump| dump.garbled);
        if errno == 0 && flag == 0 && !garbled {
            self.dumps_done += 1;
        }
        self.trouble = Trouble::None;
        if let Some(dump) = &mut self.dump {
            dump.done = true;
        }
    }
}

const FTP: Helper<'static> = Helper { name: b"ftp", info: None };

/// DESTROY carries the state of TCP alone.
fn tcp(flow: &Flow, whole: bool) -> ProtoInfo {
    flow.tcp_state.map_or(ProtoInfo::None, |state| {
        let scale = whole.then_some(7);
        ProtoInfo::Tcp(Tcp {
            state: Some(TcpState(state)),
            wscale_orig: scale,
            wscale_reply: scale,
            ..Tcp::default()
        })
    })
}

/// Where a flow stands in the kernel's table.
fn place(flow: &Flow) -> u64 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let l4 = match flow.orig.l4 {
        L4::Ports { src, dst } => u64::from(src) << 16 | u64::from(dst),
        L4::Icmp { id, .. } => u64::from(id),
        L4::None => 0,
    };
    let folded = octets(flow.orig.src) ^ octets(flow.orig.src) >> 64;
    let name = u64::try_from(folded & u128::from(u64::MAX)).unwrap();
    let mixed = (name ^ l4 << 20 ^ u64::from(flow.zone) << 50 ^ u64::from(flow.orig.proto.0) << 40)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // No two live flows share a place.
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The tuple and zone with this number.
pub(crate) fn name(number: u32) -> (Tuple, u16) {
    let [_, a, b, c] = number.to_be_bytes();
    let ports = L4::Ports { src: 1024 + u16::from_be_bytes([b, c]), dst: 80 };
    let (proto, l4) = match number % 4 {
        0 | 1 => (Protocol::TCP, ports),
        2 => (Protocol::UDP, ports),
        _ => (Protocol::ICMP, L4::Icmp { id: u16::from_be_bytes([b, c]), kind: 8, code: 0 }),
    };
    let zone = if number % 6 == 5 { 3 } else { 0 };
    let address = |last| {
        if number % 8 == 2 {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, u16::from(a), 0, 0, u16::from(b), last))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, a, b, u8::try_from(last).unwrap()))
        }
    };
    (Tuple { src: address(2), dst: address(1), proto, l4 }, zone)
}

/// A translated reply.
fn reply_of(orig: &Tuple) -> Tuple {
    let inverse = orig.inverse();
    match inverse.dst {
        IpAddr::V4(_) => Tuple { dst: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)), ..inverse },
        IpAddr::V6(_) => inverse,
    }
}

fn written(event: Event, ct: &Conntrack<'_>) -> Vec<u8> {
    message(&Message::Conntrack { event, ct: *ct }, 0, 0)
}

/// The bytes of a message, with more flags in its header.
fn message(message: &Message<'_>, seq: u32, more: u16) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut writer = Writer::new(&mut buffer);
    message.emit(&mut writer, seq).unwrap();
    let mut bytes = writer.as_bytes().to_vec();
    let flags = u16::from_ne_bytes([bytes[6], bytes[7]]) | more;
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}
