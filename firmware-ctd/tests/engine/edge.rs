//! Drives the engine as the daemon does, and keeps what it gives out.

use firmware_ctd::checkpoint::SavedFlow;
use firmware_ctd::engine::{Engine, EventPath, Output, Settings, Sizes, Source, WishedDump};
use firmware_ctd::record::Record;
use firmware_ctd::retry::SinkId;
use firmware_ctd::table::{Slot, flag};
use firmware_ctd::time::Duration;
use firmware_ctd::wire::{Conntrack, Event, Message, Messages, Writer};

use crate::kernel::{Fate, Kernel, Kind};
use crate::truth::Truth;

/// Destroys in one batch.
const BATCH: usize = 8;
/// Parts of a dump read in one round.
const PARTS: usize = 4;
/// A refresh dump follows its predecessor after this.
pub(crate) const REFRESH_S: u64 = 60;

/// One sink, which is this test.
pub(crate) const SINKS: [SinkId; 1] = [SinkId { id: 1, reliable: true }];

pub(crate) fn sizes(capacity: u32) -> Sizes {
    Sizes { capacity, extensions: 64, remember: 4096, queue: 64 }
}

/// The next record that the sink is owed; it has it then.
pub(crate) fn take_record(engine: &mut Engine<'_>) -> Option<Record> {
    let mut outbox = engine.queue_mut().outbox(0);
    let record = outbox.next()?;
    outbox.mark_sent(1);
    outbox.acknowledge(1);
    Some(record)
}

/// A router: its kernel, the daemon's engine, and the truth.
pub(crate) struct Router<'m> {
    pub(crate) kernel: Kernel,
    pub(crate) engine: Engine<'m>,
    pub(crate) truth: Truth,
    /// The sinks are full: destroys are left in the socket.
    pub(crate) holds: bool,
    /// All dumps that were asked for, in microseconds since boot.
    pub(crate) dumps_at: Vec<u64>,
    /// Destroy records, in order.
    pub(crate) records: Vec<Record>,
    /// All outputs, for comparing two runs.
    pub(crate) outputs: Vec<Output>,
    /// The engine was told something in this round.
    changed: bool,
    capacity: u32,
    boots: u8,
    /// The sink takes nothing.
    pub(crate) hold_records: bool,
}

/// What the daemon saves of a flow, and when (wall clock in milliseconds).
pub(crate) type Saved = (SavedFlow, u64);

impl<'m> Router<'m> {
    pub(crate) fn new(memory: &'m mut [u32], kind: Kind, capacity: u32) -> Self {
        let events = match (kind.events, kind.reliable) {
            (false, _) => EventPath::None,
            (true, false) => EventPath::BestEffort,
            (true, true) => EventPath::Reliable,
        };
        let refresh = Duration::from_secs(REFRESH_S);
        let settings = Settings { events, refresh, observed: false };
        let engine =
            Engine::new(memory, &sizes(capacity), settings, [9; 16], [1, 2], &SINKS).unwrap();
        Self {
            kernel: Kernel::new(kind),
            engine,
            truth: Truth::default(),
            holds: false,
            dumps_at: Vec::new(),
            records: Vec::new(),
            outputs: Vec::new(),
            changed: false,
            capacity,
            boots: 9,
            hold_records: false,
        }
    }

    /// Saves what lives, as before an orderly reboot: after a dump that begins now.
    pub(crate) fn save(&mut self) -> Vec<Saved> {
        let wish = self.engine.want_dump(self.kernel.now().boot);
        for _ in 0..1_000 {
            if self.engine.wished_dump(&wish) == WishedDump::Done {
                break;
            }
            self.pass(10_000);
        }
        assert_eq!(self.engine.wished_dump(&wish), WishedDump::Done);
        let now = self.kernel.now();
        let table = self.engine.table();
        let mut saved = Vec::new();
        for bucket in 0..table.buckets() {
            let mut next = table.first(bucket);
            while let Some(slot) = next {
                if self.engine.has_shown(&wish, slot) {
                    saved
                        .push((self.engine.saved_flow(now, slot), now.wall.as_nanos() / 1_000_000));
                }
                next = table.next(slot);
            }
        }
        saved
    }

