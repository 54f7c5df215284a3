//! Saved flows back into the kernel.
//!
//! Sans-IO: [`Restore`] turns what a [`FlowSource`] has into batches of requests and reads the
//! answers; whoever drives it sends the one and receives the other (in the daemon,
//! `daemon/restore.rs`). How a flow is asked for is [`request`]'s business.
//!
//! # Answers
//!
//! Every create is exclusive: a flow that lives already wins, and the saved one is refused. The
//! kernel answers refusals only; the last request of a batch is a barrier, whose acknowledgement
//! says that all before it are done. Answers for each request would make it half as long again,
//! and a joined listener 2.6 times as long: restore first, then join and dump.
//!
//! # Passes
//!
//! A master has to be there before its children. So the source is gone through several times: all
//! flows without a master; those with one; those whose master was not there yet; and at last, when
//! a pass brought none of them or after [`PASSES`], the rest without their master. (The kernel too
//! keeps a flow whose master has ended.) A flow whose helper this kernel does not have is asked
//! for once more without it.
//!
//! # Memory
//!
//! Fixed when a restore begins: the caller's buffer, 12 bytes for each request of a batch and a
//! quarter of a byte for each flow. What the source has beyond that number is counted, and not
//! restored.
//!
//! Source: `ctnetlink_create_conntrack`, `ctnetlink_create_expect`; `netlink_rcv_skb`.

mod batch;
mod expect;
mod marks;
mod recipe;
mod tally;
#[cfg(test)]
mod tests;
mod timeouts;

pub use expect::expect_request;
pub use recipe::{Without, request};
pub use tally::{Refusal, Tally};
pub use timeouts::Timeouts;

use crate::checkpoint::{SavedExpect, SavedFlow};
use crate::wire::nlmsg::Messages;
use crate::wire::request::{CreateFlags, create, expect_create, expect_update};
use crate::wire::{Error, Expect, Full, Message, Response, Writer};
use batch::{About, Batch, Item};
use marks::{Mark, Marks};

/// Most times that the flows are gone through.
pub const PASSES: u32 = 5;
/// Bytes of the smallest buffer: one request and a barrier.
pub const BUFFER_LEAST: usize = 2 * batch::REQUEST_MOST;

const EXCLUSIVE: CreateFlags = CreateFlags { ack: false, exclusive: true };

/// Flows and expectations that can be gone through several times, in the same order each time.
pub trait FlowSource {
    /// Why it could not be read.
    type Error;

    /// Gives each flow to `each`, until that says false.
    ///
    /// # Errors
    /// Why a flow could not be read.
    fn flows(&mut self, each: &mut dyn FnMut(&SavedFlow) -> bool) -> Result<(), Self::Error>;

    /// Gives each expectation to `each`, until that says false.
    ///
    /// # Errors
    /// Why an expectation could not be read.
    fn expectations(
        &mut self,
        each: &mut dyn FnMut(&SavedExpect) -> bool,
    ) -> Result<(), Self::Error>;
}

/// What is being gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Flows without a master.
    First,
    /// Flows that wait, this time with what they have.
    Again(u32),
    /// Flows that wait, without their master.
    Last,
    /// Expectations.
    Expectations,
    /// The timeouts of the expectations that were made.
    ExpectTimeouts,
}

/// Of how many flows and expectations it is known what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Flows.
    pub flows: u32,
    /// Expectations.
    pub expectations: u32,
}

/// Whether the batch must be sent before more is offered.
#[must_use = "a full batch has to be sent"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room for more.
    Left,
    /// Send [`Restore::batch`] and read the answers first.
    None,
}

/// A restore that goes on.
///
/// For each pass: every flow to [`Self::flow`], and whenever there is no room left, and at the
/// end, [`Self::batch`] to the kernel and every answer to [`Self::answer`] until it says that the
/// batch is done. Then [`Self::next_pass`], which says whether there is another one. After that
/// the same with [`Self::expectation`], after [`Self::expectations`] and again after
/// [`Self::expectation_timeouts`].
#[derive(Debug)]
pub struct Restore<'b> {
    batch: Batch<'b>,
    timeouts: Timeouts,
    marks: Marks,
    expect_marks: Marks,
    pass: Pass,
    /// Number of the next flow or expectation of this pass.
    next: u32,
    /// Flows that are still to be asked for after this pass.
    waiting: u32,
    /// Requests of this batch that were refused so far.
    batch_refused: u32,
    /// The kernel made something in this pass.
    progress: bool,
    flows: Tally,
    expectations: Tally,
}

