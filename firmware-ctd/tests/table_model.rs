//! The flow table against a naive model: whatever is done to it, it holds what a map of stacks
//! would hold, in memory that is fixed and touched only where flows are.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::table::{
    BYTES_EXTENSION, BYTES_IPV4, BYTES_IPV6, Carried, Extension, FlowTable, Full, L4State,
    MAX_CAPACITY, MIN_CAPACITY, Slot, Usage, flag,
};
use firmware_ctd::wire::{Counters, L4, Labels, Protocol, SeqAdj, Status, SynProxy, Tuple};
use proptest::prelude::*;

const SEED: [u32; 2] = [0x0123_4567, 0x89ab_cdef];

/// What a flow must read back as.
#[derive(Clone, Debug)]
struct Wanted {
    slot: Slot,
    reply: Option<Tuple>,
    id: u32,
    status: u32,
    mark: u32,
    flags: u32,
    generation: u16,
    counters: [Counters; 2],
    start_ns: u64,
    expires_s: Option<u32>,
    as_of_s: u32,
    l4_state: Option<L4State>,
    extension: Extension,
    carried: Carried,
    /// How often the walk under way has met it, and whether it was there when the walk began.
    met: u32,
    throughout: bool,
}

impl Wanted {
    fn new(slot: Slot) -> Self {
        Self {
            slot,
            reply: None,
            id: 0,
            status: 0,
            mark: 0,
            flags: 0,
            generation: 0,
            counters: [Counters::default(); 2],
            start_ns: 0,
            expires_s: None,
            as_of_s: 0,
            l4_state: None,
            extension: Extension::default(),
            carried: Carried::default(),
            met: 0,
            throughout: false,
        }
    }
}

/// One thing done to the table; what the numbers mean depends on the kind.
#[derive(Clone, Copy, Debug)]
struct Op {
    kind: u8,
    a: u32,
    b: u64,
}

type Name = (Tuple, u16);

struct World<'m> {
    table: FlowTable<'m>,
    model: BTreeMap<Name, Vec<Wanted>>,
    /// All flows of the model, to pick from.
    alive: Vec<(Name, Slot)>,
    cells: u32,
    cells_used: u32,
    peak: u32,
    extensions: u32,
    extensions_used: u32,
    /// Next bucket of the walk under way.
    walk: usize,
    refused: u64,
}

impl<'m> World<'m> {
    fn new(memory: &'m mut [u32], capacity: u32, extensions: u32) -> Self {
        let table = FlowTable::format(memory, capacity, extensions, SEED).unwrap();
        Self {
            table,
            model: BTreeMap::new(),
            alive: Vec::new(),
            cells: 2 * capacity,
            cells_used: 0,
            peak: 0,
            extensions,
            extensions_used: 0,
            walk: 0,
            refused: 0,
        }
    }

    fn apply(&mut self, op: Op, variety: u32) {
        match op.kind % 16 {
            0..=2 => self.insert(name(op.a, variety)),
            3 | 4 => self.remove(op.a),
            5 => self.walk_on(),
            6 => self.check_key(name(op.a, variety)),
            kind => self.change(kind, op),
        }
    }

    fn insert(&mut self, name: Name) {
        let wanted = if name.0.src.is_ipv6() { 3 } else { 2 };
        let key = self.table.key(&name.0, name.1);
        match self.table.insert(&key) {
            Ok(slot) => {
                assert!(self.cells_used + wanted <= self.cells, "more flows than there is room");
                self.cells_used += wanted;
                self.peak = self.peak.max(self.cells_used);
                self.model.entry(name).or_default().push(Wanted::new(slot));
                self.alive.push((name, slot));
                self.check(name, slot);
            }
            Err(Full) => {
                self.refused += 1;
                assert!(self.cells_used + wanted > self.cells, "refused although there is room");
            }
        }
        self.check_key(name);
    }

    fn pick(&self, number: u32) -> Option<(Name, Slot)> {
        let count = u32::try_from(self.alive.len()).unwrap();
        let at = number.checked_rem(count)?;
        Some(self.alive[at as usize])
    }

