//! What the daemon tells of itself: text for people, JSON and Prometheus' format for programs.
//!
//! A status is written in parts, each small enough for a client's buffer.

mod checkpoint;
mod losses;
mod processes;
mod sinks;

use super::checkpoint::Checkpoints;
use super::lines::bytes;
use super::listeners::Listener;
use super::netlink::SocketMemory;
use super::shared::Words;
use super::sink::Sinks;
use super::sysctl::Setting;
use super::{log as log_backend, sys};
use crate::cli::Format;
use crate::engine::{Engine, EventPath};
use crate::pressure::Pressure;
use crate::record::text::Text;
use crate::table::{BYTES_IPV4, BYTES_IPV6, Usage};
use crate::time::{Instant, Now};
use crate::wire;

/// More bytes than the longest part has.
pub const MAX_PART: usize = 6144;
/// How many parts a status has beside those of its sinks.
const PARTS: usize = 7;
/// Parts before those of the sinks.
const SINKS_AFTER: usize = 5;

/// What the edge knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct EdgeFacts {
    /// When the daemon began.
    pub started: Instant,
    /// Whether `Ready` was logged, and what was held then: bytes and allocations so far.
    pub ready: (usize, usize),
    /// Allocations that reading a changed configuration made.
    pub reload_allocations: usize,
    /// The event sockets: state, destroy.
    pub sockets: [SocketMemory; 2],
    /// Whether the self-test could be made.
    pub tested: bool,
    /// Clients served now.
    pub clients: u32,
    /// Clients refused since there were too many.
    pub clients_refused: u64,
    /// Another program's socket for destroys that is not empty, as last looked at.
    pub other: Option<Listener>,
    /// What supervisor and worker tell each other.
    pub words: Words,
}

/// All that a status is made of.
#[derive(Debug)]
pub struct Facts<'a, 'm> {
    /// The engine.
    pub engine: &'a Engine<'m>,
    /// The sinks.
    pub sinks: &'a Sinks,
    /// What becomes of destroys.
    pub pressure: &'a Pressure,
    /// Checkpoints, if there are any.
    pub checkpoints: Option<&'a Checkpoints>,
    /// The edge.
    pub edge: &'a EdgeFacts,
    /// The time.
    pub now: Now,
}

impl Facts<'_, '_> {
    /// Appends part `part`; false if there is none.
    pub fn write(&self, out: &mut Text<'_>, format: Format, part: usize) -> bool {
        let of_sinks = match format {
            Format::Prometheus => self.sink_metrics(),
            Format::Text | Format::Json => self.sink_count(),
        };
        if part >= PARTS + of_sinks {
            return false;
        }
        // The sinks stand in the middle.
        let (part, sink) = match part.checked_sub(SINKS_AFTER) {
            Some(place) if place < of_sinks => (SINKS_AFTER, Some(place)),
            Some(beyond) => (SINKS_AFTER + beyond - of_sinks, None),
            None => (part, None),
        };
        match (format, sink) {
            (Format::Text, None) => self.text(out, part),
            (Format::Text, Some(place)) => self.text_sinks(out, place),
            (Format::Json, None) => self.json(out, part),
            (Format::Json, Some(place)) => self.json_sink(out, place),
            (Format::Prometheus, None) => self.prometheus(out, part),
            (Format::Prometheus, Some(place)) => self.prometheus_sink(out, place),
        }
        true
    }

    fn uptime_s(&self) -> u64 {
        self.now.boot.since(self.edge.started).as_secs()
    }

    fn allocations_since_ready(&self) -> u64 {
        let all = sys::allocations().wrapping_sub(self.edge.ready.1);
        all.wrapping_sub(self.edge.reload_allocations) as u64
    }