impl<'b> Restore<'b> {
    /// For so many flows and expectations, in batches of at most `requests` requests, as many as the answers' socket
    /// has room for refusals of, and as the buffer holds ([`BUFFER_LEAST`] or more).
    ///
    /// # Errors
    /// [`Full`] when the buffer is too small.
    pub fn new(
        capacity: Capacity,
        requests: usize,
        buffer: &'b mut [u8],
        timeouts: Timeouts,
    ) -> Result<Self, Full> {
        if buffer.len() < BUFFER_LEAST {
            return Err(Full);
        }
        Ok(Self {
            batch: Batch::new(buffer, requests),
            timeouts,
            marks: Marks::new(capacity.flows),
            expect_marks: Marks::new(capacity.expectations),
            pass: Pass::First,
            next: 0,
            waiting: 0,
            batch_refused: 0,
            progress: false,
            flows: Tally::default(),
            expectations: Tally::default(),
        })
    }

    /// Offers the next flow of this pass.
    pub fn flow(&mut self, flow: &SavedFlow) -> Room {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        if let Some(without) = self.is_due(index, flow) {
            self.ask(index, flow, without);
        }
        self.room()
    }

    /// Whether flow `index` is to be asked for in this pass, and without what.
    fn is_due(&mut self, index: u32, flow: &SavedFlow) -> Option<Without> {
        if index >= self.marks.flows() {
            if self.pass == Pass::First {
                self.flows.beyond_capacity = self.flows.beyond_capacity.saturating_add(1);
            }
            return None;
        }
        if self.pass == Pass::First {
            if flow.rare.master.is_some() {
                self.wait(index, Mark::Waiting);
                return None;
            }
            return Some(Without::default());
        }
        let mark = self.marks.get(index);
        if !matches!(mark, Mark::Waiting | Mark::WithoutHelper) {
            return None;
        }
        self.waiting = self.waiting.saturating_sub(1);
        Some(Without { helper: mark == Mark::WithoutHelper, master: self.pass == Pass::Last })
    }

    /// Appends the request for a flow.
    fn ask(&mut self, index: u32, flow: &SavedFlow, without: Without) {
        let Some(ct) = request(flow, &self.timeouts, without) else {
            self.marks.set(index, Mark::Refused);
            self.flows.timed_out = self.flows.timed_out.saturating_add(1);
            return;
        };
        if without.master && flow.rare.master.is_some() {
            self.flows.without_master = self.flows.without_master.saturating_add(1);
        }
        self.marks.set(index, Mark::Made);
        let item = Item { index, helper: ct.helper.is_some(), master: ct.master.is_some() };
        let put = self.batch.put(item, |w, seq| create(w, seq, EXCLUSIVE, &ct));
        debug_assert_eq!(put, Ok(()), "a request is longer than REQUEST_MOST");
    }

    fn wait(&mut self, index: u32, mark: Mark) {
        self.marks.set(index, mark);
        self.waiting = self.waiting.saturating_add(1);
    }

    fn room(&self) -> Room {
        if self.batch.is_full() { Room::None } else { Room::Left }
    }