    fn remove(&mut self, number: u32) {
        let Some((name, slot)) = self.pick(number) else { return };
        self.table.remove(slot);
        let stack = self.model.get_mut(&name).unwrap();
        let at = stack.iter().position(|w| w.slot == slot).unwrap();
        let gone = stack.remove(at);
        if stack.is_empty() {
            self.model.remove(&name);
        }
        self.alive.retain(|&(_, other)| other != slot);
        self.cells_used -= if name.0.src.is_ipv6() { 3 } else { 2 };
        self.extensions_used -= u32::from(!gone.extension.is_empty());
        self.cells_used -= u32::from(!gone.carried.is_empty());
        self.check_key(name);
    }

    fn change(&mut self, kind: u8, op: Op) {
        let Some((name, slot)) = self.pick(op.a) else { return };
        let wanted = self
            .model
            .get_mut(&name)
            .and_then(|stack| stack.iter_mut().find(|w| w.slot == slot))
            .unwrap();
        let mut flow = self.table.flow_mut(slot);
        let low = (op.b & 0xffff_ffff) as u32;
        match kind {
            7 => {
                let reply = reply_of(&name.0, op.b);
                flow.set_reply(&reply);
                wanted.reply = Some(reply);
            }
            8 => {
                flow.set_id(low);
                flow.set_status(Status(!low));
                flow.set_mark(low.rotate_left(9));
                [wanted.id, wanted.status, wanted.mark] = [low, !low, low.rotate_left(9)];
            }
            9 => {
                let counters = counters(op.b);
                flow.set_counters(counters);
                wanted.counters = counters;
                wanted.flags |= flag::COUNTERS;
            }
            10 => {
                let how = if op.b & 1 == 0 { flag::START_EXACT } else { flag::START_EVENT };
                flow.set_start(op.b, how);
                wanted.start_ns = op.b;
                wanted.flags &= !(flag::START_EXACT | flag::START_EVENT);
                wanted.flags |= how;
            }
            11 => {
                flow.set_expires_s(low);
                flow.set_as_of_s(!low);
                wanted.expires_s = Some(low);
                wanted.as_of_s = !low;
                wanted.flags |= flag::TIMEOUT;
            }
            12 => {
                let [state, wscales, flags_orig, flags_reply] = low.to_le_bytes();
                let state = L4State { state, wscales, flags_orig, flags_reply };
                flow.set_l4_state(state);
                wanted.l4_state = Some(state);
                wanted.flags |= flag::L4_STATE;
            }
            13 => {
                // Only bits that have no value of their own, so that the model stays simple.
                const FREE: u32 = flag::INEXACT | flag::MISSED | flag::DOUBTFUL | flag::FROM_DUMP;
                let (set, clear) = (low & FREE, (op.b >> 32) as u32 & FREE);
                flow.change_flags(set, clear);
                flow.set_generation((low & 0xffff) as u16);
                wanted.flags = wanted.flags & !clear | set;
                wanted.generation = (low & 0xffff) as u16;
            }
            14 => self.extend(name, slot, op.b),
            _ => self.carry(name, slot, op.b),
        }
        self.check(name, slot);
    }

    fn extend(&mut self, name: Name, slot: Slot, number: u64) {
        let stack = self.model.get_mut(&name).unwrap();
        let wanted = stack.iter_mut().find(|w| w.slot == slot).unwrap();
        let (before, after) = (wanted.extension, extension(number));
        let room = self.extensions_used < self.extensions || !before.is_empty();
        match self.table.set_extension(slot, &after) {
            Ok(()) => {
                assert!(room || after.is_empty(), "more extensions than there is room");
                wanted.extension = after;
                self.extensions_used += u32::from(!after.is_empty());
                self.extensions_used -= u32::from(!before.is_empty());
            }
            Err(Full) => assert!(!room && !after.is_empty(), "refused although there is room"),
        }
    }