    /// Single values with their names and meanings.
    fn gauges(&self) -> [(&'static str, u64, &'static str); 17] {
        let Usage { capacity, ipv4, ipv6, permille, peak_permille, extensions, extensions_used } =
            self.engine.table().usage();
        let setting = |setting: Setting| u64::from(setting.read().unwrap_or(0));
        let [state, destroy] = self.edge.sockets;
        [
            ("uptime_s", self.uptime_s(), "seconds since the daemon began"),
            ("flows_ipv4", u64::from(ipv4), "IPv4 flows in the table"),
            ("flows_ipv6", u64::from(ipv6), "IPv6 flows in the table"),
            ("table_capacity", u64::from(capacity), "IPv4 flows that the table has room for"),
            ("table_permille", u64::from(permille), "part of the table in use, in thousandths"),
            ("table_peak_permille", u64::from(peak_permille), "the most that was in use"),
            ("extensions", u64::from(extensions), "flows that may have rare attributes"),
            ("extensions_used", u64::from(extensions_used), "flows that have rare attributes"),
            ("kernel_flows", setting(Setting::Count), "nf_conntrack_count"),
            ("kernel_max", setting(Setting::Max), "nf_conntrack_max"),
            ("kernel_events", setting(Setting::Events), "nf_conntrack_events"),
            ("kernel_acct", setting(Setting::Accounting), "nf_conntrack_acct"),
            ("kernel_timestamp", setting(Setting::Timestamp), "nf_conntrack_timestamp"),
            ("state_buffer", u64::from(state.receive_buffer), "bytes, as the kernel counts them"),
            ("destroy_buffer", u64::from(destroy.receive_buffer), "the same of the destroy socket"),
            ("bytes_at_ready", self.edge.ready.0 as u64, "heap bytes held when it was ready"),
            ("allocations_since_ready", self.allocations_since_ready(), "must stay 0"),
        ]
    }

    fn others(&self) -> [(&'static str, u64, &'static str); 5] {
        [
            ("reload_allocations", self.edge.reload_allocations as u64, "made by SIGHUP"),
            (
                "log_suppressed",
                u64::from(log_backend::suppressed()),
                "log lines held back by limits",
            ),
            ("log_dropped", u64::from(log_backend::dropped()), "log lines that nobody took"),
            ("clients", u64::from(self.edge.clients), "clients of the control socket"),
            ("clients_refused", self.edge.clients_refused, "refused, since there were too many"),
        ]
    }

