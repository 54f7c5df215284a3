//! Naps of the event loop.
//!
//! When events come fast, reading each as it comes costs more than twice as much CPU as reading
//! them in bulk. So after a round that brought many, and while several come in the time that a nap
//! may take, one by one or not, the loop naps before it looks again; clients and signals are still
//! served. Naps begin short and grow up to what the configuration allows while the receive buffers
//! stay nearly empty, and shrink when one fills to a quarter: so the rate decides. There are none
//! with a small buffer, or while destroys find the buffer full.

use super::super::netlink::SocketMemory;
use super::EventLoop;
use crate::time::{Duration, Instant};

/// A round with fewer events is quiet: unless they come fast, the next event is waited for.
const BUSY: usize = 8;
/// So many events in the longest nap come fast.
const FAST: u64 = 4;
/// With a smaller receive buffer (as the kernel counts, which is twice what was asked for) there are
/// no naps: a burst fills it in a millisecond, and the kernel waits for a second before it repeats.
const NAP_BUFFER: u32 = 512 << 10;
/// The shortest nap: epoll counts in milliseconds.
pub(super) const NAP_MIN: Duration = Duration::from_millis(1);

/// How fast events come, measured over the longest nap each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    from: Instant,
    count: u64,
    fast: bool,
}

impl Rate {
    /// Notes that so many more came; whether they come fast.
    fn note(&mut self, count: usize, now: Instant, span: Duration) -> bool {
        self.count += count as u64;
        let age = now.since(self.from);
        if age >= span {
            self.fast = self.count * span.as_micros() >= age.as_micros().saturating_mul(FAST);
            (self.from, self.count) = (now, 0);
        }
        self.fast
    }
}

impl EventLoop<'_> {
    /// After a busy round, naps: see the module's own documentation.
    pub(super) fn choose_nap(
        &mut self,
        now: Instant,
        (count, rest): (usize, bool),
        late: bool,
        [state, destroy]: [SocketMemory; 2],
    ) {
        let smallest = state.receive_buffer.min(destroy.receive_buffer);
        let fast = self.rate.note(count, now, self.coalesce);
        let quiet = count < BUSY && !fast || self.coalesce < NAP_MIN;
        if rest {
            self.nap = Some(Duration::ZERO);
        } else if quiet || late || smallest < NAP_BUFFER {
            self.nap_length = NAP_MIN;
        } else {
            self.nap_length = self.next_nap(state, destroy);
            self.nap = Some(self.nap_length);
        }
    }

    /// Longer than the last one if the buffers stayed nearly empty, shorter if one filled.
    fn next_nap(&self, state: SocketMemory, destroy: SocketMemory) -> Duration {
        let percent = |m: SocketMemory| {
            u64::from(m.receive_queued) * 100 / u64::from(m.receive_buffer.max(1))
        };
        let last = self.nap_length.as_micros();
        let next = match percent(state).max(percent(destroy)) {
            0..10 => last * 3 / 2,
            10..25 => last,
            _ => last / 2,
        };
        Duration::from_micros(next).clamp(NAP_MIN, self.coalesce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_millis(5);

    /// One event each `gap` microseconds, for a second: whether they come fast in the end.
    fn is_fast(rate: &mut Rate, from: u64, gap: u64) -> bool {
        let mut fast = false;
        for n in 0..1_000_000 / gap {
            fast = rate.note(1, Instant::from_micros(from + n * gap), SPAN);
        }
        fast
    }

    #[test]
    fn single_events_come_fast_when_a_nap_would_bring_several() {
        let mut rate = Rate::default();
        assert!(is_fast(&mut rate, 1_000_000, 500), "2,000 a second");
        assert!(!is_fast(&mut rate, 2_000_000, 10_000), "100 a second");
        assert!(is_fast(&mut rate, 3_000_000, 1_000), "1,000 a second");
        // After a while without any, the first one does not come fast.
        assert!(!rate.note(1, Instant::from_micros(9_000_000), SPAN));
    }

    #[test]
    fn a_nap_that_takes_longer_than_it_should_does_not_make_events_slow() {
        let mut rate = Rate::default();
        rate.note(1, Instant::from_micros(1_000_000), SPAN);
        for n in 1..50 {
            // Twice the span, and twice the events.
            assert!(rate.note(20, Instant::from_micros(1_000_000 + n * 10_000), SPAN));
        }
    }
}
