//! From one window into another: when its size, or what lies beside it, has changed.

use super::{Frame, MAGIC, Ordering, Replay, compiler_fence, head, size};

/// How many words the window takes that begins this memory, and its layout; none if there is no
/// window. Says nothing of its messages.
#[must_use]
pub fn extent(mem: &[u32]) -> Option<(usize, u32)> {
    let head: &[u32; head::WORDS] = mem.first_chunk()?;
    let words = size(head[head::CAPACITY]).checked_add(head::WORDS)?;
    (head[head::MAGIC] == MAGIC && words <= mem.len()).then_some((words, head[head::LAYOUT]))
}

impl Replay<'_> {
    /// Takes in the messages of another window of the same layout, perhaps of another size, to be
    /// sent again. This one is as it was opened, and empty.
    ///
    /// If not all fit, the oldest are left out, which are the most likely to have been read: how
    /// many data records those have.
    pub fn take_in(&mut self, other: &Replay<'_>) -> u32 {
        let (mut at, mut left, mut left_out) = (other.head[head::BEGIN], other.used(), 0_u32);
        while left > 0 {
            let frame = other.frame(at);
            if left > self.capacity.saturating_sub(self.used()) {
                left_out = left_out.saturating_add(frame.records());
            } else {
                self.copy(other, at, frame);
            }
            left = left.saturating_sub(frame.words());
            at = other.after(at, frame.words());
        }
        self.repeats = self.held.messages;
        left_out
    }

    /// Appends the message that lies there in another window.
    fn copy(&mut self, other: &Replay<'_>, at: u32, frame: Frame) {
        let end = self.head[head::END];
        for word in 0..frame.words() {
            self.set_word(self.after(end, word), other.word(other.after(at, word)));
        }
        compiler_fence(Ordering::Release);
        self.head[head::END] = self.after(end, frame.words());
        self.held.add(frame);
    }
}
