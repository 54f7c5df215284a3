//! Naps of the event loop.
//!
//! When events come fast, reading each as it comes costs more than twice as much CPU as reading
//! them in bulk. So after a round that brought many, the loop naps before it looks again; clients
//! and signals are still served. Naps begin short and grow up to what the configuration allows
//! while the receive buffers stay nearly empty, and shrink when one fills to a quarter: so the
//! rate decides. There are none with a small buffer, or while destroys find the buffer full.

use super::super::sys::SocketMemory;
use super::EventLoop;
use crate::time::Duration;

/// A round with fewer events is quiet: the next event is waited for.
const BUSY: usize = 8;
/// With a smaller receive buffer (as the kernel counts, which is twice what was asked for) there are
/// no naps: a burst fills it in a millisecond, and the kernel waits for a second before it repeats.
const NAP_BUFFER: u32 = 512 << 10;
/// The shortest nap: epoll counts in milliseconds.
pub(super) const NAP_MIN: Duration = Duration::from_millis(1);

impl EventLoop<'_> {
    /// After a busy round, naps: see the module's own documentation.
    pub(super) fn choose_nap(
        &mut self,
        count: usize,
        rest: bool,
        late: bool,
        state: SocketMemory,
        destroy: SocketMemory,
    ) {
        let smallest = state.receive_buffer.min(destroy.receive_buffer);
        let quiet = count < BUSY || self.coalesce < NAP_MIN;
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