    /// Reboots. Each saved flow is made again or not; marks tell serials, which begin anew.
    pub(crate) fn reboot(
        &mut self,
        memory: &'m mut [u32],
        saved: &[Saved],
        fate: impl Fn(usize) -> Fate,
    ) {
        self.boots += 1;
        let settings = self.engine.settings();
        let sizes = sizes(self.capacity);
        let boot_id = [self.boots; 16];
        self.engine = Engine::new(memory, &sizes, settings, boot_id, [1, 2], &SINKS).unwrap();
        let mergeable = self.truth.mergeable;
        self.truth = Truth::default();
        self.truth.mergeable = mergeable;
        self.kernel = self.kernel.rebooted();
        self.records.clear();
        for (n, (flow, saved_ms)) in saved.iter().enumerate() {
            let flow = SavedFlow { mark: u32::try_from(n).unwrap() + 1, ..*flow };
            let serial = self.kernel.restore(&flow, *saved_ms, fate(n));
            let made = self.kernel.flow(serial).made;
            self.kernel.advance(3);
            self.engine.recall(self.kernel.now(), &flow, *saved_ms, made).unwrap();
        }
        self.truth.look(&self.kernel, &self.engine);
    }

    /// One round of the daemon's loop.
    pub(crate) fn round(&mut self) {
        let now = self.kernel.now();
        let take = if self.holds { 0 } else { BATCH.min(self.kernel.destroy_queue.len()) };
        let batch: Vec<_> = self.kernel.destroy_queue.drain(..take).collect();
        while let Some(bytes) = self.kernel.state_queue.pop_front() {
            self.feed(Source::State, &bytes);
        }
        for bytes in &batch {
            self.feed(Source::Destroy, bytes);
        }
        self.engine.handle_drops(now.boot, Source::State, self.kernel.state_drops);
        self.engine.handle_drops(now.boot, Source::Destroy, self.kernel.destroy_drops);
        if !self.kernel.destroy_queue.is_empty() {
            self.engine.destroys_are_waiting(now.boot);
            self.truth.destroys_were_late(now.boot);
        }
        self.truth.drops(now.boot, self.kernel.destroy_drops);
        for _ in 0..PARTS {
            self.read_part();
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= now.boot) {
            self.engine.handle_timeout(now);
            self.poll();
        }
        if core::mem::take(&mut self.changed) {
            self.truth.look(&self.kernel, &self.engine);
        }
    }

    fn read_part(&mut self) {
        let now = self.kernel.now().boot;
        if !self.engine.wants_dump_part(now) {
            return;
        }
        match self.kernel.read_part() {
            Some(bytes) => {
                self.feed(Source::Request, &bytes);
                self.engine.dump_part_read(now);
            }
            None => self.engine.dump_part_missing(now),
        }
        self.poll();
    }

    fn feed(&mut self, source: Source, bytes: &[u8]) {
        let now = self.kernel.now();
        self.changed = true;
        self.truth.shown(&self.kernel, source, bytes);
        for message in Messages::new(bytes) {
            self.engine.handle_message(now, source, message);
            self.poll();
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.outputs.push(output);
            if let Output::StartDump { seq, .. } = output {
                self.dumps_at.push(self.kernel.boot_us);
                self.kernel.request_dump(seq);
            }
        }
        if self.hold_records {
            return;
        }
        while let Some(record) = take_record(&mut self.engine) {
            self.truth.reported(&self.kernel, &record);
            self.records.push(record);
        }
    }

    /// Fills the queue with records of flows of another zone, which nobody takes.
    pub(crate) fn fill_queue(&mut self) {
        let now = self.kernel.now();
        for n in 0..self.engine.queue().room() {
            let orig = self.kernel.flow(1).orig;
            let ct = Conntrack {
                orig: Some(orig),
                reply: Some(orig.inverse()),
                zone: Some(77),
                start_ns: Some(u64::from(n) + 1),
                ..Conntrack::default()
            };
            let mut buffer = [0; 1024];
            let mut writer = Writer::new(&mut buffer);
            Message::Conntrack { event: Event::Destroy, ct }.emit(&mut writer, 0).unwrap();
            for message in Messages::new(writer.as_bytes()) {
                self.engine.handle_message(now, Source::Destroy, message);
            }
        }
        assert_eq!(self.engine.queue().room(), 0);
    }

