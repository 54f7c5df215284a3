//! The part of a status that is about the processes: workers that crashed, daemons that were
//! killed, and the supervisor's valve. What was lost then is a lower bound with a span of time.

use super::{Facts, span};
use crate::daemon::shared::Word;
use crate::record::text::Text;

impl Facts<'_, '_> {
    pub(super) fn word(&self, word: Word) -> u64 {
        u64::from(self.edge.words.get(word))
    }

    pub(super) fn process_numbers(&self) -> [(&'static str, u64, &'static str); 12] {
        let of = |word: Word| self.word(word);
        [
            ("worker_restarts", of(Word::Restarts), "workers that were started anew"),
            ("takeovers", of(Word::Takeovers), "daemons that took over from a killed one"),
            ("takeover_from_s", of(Word::TakeoverFrom), "last heard before, seconds since boot"),
            ("takeover_to_s", of(Word::TakeoverTo), "and heard again"),
            ("valve_open", of(Word::ValveOpen), "1 while the kernel keeps no destroys"),
            ("valve_times", of(Word::ValveTimes), "times that the supervisor let them go"),
            ("valve_from_s", of(Word::ValveFrom), "last opened, seconds since boot"),
            ("valve_to_s", of(Word::ValveTo), "last closed"),
            ("valve_lost", of(Word::ValveLost), "destroys let go: at least so many"),
            ("valve_backlog", of(Word::ValveBacklog), "kept when it was opened: at least"),
            (
                "other_listener_port",
                self.edge.other.map_or(0, |other| u64::from(other.port)),
                "netlink port of another listener that does not read, 0 for none",
            ),
            ("boot_s", u64::from(self.now.boot.as_secs_u32()), "now, in seconds since boot"),
        ]
    }

    /// What happened to processes, in words; nothing if nothing did.
    pub(super) fn text_processes(&self, out: &mut Text<'_>) {
        if self.word(Word::Restarts) > 0 {
            out.str("worker   was started anew ");
            out.number(self.word(Word::Restarts));
            out.str(" times; nothing was lost by that\n");
        }
        if self.word(Word::Takeovers) > 0 {
            out.str("daemon   was killed and started anew ");
            out.number(self.word(Word::Takeovers));
            out.str(" times. What began and ended unheard is in\n         no account: last for ");
            self.text_span(out, Word::TakeoverFrom, Word::TakeoverTo);
        }
        if self.word(Word::ValveTimes) > 0 {
            out.str("valve    was opened ");
            out.number(self.word(Word::ValveTimes));
            out.str(" times, since the worker did not read; AT LEAST ");
            out.number(self.word(Word::ValveLost));
            out.str("\n         ended flows were let go by the kernel, last for ");
            self.text_span(out, Word::ValveFrom, Word::ValveTo);
        }
    }

    fn text_span(&self, out: &mut Text<'_>, from: Word, to: Word) {
        let (from, to) = (self.word(from), self.word(to));
        span(out, to.saturating_sub(from));
        out.str(", ");
        span(out, u64::from(self.now.boot.as_secs_u32()).saturating_sub(to));
        out.str(" ago\n");
    }
}