    fn carry(&mut self, name: Name, slot: Slot, number: u64) {
        let stack = self.model.get_mut(&name).unwrap();
        let wanted = stack.iter_mut().find(|w| w.slot == slot).unwrap();
        let (before, after) = (wanted.carried, carried(number));
        let room = self.cells_used < self.cells || !before.is_empty();
        match self.table.set_carried(slot, &after) {
            Ok(()) => {
                assert!(room || after.is_empty(), "more cells than there is room");
                wanted.carried = after;
                self.cells_used += u32::from(!after.is_empty());
                self.cells_used -= u32::from(!before.is_empty());
                self.peak = self.peak.max(self.cells_used);
            }
            Err(Full) => assert!(!room && !after.is_empty(), "refused although there is room"),
        }
    }

    /// One bucket further; a walk meets each flow that lives throughout once.
    fn walk_on(&mut self) {
        if self.walk == 0 {
            for wanted in self.model.values_mut().flatten() {
                wanted.met = 0;
                wanted.throughout = true;
            }
        }
        let mut next = self.table.first(self.walk);
        while let Some(slot) = next {
            let flow = self.table.flow(slot);
            let stack = self.model.get_mut(&(flow.orig(), flow.zone())).unwrap();
            stack.iter_mut().find(|w| w.slot == slot).unwrap().met += 1;
            next = self.table.next(slot);
        }
        self.walk += 1;
        if self.walk == self.table.buckets() {
            self.walk = 0;
            for wanted in self.model.values_mut().flatten().filter(|w| w.throughout) {
                assert_eq!(wanted.met, 1, "{wanted:?}");
                wanted.throughout = false;
            }
        }
    }

    /// The flows of one key, newest first, are those of the model.
    fn check_key(&self, name: Name) {
        let key = self.table.key(&name.0, name.1);
        let mut found = Vec::new();
        let mut next = self.table.find(&key);
        while let Some(slot) = next {
            found.push(slot);
            assert_eq!(self.table.key_of(slot), key);
            next = self.table.next_older(slot, &key);
        }
        let wanted = self.model.get(&name).map(Vec::as_slice).unwrap_or_default();
        assert!(found.iter().eq(wanted.iter().rev().map(|w| &w.slot)), "{name:?}");
    }

    fn check(&self, name: Name, slot: Slot) {
        let stack = &self.model[&name];
        let wanted = stack.iter().find(|w| w.slot == slot).unwrap();
        let flow = self.table.flow(slot);
        assert_eq!((flow.orig(), flow.zone()), name);
        if let Some(reply) = wanted.reply {
            assert_eq!(flow.reply(), reply);
        } else {
            assert_eq!(flow.reply().src.is_ipv6(), name.0.src.is_ipv6());
            assert!(flow.reply().src.is_unspecified() && flow.reply().dst.is_unspecified());
        }
        assert_eq!(flow.id(), wanted.id);
        assert_eq!(flow.status(), Status(wanted.status));
        assert_eq!(flow.mark(), wanted.mark);
        assert_eq!(flow.flags(), wanted.flags);
        assert_eq!(flow.generation(), wanted.generation);
        assert_eq!(flow.counters(), wanted.counters);
        assert_eq!(flow.start_ns(), wanted.start_ns);
        assert_eq!(flow.expires_s(), wanted.expires_s);
        assert_eq!(flow.as_of_s(), wanted.as_of_s);
        assert_eq!(flow.l4_state(), wanted.l4_state);
        assert_eq!(flow.extension(), wanted.extension);
        assert_eq!(flow.carried(), wanted.carried);
    }

    fn check_all(&self) {
        for (name, stack) in &self.model {
            self.check_key(*name);
            for wanted in stack {
                self.check(*name, wanted.slot);
            }
        }
        let ipv6 = self.alive.iter().filter(|(name, _)| name.0.src.is_ipv6()).count();
        let ipv4 = self.alive.len() - ipv6;
        let permille =
            |cells: u32| u32::try_from(u64::from(cells) * 1000 / u64::from(self.cells)).unwrap();
        let expected = Usage {
            capacity: self.cells / 2,
            ipv4: u32::try_from(ipv4).unwrap(),
            ipv6: u32::try_from(ipv6).unwrap(),
            permille: permille(self.cells_used),
            peak_permille: permille(self.peak),
            extensions: self.extensions,
            extensions_used: self.extensions_used,
        };
        assert_eq!(self.table.usage(), expected);
        assert_eq!(self.table.len() as usize, self.alive.len());
        assert_eq!(self.table.is_empty(), self.alive.is_empty());
    }

