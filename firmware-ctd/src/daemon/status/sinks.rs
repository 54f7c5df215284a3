//! The part of a status that is about records: what sinks have and are owed, what was lost, and
//! what is held in the kernel.

use super::{Facts, field};
use crate::daemon::sink::SinkState;
use crate::pressure::State;
use crate::record::text::Text;
use crate::retry::{Loss, Lost, SinkCount};

/// The words for causes, in the order of [`Loss::ALL`].
const CAUSES: [(&str, &str); 3] = [
    ("best_effort", "behind, and best effort"),
    ("queue_policy", "the queue was full (retry.when_full)"),
    ("dying_budget", "the kernel kept its share (retry.dying_budget_percent)"),
];

/// Numbers of one sink: name, kind for Prometheus, and what it is.
const METRICS: [(&str, &str, &str); 9] = [
    ("delivered_total", "counter", "records that the sink has"),
    ("owed", "gauge", "records that the sink is owed"),
    ("in_flight", "gauge", "of those, sent and not acknowledged"),
    ("retried_total", "counter", "attempts after a failed one"),
    ("oldest_seconds", "gauge", "age of the oldest record owed"),
    ("failures_total", "counter", "attempts that failed"),
    ("failing", "gauge", "1 while the last attempt failed"),
    ("connected", "gauge", "1 while somebody is connected, of sinks with connections"),
    ("lost_total", "counter", "records that the sink will not get, by cause"),
];

impl Facts<'_, '_> {
    fn sinks(&self) -> impl Iterator<Item = (SinkState<'_>, SinkCount)> {
        self.sinks.states(self.engine.queue())
    }

    /// How many sinks there are.
    pub(super) fn sink_count(&self) -> usize {
        self.sinks().count()
    }

    /// Parts that the sinks take in Prometheus' format.
    pub(super) fn sink_metrics(&self) -> usize {
        METRICS.len() * self.sink_count()
    }

    /// All that was lost for any sink, by any cause, those included that are configured no more.
    pub(super) fn lost(&self) -> Lost {
        let queue = self.engine.queue();
        let causes = Loss::ALL.iter().map(|&cause| queue.lost(cause));
        causes.fold(queue.removed(), Lost::and)
    }

    /// How it is with the queue and the kernel, as numbers.
    pub(super) fn pressure_numbers(&self) -> [(&'static str, u64, &'static str); 11] {
        let queue = self.engine.queue();
        let [held, passed] = self.pressure.counts();
        let (lost, removed) = (self.lost(), queue.removed());
        let state = match self.pressure.state() {
            State::Open => 0,
            State::Held(_) => 1,
            State::Over(_) => 2,
        };
        [
            ("queue_capacity", u64::from(queue.capacity()), "records that the queue has room for"),
            ("queue_len", u64::from(queue.len()), "records in the queue"),
            ("pressure", state, "0 destroys are read, 1 left in the kernel, 2 budget passed"),
            ("kernel_backlog", u64::from(self.pressure.backlog()), "destroys in the kernel's keep"),
            ("held", held, "times that destroys were left in the kernel"),
            ("budget_passed", passed, "times that the dying budget was passed"),
            ("lost_records", lost.records, "records that some sink will not get"),
            ("lost_packets", lost.packets, "packets of those"),
            ("lost_bytes", lost.bytes, "bytes of those"),
            ("removed_records", removed.records, "of those, with sinks configured no more"),
            ("committed", u64::from(self.engine.committed_batch()), "batches of destroys handled"),
        ]
    }

    pub(super) fn json_sink(&self, out: &mut Text<'_>, place: usize) {
        let Some((sink, count)) = self.sinks().nth(place) else { return };
        out.str(if place > 0 { ",{\"type\":\"" } else { "{\"type\":\"" });
        out.str(sink.kind);
        out.str("\",\"target\":\"");
        out.escaped(sink.target.as_bytes());
        out.str("\"");
        for (name, value) in [
            ("delivered", count.delivered),
            ("owed", u64::from(count.owed)),
            ("in_flight", u64::from(count.in_flight)),
            ("unconfirmed", u64::from(sink.unconfirmed)),
            ("retried", count.retried),
            ("attempts", u64::from(count.attempts)),
            ("oldest_s", self.oldest_s(&count)),
            ("failures", sink.trouble.failures),
            ("errno", u64::from(sink.trouble.errno.unsigned_abs())),
        ] {
            field(out, name, value, true);
        }
        if let Some(connected) = sink.connected {
            out.str(if connected { ",\"connected\":true" } else { ",\"connected\":false" });
        }
        out.str(",\"lost\":{");
        for (at, ((name, _), lost)) in CAUSES.iter().zip(count.lost).enumerate() {
            out.str(if at > 0 { ",\"" } else { "\"" });
            out.str(name);
            out.str("\":{");
            field(out, "records", lost.records, false);
            field(out, "packets", lost.packets, true);
            field(out, "bytes", lost.bytes, true);
            out.str("}");
        }
        out.str("}}");
    }