    /// Lets time pass in rounds, waking when the engine wants to be woken or something arrives.
    pub(crate) fn pass(&mut self, us: u64) {
        let end = self.kernel.boot_us + us;
        while self.kernel.boot_us < end {
            self.round();
            let now = self.kernel.boot_us;
            let wanted = self.engine.poll_timeout().map_or(end, |at| at.as_micros());
            let waiting = match (self.kernel.destroy_queue.is_empty(), self.holds) {
                (true, _) => end,
                (false, true) => now + 100_000,
                (false, false) => now + 1_000,
            };
            let next = wanted.min(self.kernel.next_us()).min(waiting).min(end);
            self.kernel.advance(next.max(now + 100) - now);
        }
        self.round();
    }

    pub(crate) fn pass_s(&mut self, s: u64) {
        self.pass(s * 1_000_000);
    }

    /// Everything calms down, and dumps have had the time to find out all that can be found out.
    pub(crate) fn settle(&mut self) {
        self.holds = false;
        self.kernel.other_listener_full = false;
        self.kernel.trouble = crate::kernel::Trouble::None;
        // The longest back-off, and then a refresh, a confirmation and a refresh more.
        self.pass_s(60 + 4 * REFRESH_S);
    }

    /// Settles, and compares everything.
    pub(crate) fn check(&mut self) {
        self.settle();
        self.truth.check_records(&self.kernel, &self.engine);
        self.check_table();
    }

    fn check_table(&self) {
        let table = self.engine.table();
        for &serial in &self.kernel.live {
            let flow = self.kernel.flow(serial);
            let key = table.key(&flow.orig, flow.zone);
            let slot = table.find(&key).unwrap_or_else(|| panic!("not in the table: {flow:?}"));
            self.check_flow(serial, slot);
            assert_eq!(table.next_older(slot, &key), None, "a ghost behind {flow:?}");
        }
        assert_eq!(table.len() as usize, self.kernel.live.len(), "ghosts");
    }

    fn check_flow(&self, serial: u32, slot: Slot) {
        let wanted = self.kernel.flow(serial);
        let flow = self.engine.table().flow(slot);
        assert_eq!(flow.reply(), wanted.reply, "{wanted:?}");
        assert_eq!(flow.id(), wanted.id, "{wanted:?}");
        assert_eq!(flow.status().0, wanted.status, "{wanted:?}");
        assert_eq!(flow.mark(), wanted.mark, "{wanted:?}");
        if let Some(start_ns) = wanted.start_ns {
            assert!(flow.has(flag::START_EXACT), "{wanted:?}");
            assert_eq!(flow.start_ns(), start_ns, "{wanted:?}");
        } else {
            assert!(!flow.has(flag::START_EXACT), "{wanted:?}");
        }
        if let Some(counters) = wanted.counters {
            assert!(flow.has(flag::COUNTERS), "{wanted:?}");
            assert_eq!(flow.counters(), counters, "{wanted:?}");
        } else {
            assert!(!flow.has(flag::COUNTERS), "{wanted:?}");
        }
        assert_eq!(flow.l4_state().map(|s| s.state), wanted.tcp_state, "{wanted:?}");
        let extension = flow.extension();
        let mut ftp = [0; 16];
        ftp[..3].copy_from_slice(b"ftp");
        assert_eq!(extension.helper, wanted.helper.then_some(ftp), "{wanted:?}");
        assert_eq!(extension.labels, wanted.labels, "{wanted:?}");
        let expires_s = flow.expires_s().unwrap();
        let expected_s = wanted.expires_us / 1_000_000;
        // An expired flow (the simulation does not let them go by themselves) shows 0 left.
        assert!(
            u64::from(expires_s).abs_diff(expected_s) <= 1 || u64::from(expires_s) > expected_s,
            "{expires_s} {wanted:?}"
        );
        assert!(!flow.has(flag::MISSED) && !flow.has(flag::DOUBTFUL), "{wanted:?}");
    }
}