    fn clear(&mut self) {
        while !self.alive.is_empty() {
            self.remove(u32::try_from(self.alive.len() / 2).unwrap());
        }
        self.check_all();
    }
}

/// A name out of `variety`: all families, protocols and shapes, few addresses, so that names come
/// again.
fn name(number: u32, variety: u32) -> Name {
    let number = number % variety;
    let shape = number % 9;
    let [_, a, b, c] = (number / 9).to_be_bytes();
    let ports = L4::Ports { src: u16::from_be_bytes([b, c]), dst: 0xff00 | u16::from(a) };
    let icmp = L4::Icmp { id: u16::from_be_bytes([b, c]), kind: 8, code: a };
    let (proto, l4) = match shape {
        0 | 1 => (Protocol::UDP, ports),
        2 | 3 => (Protocol::TCP, ports),
        4 => (Protocol::GRE, ports),
        5 => (Protocol::ICMP, icmp),
        6 => (Protocol::ICMPV6, icmp),
        7 => (Protocol(253), L4::None),
        _ => (Protocol::SCTP, ports),
    };
    // The first words are the same in both families; of IPv6 only the last words tell.
    let v6 = matches!(shape, 1 | 3 | 6);
    let address = |x: u8, y: u8, last: u8| {
        if v6 {
            IpAddr::V6(Ipv6Addr::from([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, x, y, last]))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, x, y, last))
        }
    };
    let (src, dst, l4) = match shape {
        1 => (address(b, c, 1), address(0, 0, 2), L4::Ports { src: 1, dst: 2 }),
        3 => (address(0, 0, 1), address(b, c, 2), L4::Ports { src: 1, dst: 2 }),
        7 => (address(b, c, 1), address(0, 0, 2), l4),
        _ => (address(0, 0, 1), address(0, 0, 2), l4),
    };
    let zone = [0, 0, 1, 0xffff][number as usize / 9 % 4];
    (Tuple { src, dst, proto, l4 }, zone)
}

fn reply_of(orig: &Tuple, number: u64) -> Tuple {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&number.to_be_bytes());
    octets[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let [a, b, c, d, ..] = octets;
    let (src, dst) = if orig.src.is_ipv6() {
        (IpAddr::from(octets), IpAddr::V6(Ipv6Addr::from_bits(!u128::from_be_bytes(octets))))
    } else {
        (IpAddr::from([a, b, c, d]), IpAddr::from([!d, c, b, a]))
    };
    let [e, f, g, h, ..] = number.to_le_bytes();
    let l4 = match orig.l4 {
        L4::None => L4::None,
        L4::Ports { .. } => {
            L4::Ports { src: u16::from_be_bytes([e, f]), dst: u16::from_be_bytes([g, h]) }
        }
        L4::Icmp { .. } => L4::Icmp { id: u16::from_be_bytes([e, f]), kind: g, code: h },
    };
    Tuple { src, dst, proto: orig.proto, l4 }
}

fn counters(number: u64) -> [Counters; 2] {
    let at = |shift| number.rotate_left(shift);
    [Counters { packets: at(0), bytes: at(13) }, Counters { packets: !at(29), bytes: at(51) }]
}