    fn oldest_s(&self, count: &SinkCount) -> u64 {
        let now_s = self.now.boot.as_secs_u32();
        count.oldest_s.map_or(0, |at_s| u64::from(now_s.saturating_sub(at_s)))
    }

    /// One number of one sink: all sinks of one number follow each other.
    pub(super) fn prometheus_sink(&self, out: &mut Text<'_>, part: usize) {
        let sinks = self.sink_count().max(1);
        let Some(&(name, kind, help)) = METRICS.get(part / sinks) else { return };
        let Some((sink, count)) = self.sinks().nth(part % sinks) else { return };
        if part % sinks == 0 {
            for text in ["# HELP firmware_ctd_sink_", name, " ", help, "\n"] {
                out.str(text);
            }
            for text in ["# TYPE firmware_ctd_sink_", name, " ", kind, "\n"] {
                out.str(text);
            }
        }
        let value = match part / sinks {
            0 => count.delivered,
            1 => u64::from(count.owed),
            2 => u64::from(count.in_flight),
            3 => count.retried,
            4 => self.oldest_s(&count),
            5 => sink.trouble.failures,
            6 => u64::from(sink.trouble.lasts()),
            7 => match sink.connected {
                Some(connected) => u64::from(connected),
                None => return,
            },
            _ => {
                for ((cause, _), lost) in CAUSES.iter().zip(count.lost) {
                    sample(out, name, &sink, Some(cause), lost.records);
                }
                return;
            }
        };
        sample(out, name, &sink, None, value);
    }

    pub(super) fn text_sinks(&self, out: &mut Text<'_>, place: usize) {
        let Some((sink, count)) = self.sinks().nth(place) else { return };
        out.str("sink     ");
        out.str(sink.kind);
        out.byte(b' ');
        out.escaped(sink.target.as_bytes());
        out.str(match sink.connected {
            Some(true) => ", connected\n         ",
            Some(false) => ", NOBODY is connected\n         ",
            None => "\n         ",
        });
        out.number(count.delivered);
        out.str(" delivered, ");
        out.number(u64::from(count.owed));
        out.str(" owed");
        if count.in_flight > 0 {
            out.str(" (");
            out.number(u64::from(count.in_flight));
            out.str(" sent)");
        }
        if count.owed > 0 {
            out.str(", the oldest for ");
            super::span(out, self.oldest_s(&count));
        }
        if sink.unconfirmed > 0 {
            out.str("\n         ");
            out.number(u64::from(sink.unconfirmed));
            out.str(" delivered records are kept: they may not have been read yet");
        }
        out.str("\n");
        if sink.trouble.errno != 0 {
            out.str("         FAILING, errno ");
            out.number(u64::from(sink.trouble.errno.unsigned_abs()));
            out.str(", attempts ");
            out.number(u64::from(count.attempts));
            out.str("\n");
        }
        for ((_, cause), lost) in CAUSES.iter().zip(count.lost) {
            if lost.records > 0 {
                out.str("         LOST ");
                out.number(lost.records);
                out.str(": ");
                out.str(cause);
                out.str("\n");
            }
        }
    }

    /// What is held where, in words.
    pub(super) fn text_pressure(&self, out: &mut Text<'_>) {
        let queue = self.engine.queue();
        out.str("queue    ");
        out.number(u64::from(queue.len()));
        out.str(" of at most ");
        out.number(u64::from(queue.capacity()));
        out.str(" records owed\n");
        let since_s = |at: crate::time::Instant| self.now.boot.since(at).as_secs();
        match self.pressure.state() {
            State::Open => {}
            State::Held(at) => {
                out.str("HOLDING  for ");
                super::span(out, since_s(at));
                out.str(": sinks are behind and the queue is full; the kernel keeps\n         ");
                out.str("ended flows (");
                out.number(u64::from(self.pressure.backlog()));
                out.str(" when last counted). Mend what is FAILING or slow.\n");
            }
            State::Over(at) => {
                out.str("DROPPING for ");
                super::span(out, since_s(at));
                out.str(": sinks are behind, and the kernel kept as many ended\n         ");
                out.str("flows as it may. The oldest records are lost until a sink takes some.\n");
            }
        }
        let lost = self.lost();
        out.str("lost     ");
        out.number(lost.records);
        out.str(" records of destroyed flows");
        if lost.records > 0 {
            out.str(", ");
            out.number(lost.packets);
            out.str(" packets, ");
            out.number(lost.bytes);
            out.str(" bytes");
        }
        out.str("\n");
    }
}

fn sample(out: &mut Text<'_>, name: &str, sink: &SinkState<'_>, cause: Option<&str>, value: u64) {
    out.str("firmware_ctd_sink_");
    out.str(name);
    out.str("{sink=\"");
    out.escaped(sink.target.as_bytes());
    if let Some(cause) = cause {
        out.str("\",cause=\"");
        out.str(cause);
    }
    out.str("\"} ");
    out.number(value);
    out.str("\n");
}
