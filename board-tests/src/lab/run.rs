//! Carrying out a [`Plan`]: many flows at a time on one thread.
//!
//! The runner holds both ends of every flow, so it knows when a flow is really over: for TCP when
//! both ends saw the other's FIN acknowledged, for UDP when every datagram arrived, for ICMP when
//! every reply did. It decides nothing about sizes and addresses ([`plan`](super::plan)) and counts
//! nothing ([`account`](super::account)). Limits: a flow without progress for 10 s fails the run.

use std::fmt;
use std::time::{Duration, Instant};

use super::account::Stamp;
use super::clock;
use super::exchange::{Exchange, Step};
use super::hosts::{Hosts, Lost};
use super::ledger::{Flow, Ledger};
use super::plan::{Choice, Plan, Spec, Specs};
use super::topology::Side;
use super::tuple::Tuple;

/// How long a run may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Flows of the plan.
    pub planned: u32,
    /// Flows begun.
    pub begun: u32,
    /// Flows that ended.
    pub ended: u32,
}

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// This flow and others did not move any more; packets on the way that never arrived.
    Stuck(Tuple, Option<Lost>),
    /// A host refused or reset this flow.
    Broken(Tuple),
    /// Packets were lost in the lab and not made good.
    Lost(Lost),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck(tuple, lost) => {
                write!(f, "{tuple}: no progress for {} s", PATIENCE.as_secs())?;
                lost.map_or(Ok(()), |lost| write!(f, "; {lost}"))
            }
            Self::Broken(tuple) => write!(f, "{tuple}: refused or reset"),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl Hosts {
    /// Makes the flows of `plan` and returns the hosts' own account of them.
    ///
    /// `watch` is called whenever flows began or ended, between packets: it must be quick.
    ///
    /// # Errors
    /// When a flow breaks, or packets are lost for good.
    pub fn run(
        &mut self,
        plan: &Plan,
        mut watch: impl FnMut(&Progress),
    ) -> Result<Ledger, RunError> {
        let specs = Specs::new(plan, Choice::of(self));
        let mut run = Run {
            specs,
            plan,
            active: Vec::new(),
            ended: Vec::new(),
            progress: Progress { planned: plan.flows(), ..Progress::default() },
            began: clock::now(),
            moved: clock::now(),
        };
        while run.begin_flows(self) || !run.active.is_empty() {
            let before = run.progress;
            run.turn(self)?;
            if run.progress != before {
                watch(&run.progress);
            }
        }
        self.settle().map_err(RunError::Lost)?;
        Ok(self.close_books(&run.ended))
    }

    /// Takes the flows that ended out of the hosts' books.
    fn close_books(&mut self, ended: &[Ended]) -> Ledger {
        let flows = ended.iter().map(|ended| self.flow(ended)).collect();
        let strays = [Side::Lan, Side::Wan]
            .into_iter()
            .flat_map(|side| (0..self.count(side)).map(move |n| (side, n)))
            .flat_map(|(side, n)| self.host(side, n).account().flows())
            .map(|(tuple, both)| (*tuple, *both))
            .collect();
        Ledger { flows, strays }
    }

    fn flow(&mut self, ended: &Ended) -> Flow {
        let Spec { stamp, path, proto, .. } = ended.spec;
        let orig = path.tuple(proto);
        let account = self.host_mut(Side::Lan, path.lan.into()).account_mut();
        account.forget(stamp.0);
        let lan = account.take(&orig);
        let account = self.host_mut(Side::Wan, path.wan.into()).account_mut();
        let reply = account.stamped(stamp.0).unwrap_or_else(|| orig.inverse());
        account.forget(stamp.0);
        let wan = account.take(&reply);
        Flow { orig, reply, lan, wan, start: ended.start, end: ended.end }
    }
}

/// A flow that ended.
#[derive(Debug)]
struct Ended {
    spec: Spec,
    start: Duration,
    end: Duration,
}

/// A flow that is under way.
#[derive(Debug)]
struct Active {
    exchange: Exchange,
    start: Duration,
}

struct Run<'a> {
    specs: Specs<'a>,
    plan: &'a Plan,
    active: Vec<Active>,
    ended: Vec<Ended>,
    progress: Progress,
    began: Instant,
    moved: Instant,
}

impl Run<'_> {
    /// Begins flows as far as concurrency and pace allow; false when none is left to begin.
    fn begin_flows(&mut self, hosts: &mut Hosts) -> bool {
        while self.progress.begun < self.progress.planned {
            if self.active.len() >= self.plan.concurrency || self.ahead() {
                return true;
            }
            let Some(spec) = self.specs.next(|| hosts.next_stamp()) else { return false };
            let start = clock::wall();
            self.active.push(Active { exchange: Exchange::begin(spec, hosts), start });
            self.progress.begun += 1;
        }
        false
    }

    /// Whether more flows began than the plan's pace allows by now.
    fn ahead(&self) -> bool {
        self.plan.per_second.is_some_and(|rate| {
            let due = self.began.elapsed().as_millis() * u128::from(rate) / 1000;
            u128::from(self.progress.begun) > due
        })
    }

    /// One turn of the hosts and of every flow; waits when nothing moved.
    fn turn(&mut self, hosts: &mut Hosts) -> Result<(), RunError> {
        let busy = hosts.turn();
        let moved = self.step_all(hosts)?;
        if busy || moved || self.active.is_empty() {
            self.moved = clock::now();
        }
        if busy || moved {
            return Ok(());
        }
        if self.moved.elapsed() >= PATIENCE {
            return Err(self.stuck(hosts));
        }
        let timed = self.plan.per_second.is_some() || *self.plan.pause_ms.end() > 0;
        let pace = if timed { 2 } else { 100 };
        hosts.wait(Duration::from_millis(pace));
        Ok(())
    }

    fn stuck(&self, hosts: &Hosts) -> RunError {
        match (self.active.first(), hosts.lost()) {
            (Some(active), lost) => RunError::Stuck(active.exchange.tuple(), lost),
            (None, lost) => RunError::Lost(lost.unwrap_or_default()),
        }
    }

    /// Gives every flow its turn; whether any moved.
    fn step_all(&mut self, hosts: &mut Hosts) -> Result<bool, RunError> {
        let mut moved = false;
        let mut at = 0;
        while at < self.active.len() {
            match self.active[at].exchange.step(hosts) {
                Step::Idle => at += 1,
                Step::Moved => {
                    moved = true;
                    at += 1;
                }
                Step::Belongs(stamp) => {
                    moved = true;
                    self.hand_over(at, stamp)?;
                }
                Step::Broken => return Err(RunError::Broken(self.active[at].exchange.tuple())),
                Step::Done => {
                    moved = true;
                    self.end(at, hosts);
                }
            }
        }
        Ok(moved)
    }

    /// Two flows to one port of one server: each got the other's connection.
    fn hand_over(&mut self, at: usize, stamp: Stamp) -> Result<(), RunError> {
        let other = self.active.iter().position(|a| a.exchange.stamp() == stamp);
        let Some(other) = other.filter(|other| *other != at) else {
            return Err(RunError::Broken(self.active[at].exchange.tuple()));
        };
        let (low, high) = self.active.split_at_mut(at.max(other));
        low[at.min(other)].exchange.swap_server(&mut high[0].exchange);
        Ok(())
    }

    fn end(&mut self, at: usize, hosts: &mut Hosts) {
        let Active { exchange, start } = self.active.swap_remove(at);
        let spec = exchange.end(hosts);
        self.ended.push(Ended { spec, start, end: clock::wall() });
        self.progress.ended += 1;
    }
}