/// Any mixture of parts, none included.
fn extension(number: u64) -> Extension {
    let word = |shift: u32| (number >> shift & 0xffff_ffff) as u32;
    let has = |bit: u32| number >> (32 + bit) & 1 == 1;
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    let bytes = [a, b, c, d, e, f, g, h, !a, !b, !c, !d, !e, !f, !g, !h];
    let seqadj =
        |n| SeqAdj { correction_pos: word(n), offset_before: word(1), offset_after: !word(n) };
    Extension {
        labels: has(0).then_some(Labels(bytes)),
        seqadj_orig: has(1).then(|| seqadj(3)),
        seqadj_reply: has(2).then(|| seqadj(5)),
        helper: has(3).then_some(bytes),
        master: has(4).then(|| reply_of(&name(word(7), 5000).0, number)),
        vtags: has(5).then(|| [word(8), word(9)]),
        synproxy: has(6).then(|| SynProxy { isn: word(1), its: word(11), tsoff: word(13) }),
        zone_reply: has(7).then(|| (word(2) & 0xffff) as u16),
    }
}

/// Any mixture of what a flow carries on, none included.
fn carried(number: u64) -> Carried {
    let has = |bit: u32| number >> bit & 1 == 1;
    Carried {
        base: has(0).then(|| counters(number.rotate_left(7))),
        start_ms: has(1).then_some(!number),
        as_of_ms: has(2).then_some(number.rotate_left(33)),
    }
}

/// splitmix64: the same run every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn op(&mut self) -> Op {
        let [kind, ..] = self.next().to_be_bytes();
        Op { kind, a: (self.next() >> 32) as u32, b: self.next() }
    }
}

/// Runs `count` operations on a table of `capacity`, empties it, and runs them again.
fn long_run(seed: u64, count: u32, capacity: u32, extensions: u32) -> u64 {
    let mut memory = vec![0; FlowTable::words(capacity, extensions)];
    let mut world = World::new(&mut memory, capacity, extensions);
    let mut random = Random(seed);
    for _ in 0..2 {
        for at in 0..count {
            world.apply(random.op(), capacity * 3);
            if at % 4096 == 0 {
                world.check_all();
            }
        }
        world.check_all();
        world.clear();
    }
    world.refused
}

#[test]
fn a_long_run_of_a_full_small_table() {
    assert!(long_run(1, 600_000, MIN_CAPACITY, 3) > 10_000, "the table was never full");
}

#[test]
fn a_long_run_of_a_table_with_room() {
    long_run(2, 500_000, 1_000, 200);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_do_what_the_model_does(
        capacity in MIN_CAPACITY..64,
        extensions in 0_u32..8,
        variety in 1_u32..200,
        ops in prop::collection::vec(
            (any::<u8>(), any::<u32>(), any::<u64>()).prop_map(|(kind, a, b)| Op { kind, a, b }),
            1..1_000,
        ),
    ) {
        let mut memory = vec![0; FlowTable::words(capacity, extensions)];
        let mut world = World::new(&mut memory, capacity, extensions);
        for op in ops {
            world.apply(op, variety);
        }
        world.check_all();
        world.clear();
    }
}

fn ipv4(n: u32) -> Tuple {
    let src = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let dst = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    Tuple { src, dst, proto: Protocol::UDP, l4: L4::Ports { src: 1, dst: 2 } }
}

fn ipv6(n: u32) -> Tuple {
    let at = |last: u32| IpAddr::V6(Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(last)));
    Tuple { src: at(n), dst: at(1), proto: Protocol::TCP, l4: L4::Ports { src: 3, dst: 4 } }
}

/// Fills the table with what `tuple` gives; how many fitted.
fn fill(table: &mut FlowTable<'_>, tuple: fn(u32) -> Tuple) -> u32 {
    let mut count = 0;
    while table.insert(&table.key(&tuple(count), 0)).is_ok() {
        count += 1;
    }
    count
}