    /// The requests to send in one datagram; none when there is nothing to send.
    pub fn batch(&mut self) -> Option<&Writer<'b>> {
        if self.batch.len() == 0 {
            return None;
        }
        // There is always room for the barrier.
        self.batch.close().ok()
    }

    /// Takes a datagram of answers; true when the batch is done and the next one can begin.
    pub fn answer(&mut self, datagram: &[u8]) -> bool {
        let mut done = false;
        for message in Messages::new(datagram) {
            match message.and_then(|raw| Message::parse(&raw)) {
                Ok(Message::Response(response)) => done |= self.response(&response),
                Ok(_) => {}
                Err(error) => self.malformed(error),
            }
        }
        done
    }

    fn malformed(&mut self, error: Error) {
        self.tally().note_malformed(error);
    }

    fn tally(&mut self) -> &mut Tally {
        match self.pass {
            Pass::First | Pass::Again(_) | Pass::Last => &mut self.flows,
            Pass::Expectations | Pass::ExpectTimeouts => &mut self.expectations,
        }
    }

    fn response(&mut self, response: &Response<'_>) -> bool {
        match self.batch.about(response.request.seq) {
            About::Request(item) if response.errno != 0 => {
                self.refused(item, response.errno);
                false
            }
            About::Barrier => {
                self.end_batch();
                true
            }
            About::Request(_) | About::Nothing => false,
        }
    }

    fn refused(&mut self, item: Item, errno: i32) {
        self.batch_refused = self.batch_refused.saturating_add(1);
        match self.pass {
            Pass::First | Pass::Again(_) | Pass::Last => self.flow_refused(item, errno),
            Pass::Expectations => {
                self.expect_marks.set(item.index, Mark::Refused);
                self.expectations.note_refusal(errno);
            }
            // It was used up or timed out meanwhile.
            Pass::ExpectTimeouts => {}
        }
    }

    fn flow_refused(&mut self, item: Item, errno: i32) {
        match self.second_chance(item, Refusal::of(errno)) {
            Some(mark) => self.wait(item.index, mark),
            None => {
                self.marks.set(item.index, Mark::Refused);
                self.flows.note_refusal(errno);
            }
        }
    }

    /// With which mark a refused flow waits for another pass, if it may.
    ///
    /// The kernel looks for the helper before it looks for the master.
    fn second_chance(&mut self, item: Item, why: Refusal) -> Option<Mark> {
        match why {
            _ if self.pass == Pass::Last => None,
            Refusal::NoHelper if item.helper => {
                self.flows.without_helper = self.flows.without_helper.saturating_add(1);
                Some(Mark::WithoutHelper)
            }
            Refusal::NoMaster if item.master && item.helper => Some(Mark::Waiting),
            Refusal::NoMaster if item.master => Some(Mark::WithoutHelper),
            _ => None,
        }
    }

    fn end_batch(&mut self) {
        let asked = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        let made = asked.saturating_sub(self.batch_refused);
        if self.pass != Pass::ExpectTimeouts {
            let tally = self.tally();
            tally.created = tally.created.saturating_add(made);
        }
        self.progress |= made > 0;
        self.batch_refused = 0;
        self.batch.clear();
    }

    /// Begins the next pass over the flows, if some wait to be asked for.
    pub fn next_pass(&mut self) -> bool {
        let next = match self.pass {
            Pass::First => Pass::Again(1),
            Pass::Again(pass) if self.progress && pass + 2 < PASSES => Pass::Again(pass + 1),
            Pass::Again(_) => Pass::Last,
            Pass::Last | Pass::Expectations | Pass::ExpectTimeouts => return false,
        };
        if self.waiting == 0 {
            return false;
        }
        (self.pass, self.next, self.progress) = (next, 0, false);
        true
    }

    /// Begins the expectations, after all passes over the flows.
    pub fn expectations(&mut self) {
        (self.pass, self.next) = (Pass::Expectations, 0);
    }

    /// Begins the timeouts of the expectations that were made: the kernel gives a new one the
    /// longest that its helper has, whatever the request says.
    pub fn expectation_timeouts(&mut self) {
        (self.pass, self.next) = (Pass::ExpectTimeouts, 0);
    }

    /// Offers the next expectation.
    pub fn expectation(&mut self, expect: &SavedExpect) -> Room {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        let first = self.pass == Pass::Expectations;
        if index >= self.expect_marks.flows() {
            let beyond = &mut self.expectations.beyond_capacity;
            *beyond = beyond.saturating_add(u32::from(first));
        } else if let Some(request) = expect_request(expect, &self.timeouts) {
            if self.expect_marks.get(index) == Mark::Made {
                self.ask_expect(index, first, &request);
            }
        } else if first {
            self.expect_marks.set(index, Mark::Refused);
            self.expectations.timed_out = self.expectations.timed_out.saturating_add(1);
        }
        self.room()
    }

    fn ask_expect(&mut self, index: u32, first: bool, request: &Expect<'_>) {
        let item = Item { index, ..Item::default() };
        let put = self.batch.put(item, |w, seq| {
            if first {
                expect_create(w, seq, EXCLUSIVE, request)
            } else {
                expect_update(w, seq, false, request)
            }
        });
        debug_assert_eq!(put, Ok(()), "a request is longer than REQUEST_MOST");
    }

    /// How it went with the flows so far.
    #[must_use]
    pub const fn flow_tally(&self) -> &Tally {
        &self.flows
    }

    /// How it went with the expectations so far.
    #[must_use]
    pub const fn expectation_tally(&self) -> &Tally {
        &self.expectations
    }

    /// Whether the kernel refused anything for lack of `CAP_NET_ADMIN`.
    #[must_use]
    pub fn was_denied(&self) -> bool {
        self.flows.refused_as(Refusal::Denied) > 0
            || self.expectations.refused_as(Refusal::Denied) > 0
    }

    /// Whether flow `index` (in the order of the source, from 0) was not made: refused, timed out
    /// or beyond the capacity. To be asked after the last pass over the flows.
    #[must_use]
    pub fn was_refused(&self, index: u32) -> bool {
        self.marks.get(index) != Mark::Made
    }
}