    fn event_path(&self) -> &'static str {
        if self.edge.tested { self.engine.settings().events.name() } else { "not tested" }
    }

    fn json(&self, out: &mut Text<'_>, part: usize) {
        match part {
            0 => {
                out.str("{\"version\":\"");
                out.str(env!("CARGO_PKG_VERSION"));
                out.str("\",\"pid\":");
                out.number(u64::from(std::os::unix::process::parent_id()));
                field(out, "worker_pid", u64::from(std::process::id()), true);
                out.str(",\"events\":\"");
                out.str(self.event_path());
                out.str("\"");
                for (name, value, _) in self.gauges().into_iter().chain(self.others()) {
                    field(out, name, value, true);
                }
            }
            1 => object(out, "stats", &self.engine.stats().all()),
            2 => object(out, "ledger", &self.engine.ledger().all()),
            3 => {
                self.json_malformed(out);
                self.json_losses(out);
            }
            4 => {
                let numbers = self.pressure_numbers().into_iter().chain(self.process_numbers());
                for (name, value, _) in numbers {
                    field(out, name, value, true);
                }
                if let Some(saves) = self.saves() {
                    object(out, "checkpoint", &saves);
                }
                object(out, "restore", &self.restored());
                out.str(",\"sinks\":[");
            }
            5 => {}
            _ => out.str("]}\n"),
        }
    }

    fn json_malformed(&self, out: &mut Text<'_>) {
        out.str(",\"malformed\":{");
        for (at, (error, count)) in wire::Error::ALL.iter().zip(self.engine.malformed()).enumerate()
        {
            field(out, error.name(), *count, at > 0);
        }
        out.str("}");
    }

    fn prometheus(&self, out: &mut Text<'_>, part: usize) {
        match part {
            0 => metrics(out, "", "", "gauge", &self.gauges()),
            1 => metrics(out, "", "_total", "counter", &self.engine.stats().all()),
            2 => {
                metrics(out, "ledger_", "_total", "counter", &self.engine.ledger().all());
                self.prometheus_losses(out);
            }
            3 => metrics(out, "", "", "gauge", &self.others()),
            4 => self.prometheus_malformed(out),
            5 => {
                metrics(out, "", "", "gauge", &self.pressure_numbers());
                metrics(out, "", "", "gauge", &self.process_numbers());
            }
            _ => {
                if let Some(saves) = self.saves() {
                    metrics(out, "checkpoint_", "", "gauge", &saves);
                }
                metrics(out, "restore_", "", "gauge", &self.restored());
            }
        }
    }

    fn prometheus_malformed(&self, out: &mut Text<'_>) {
        out.str("# HELP firmware_ctd_malformed_total messages that could not be read, by fault\n");
        out.str("# TYPE firmware_ctd_malformed_total counter\n");
        for (error, count) in wire::Error::ALL.iter().zip(self.engine.malformed()) {
            out.str("firmware_ctd_malformed_total{fault=\"");
            out.str(error.name());
            out.str("\"} ");
            out.number(*count);
            out.str("\n");
        }
        out.str("# HELP firmware_ctd_events_reliable 1 if the kernel repeats what did not fit\n");
        out.str("# TYPE firmware_ctd_events_reliable gauge\nfirmware_ctd_events_reliable ");
        let reliable = self.edge.tested && self.engine.settings().events == EventPath::Reliable;
        out.number(u64::from(reliable));
        out.str("\n");
    }

    fn text(&self, out: &mut Text<'_>, part: usize) {
        match part {
            0 => self.text_head(out),
            1 => self.text_pressure(out),
            2 => {
                self.text_processes(out);
                self.text_checkpoints(out);
                self.text_losses(out);
                nonzero(out, &self.engine.ledger().all());
            }
            5 => {
                out.str("counters (those that are not 0)\n");
                nonzero(out, &self.engine.stats().all());
                self.text_warnings(out);
            }
            _ => {}
        }
    }

    fn text_head(&self, out: &mut Text<'_>) {
        let usage = self.engine.table().usage();
        out.str("firmware-ctd ");
        out.str(env!("CARGO_PKG_VERSION"));
        out.str(", pid ");
        out.number(u64::from(std::os::unix::process::parent_id()));
        out.str(" (worker ");
        out.number(u64::from(std::process::id()));
        out.str("), up ");
        span(out, self.uptime_s());
        out.str("\nevents   ");
        out.str(self.event_path());
        out.str(", receive buffers ");
        bytes(out, u64::from(self.edge.sockets[0].receive_buffer));
        out.str(" and ");
        bytes(out, u64::from(self.edge.sockets[1].receive_buffer));
        out.str("\ntable    ");
        out.number(u64::from(usage.ipv4));
        out.str(" IPv4 + ");
        out.number(u64::from(usage.ipv6));
        out.str(" IPv6 flows, ");
        tenths(out, usage.permille);
        out.str("% of ");
        out.number(u64::from(usage.capacity));
        out.str(" (peak ");
        tenths(out, usage.peak_permille);
        out.str("%)\nkernel   ");
        out.number(u64::from(Setting::Count.read().unwrap_or(0)));
        out.str(" of at most ");
        out.number(u64::from(Setting::Max.read().unwrap_or(0)));
        out.str(" flows\nmemory   ");
        bytes(out, self.edge.ready.0 as u64);
        out.str(" of heap at Ready, ");
        out.number(self.allocations_since_ready());
        out.str(" allocations since\n         ");
        out.number(BYTES_IPV4 as u64);
        out.str(" bytes an IPv4 flow, ");
        out.number(BYTES_IPV6 as u64);
        out.str(" IPv6\n");
    }

    /// What an operator should do something about.
    fn text_warnings(&self, out: &mut Text<'_>) {
        for setting in Setting::WANTED {
            if setting.read().is_ok_and(|value| value == 0) {
                out.str("WARNING  ");
                out.str(setting.name());
                out.str(" is 0: ");
                out.str(setting.without());
                out.str("\n");
            }
        }
        if self.engine.settings().events == EventPath::None {
            out.str("WARNING  no conntrack events come from this kernel; flows are learnt from\n");
            out.str("         dumps alone. Another module may hold the only listener's place.\n");
        }
        let repeats = self.engine.stats().repeated_destroys;
        if let Some(other) = self.edge.other.filter(|_| repeats > 0) {
            out.str("WARNING  another program does not read its events, netlink port ");
            out.number(u64::from(other.port));
            out.str(":\n         the kernel keeps ended flows for it, and repeats them to all (");
            out.number(repeats);
            out.str("\n         repeats recognised). See /proc/net/netlink; mostly the port is its pid.\n");
        }
        if self.engine.stats().inexact_flows > 0 {
            out.str("WARNING  another program zeroes the kernel's counters (nlbwmon does): such\n");
            out.str("         flows are marked inexact, their sums are a lower bound.\n");
        }
    }
}