/// The table's own count of its memory, header and buckets included, is what is divided.
#[test]
fn a_flow_takes_no_more_than_was_promised() {
    assert_eq!((BYTES_IPV4, BYTES_IPV6), (120, 180));
    for capacity in [1_024, 16_384, 65_536] {
        let bytes = FlowTable::words(capacity, 0) * 4;
        let mut memory = vec![0; bytes / 4];
        let mut table = FlowTable::format(&mut memory, capacity, 0, SEED).unwrap();
        let count = fill(&mut table, ipv4);
        assert_eq!(count, capacity);
        assert!(bytes <= 128 * count as usize, "{bytes} bytes for {count} IPv4 flows");

        let mut memory = vec![0; bytes / 4];
        let mut table = FlowTable::format(&mut memory, capacity, 0, SEED).unwrap();
        let count = fill(&mut table, ipv6);
        assert_eq!(count, capacity * 2 / 3);
        assert!(bytes <= 192 * count as usize, "{bytes} bytes for {count} IPv6 flows");
    }
    let mut memory = vec![0; FlowTable::words(1_024, 0)];
    let mut table = FlowTable::format(&mut memory, 1_024, 0, SEED).unwrap();
    let mut restored = 0;
    while let Ok(slot) = table.insert(&table.key(&ipv4(restored), 0)) {
        let start_ms = Some(7);
        if table.set_carried(slot, &Carried { start_ms, ..Carried::default() }).is_err() {
            break;
        }
        restored += 1;
    }
    assert_eq!(restored, 1_024 * 2 / 3, "one and a half of an IPv4 flow's room");
    let with = FlowTable::words(1_024, 10) - FlowTable::words(1_024, 0);
    assert_eq!(with * 4, 10 * BYTES_EXTENSION);
}

#[test]
fn what_is_out_of_range_is_refused() {
    for (capacity, spare) in [(MIN_CAPACITY - 1, 0), (MIN_CAPACITY, 1), (MAX_CAPACITY + 1, 0)] {
        let words = if capacity > MAX_CAPACITY { 0 } else { FlowTable::words(capacity, 0) + spare };
        let mut memory = vec![0; words];
        assert!(FlowTable::format(&mut memory, capacity, 0, SEED).is_err(), "{capacity}");
    }
    let mut memory = vec![0; FlowTable::words(MIN_CAPACITY, 0)];
    assert!(FlowTable::format(&mut memory, MIN_CAPACITY, 0, SEED).is_ok());
}

/// A table that was filled, emptied and filled again in another mixture, many times over, serves
/// the same capacity.
#[test]
fn emptied_memory_serves_the_same_capacity_again() {
    let mut memory = vec![0; FlowTable::words(100, 4)];
    let mut table = FlowTable::format(&mut memory, 100, 4, SEED).unwrap();
    for round in 0..50_u32 {
        let (tuple, fits): (fn(u32) -> Tuple, _) =
            if round % 2 == 0 { (ipv4, 100) } else { (ipv6, 66) };
        assert_eq!(fill(&mut table, tuple), fits, "round {round}");
        let vtags = Some([round, 1]);
        for n in 0..fits {
            let slot = table.find(&table.key(&tuple(n), 0)).unwrap();
            let given = table.set_extension(slot, &Extension { vtags, ..Extension::default() });
            assert_eq!(given.is_ok(), n < 4);
        }
        assert_eq!(table.usage().extensions_used, 4);
        for n in 0..fits {
            // In an order that is neither that of insertion nor its reverse.
            let n = n * 37 % fits;
            let Some(slot) = table.find(&table.key(&tuple(n), 0)) else {
                panic!("flow {n} of round {round} is not there");
            };
            table.remove(slot);
        }
        assert!(table.is_empty());
        assert_eq!(table.usage().extensions_used, 0);
    }
}

/// Words that the layout has before its cells: header and buckets.
fn words_before_cells(capacity: u32) -> usize {
    let cells = capacity as usize * (BYTES_IPV4 - 8) / 4;
    FlowTable::words(capacity, 0) - cells
}

