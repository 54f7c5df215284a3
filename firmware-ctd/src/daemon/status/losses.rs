//! The part of a status that is the loss ledger: every cause, exact or a bound, with its span.

use super::{Facts, field, span};
use crate::daemon::losses;
use crate::losses::{Bound, Losses, seconds};
use crate::record::text::Text;

impl Facts<'_, '_> {
    fn losses(&self) -> Losses {
        losses::collect(self.engine, self.edge.words, self.now)
    }

    /// `"losses":{"valve":{"bound":"at_least","flows":7,"from":S,"to":S},...}`: packets and bytes
    /// where they are exact, the span (seconds since 1970) where there is one.
    pub(super) fn json_losses(&self, out: &mut Text<'_>) {
        out.str(",\"losses\":{");
        for (at, (cause, entry)) in self.losses().iter().enumerate() {
            out.str(if at > 0 { ",\"" } else { "\"" });
            out.str(cause.name());
            out.str("\":{\"bound\":\"");
            out.str(cause.bound().name());
            out.byte(b'"');
            field(out, "flows", entry.lost.records, true);
            if cause.bound() == Bound::Exact {
                field(out, "packets", entry.lost.packets, true);
                field(out, "bytes", entry.lost.bytes, true);
            }
            if let Some(span) = entry.span {
                field(out, "from", u64::from(span.from_s), true);
                field(out, "to", u64::from(span.to_s), true);
            }
            out.byte(b'}');
        }
        out.byte(b'}');
    }

    /// `firmware_ctd_loss_flows_total{cause="valve",bound="at_least"} 7`, and the ends of spans.
    pub(super) fn prometheus_losses(&self, out: &mut Text<'_>) {
        let losses = self.losses();
        out.str("# HELP firmware_ctd_loss_flows_total ended flows lost, by cause\n");
        out.str("# TYPE firmware_ctd_loss_flows_total counter\n");
        for (cause, entry) in losses.iter() {
            let labels = [cause.name(), "\",bound=\"", cause.bound().name()];
            sample(out, "flows_total", &labels, entry.lost.records);
        }
        out.str("# HELP firmware_ctd_loss_seconds when that was, first and last, since 1970\n");
        out.str("# TYPE firmware_ctd_loss_seconds gauge\n");
        for (cause, entry) in losses.iter() {
            if let Some(span) = entry.span {
                for (edge, at_s) in [("from", span.from_s), ("to", span.to_s)] {
                    let labels = [cause.name(), "\",edge=\"", edge];
                    sample(out, "seconds", &labels, u64::from(at_s));
                }
            }
        }
    }

    /// A line for each cause that there was.
    pub(super) fn text_losses(&self, out: &mut Text<'_>) {
        let now_s = seconds(self.now.wall);
        for (cause, entry) in self.losses().iter().filter(|(_, entry)| !entry.is_empty()) {
            out.str("loss     ");
            out.str(match cause.bound() {
                Bound::Exact => "",
                Bound::AtLeast => "AT LEAST ",
                Bound::AtMost => "at most ",
            });
            out.number(entry.lost.records);
            for part in [" ", cause.name(), ": ", cause.help(), "\n"] {
                out.str(part);
            }
            if let Some(times) = entry.span {
                out.str("         from ");
                span(out, u64::from(now_s.saturating_sub(times.from_s)));
                out.str(" ago to ");
                span(out, u64::from(now_s.saturating_sub(times.to_s)));
                out.str(" ago\n");
            }
        }
    }
}

fn sample(out: &mut Text<'_>, name: &str, labels: &[&str], value: u64) {
    for part in ["firmware_ctd_loss_", name, "{cause=\""] {
        out.str(part);
    }
    labels.iter().for_each(|part| out.str(part));
    out.str("\"} ");
    out.number(value);
    out.byte(b'\n');
}