/// Days, hours, minutes and seconds, the first two that matter.
fn span(out: &mut Text<'_>, seconds: u64) {
    let parts = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let first = parts.iter().position(|&(unit, _)| seconds >= unit).unwrap_or(3);
    for (at, &(unit, letter)) in parts.iter().enumerate().skip(first).take(2) {
        if at > first {
            out.byte(b' ');
        }
        let whole = if at == 0 { seconds / unit } else { seconds % parts[at - 1].0 / unit };
        out.number(whole);
        out.str(letter.encode_utf8(&mut [0; 4]));
    }
}

fn tenths(out: &mut Text<'_>, permille: u32) {
    out.number(u64::from(permille / 10));
    out.byte(b'.');
    out.number(u64::from(permille % 10));
}

fn field(out: &mut Text<'_>, name: &str, value: u64, comma: bool) {
    out.str(if comma { ",\"" } else { "\"" });
    out.str(name);
    out.str("\":");
    out.number(value);
}

fn object(out: &mut Text<'_>, name: &str, fields: &[(&'static str, u64, &'static str)]) {
    out.str(",\"");
    out.str(name);
    out.str("\":{");
    for (at, &(name, value, _)) in fields.iter().enumerate() {
        field(out, name, value, at > 0);
    }
    out.str("}");
}

fn metrics(
    out: &mut Text<'_>,
    prefix: &str,
    suffix: &str,
    kind: &str,
    fields: &[(&'static str, u64, &'static str)],
) {
    for &(name, value, help) in fields {
        let full = |out: &mut Text<'_>| {
            for part in ["firmware_ctd_", prefix, name, suffix] {
                out.str(part);
            }
        };
        out.str("# HELP ");
        full(out);
        out.byte(b' ');
        out.str(help);
        out.str("\n# TYPE ");
        full(out);
        out.byte(b' ');
        out.str(kind);
        out.byte(b'\n');
        full(out);
        out.byte(b' ');
        out.number(value);
        out.byte(b'\n');
    }
}

/// Lines for the counters that are not 0, with what they count.
fn nonzero(out: &mut Text<'_>, fields: &[(&'static str, u64, &'static str)]) {
    for &(name, value, help) in fields {
        if value == 0 {
            continue;
        }
        let from = out.len();
        out.str("  ");
        out.str(name);
        while out.len() < from + 23 && !out.is_cut() {
            out.byte(b' ');
        }
        out.number(value);
        let room = 79_usize.saturating_sub(out.len() - from + 2);
        if help.len() <= room {
            out.str("  ");
            out.str(help);
        }
        out.byte(b'\n');
    }
}