#[test]
fn memory_beyond_what_flows_needed_stays_untouched() {
    let (capacity, extensions) = (10_000, 100);
    let mut memory = vec![0; FlowTable::words(capacity, extensions)];
    let mut table = FlowTable::format(&mut memory, capacity, extensions, SEED).unwrap();
    // Never more than 50 flows and 3 extensions at a time, thousands in all.
    let labels = Some(Labels([0xff; 16]));
    for n in 0..5_000 {
        let slot = table.insert(&table.key(&ipv4(n), 0)).unwrap();
        table.flow_mut(slot).set_counters(counters(u64::MAX));
        table.set_extension(slot, &Extension { labels, ..Extension::default() }).unwrap();
        if n >= 3 {
            let older = table.find(&table.key(&ipv4(n - 3), 0)).unwrap();
            table.set_extension(older, &Extension::default()).unwrap();
        }
        if n >= 50 {
            let oldest = table.find(&table.key(&ipv4(n - 50), 0)).unwrap();
            table.remove(oldest);
        }
    }
    let cells = words_before_cells(capacity);
    let first_extension = FlowTable::words(capacity, 0);
    let flow = (BYTES_IPV4 - 8) / 4;
    assert!(memory[cells + 51 * flow..first_extension].iter().all(|&word| word == 0));
    let extension = BYTES_EXTENSION / 4;
    assert!(memory[first_extension + 4 * extension..].iter().all(|&word| word == 0));
}

/// How many flows each bucket has.
fn chains(table: &FlowTable<'_>) -> Vec<u32> {
    (0..table.buckets())
        .map(|bucket| {
            let mut count = 0;
            let mut next = table.first(bucket);
            while let Some(slot) = next {
                count += 1;
                next = table.next(slot);
            }
            count
        })
        .collect()
}

/// The tuples of a set, by number.
type Numbered = Box<dyn Fn(u32) -> Tuple>;

/// Sets of tuples that somebody who does not know the seed might choose, and that make weak hash
/// functions collide.
fn adversaries() -> Vec<(&'static str, Numbered)> {
    let with = |src: u32, dst: u32, ports: u32| {
        let [a, b, c, d] = ports.to_be_bytes();
        Tuple {
            src: IpAddr::V4(Ipv4Addr::from_bits(src)),
            dst: IpAddr::V4(Ipv4Addr::from_bits(dst)),
            proto: Protocol::UDP,
            l4: L4::Ports { src: u16::from_be_bytes([a, b]), dst: u16::from_be_bytes([c, d]) },
        }
    };
    vec![
        ("ports in a row", Box::new(move |n| with(1, 2, n))),
        ("high port bits", Box::new(move |n| with(1, 2, n << 16))),
        ("addresses in a row", Box::new(move |n| with(n, 2, 3))),
        ("high address bits", Box::new(move |n| with(n.reverse_bits(), 2, 3))),
        ("equal xor", Box::new(move |n| with(n, !n, 3))),
        ("equal sum", Box::new(move |n| with(n, 0_u32.wrapping_sub(n), 3))),
        ("all words equal", Box::new(move |n| with(n, n, n))),
        ("moving pairs", Box::new(move |n| with(n & 0xff, n >> 8 & 0xff, n >> 16))),
        (
            "IPv6 interface ids",
            Box::new(|n| Tuple {
                src: IpAddr::V6(Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(n))),
                ..ipv6(1)
            }),
        ),
        (
            "IPv6 prefixes",
            Box::new(|n| Tuple {
                src: IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | 1)),
                ..ipv6(1)
            }),
        ),
    ]
}

/// With as many flows as the capacity there are two buckets a flow, so a good hash leaves a share
/// of exp(-1/2) = 60.65 % empty, and the longest chain of 65,536 is below 10 but for one run in
/// about 100,000.
#[test]
fn chains_are_short_whatever_somebody_without_the_seed_sends() {
    let flows = 65_536;
    for seed in [[0, 0], [1, 0], SEED, [u32::MAX; 2]] {
        for (what, tuple) in adversaries() {
            // An IPv6 flow takes the room of one and a half.
            let capacity = flows + flows / 2;
            let mut memory = vec![0; FlowTable::words(capacity, 0)];
            let mut table = FlowTable::format(&mut memory, capacity, 0, seed).unwrap();
            for n in 0..flows {
                let key = table.key(&tuple(n), 0);
                table.insert(&key).unwrap();
            }
            let chains = chains(&table);
            let longest = chains.iter().max().unwrap();
            assert!(*longest <= 10, "{what}, seed {seed:x?}: a chain of {longest}");
            let empty = chains.iter().filter(|&&chain| chain == 0).count();
            let load = f64::from(flows) / chains.len() as f64;
            let share = empty as f64 / chains.len() as f64;
            assert!(
                (share - (-load).exp()).abs() < 0.01,
                "{what}, seed {seed:x?}: {share} empty at load {load}"
            );
        }
    }
}

/// Who has found tuples that fall into one bucket of one table has found nothing against another.
#[test]
fn collisions_under_one_seed_are_none_under_another() {
    let mut memory = [vec![0; FlowTable::words(4_096, 0)], vec![0; FlowTable::words(4_096, 0)]];
    let [first, second] = &mut memory;
    let known = FlowTable::format(first, 4_096, 0, SEED).unwrap();
    let mut attacked = FlowTable::format(second, 4_096, 0, [7, 7]).unwrap();
    let bucket = |hash: u32| (u64::from(hash) * known.buckets() as u64) >> 32;
    let aimed: Vec<_> =
        (0..4_000_000).map(ipv4).filter(|tuple| bucket(known.key(tuple, 0).hash()) == 5).collect();
    assert!(aimed.len() > 300, "{} tuples to attack with", aimed.len());
    for tuple in &aimed {
        let key = attacked.key(tuple, 0);
        attacked.insert(&key).unwrap();
    }
    let longest = chains(&attacked).into_iter().max().unwrap();
    assert!(longest <= 5, "a chain of {longest}");
}

#[test]
fn every_part_of_a_name_makes_another_flow() {
    let base = ipv4(1);
    let mut names = BTreeSet::new();
    for number in 0..20_000 {
        names.insert(name(number, u32::MAX));
    }
    names.insert((base, 0));
    names.insert((base, 1));
    names.insert((Tuple { proto: Protocol::TCP, ..base }, 0));
    names.insert((Tuple { l4: L4::None, ..base }, 0));
    names.insert((Tuple { l4: L4::Ports { src: 0, dst: 0 }, ..base }, 0));
    names.insert((Tuple { l4: L4::Icmp { id: 0, kind: 0, code: 0 }, ..base }, 0));
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    names.insert((Tuple { src: mapped(base.src), dst: mapped(base.dst), ..base }, 0));
    let count = u32::try_from(names.len()).unwrap();
    let mut memory = vec![0; FlowTable::words(2 * count, 0)];
    let mut table = FlowTable::format(&mut memory, 2 * count, 0, SEED).unwrap();
    for (tuple, zone) in &names {
        let key = table.key(tuple, *zone);
        assert_eq!(table.find(&key), None, "{tuple:?} {zone}");
        table.insert(&key).unwrap();
    }
    for (tuple, zone) in &names {
        let slot = table.find(&table.key(tuple, *zone)).unwrap();
        assert_eq!((table.flow(slot).orig(), table.flow(slot).zone()), (*tuple, *zone));
    }
}

#[test]
fn a_million_flows() {
    let capacity = 1_000_000;
    let mut memory = vec![0; FlowTable::words(capacity, 0)];
    let mut table = FlowTable::format(&mut memory, capacity, 0, SEED).unwrap();
    assert_eq!(fill(&mut table, ipv4), capacity);
    assert_eq!(table.usage().permille, 1000);
    for n in 0..capacity {
        let slot = table.find(&table.key(&ipv4(n), 0)).unwrap();
        table.flow_mut(slot).set_id(n);
    }
    assert_eq!(table.find(&table.key(&ipv4(capacity), 0)), None);
    // In another order: the factor has no divisor in common with the capacity.
    for n in (0..u64::from(capacity)).map(|n| n * 7_654_321 % u64::from(capacity)) {
        let n = u32::try_from(n).unwrap();
        let slot = table.find(&table.key(&ipv4(n), 0)).unwrap();
        assert_eq!(table.flow(slot).id(), n);
        table.remove(slot);
    }
    assert!(table.is_empty());
    assert_eq!(fill(&mut table, ipv6), 666_666);
}
