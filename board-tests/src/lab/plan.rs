//! What traffic to make: thousands of random flows that follow from one seed.
//!
//! Decides addresses, ports, sizes and who closes; never when anything happens. Every flow of a
//! lab has a tuple of its own on both sides of the router for 500,000 flows, so that an account
//! by tuple is an account by flow. A share of the IPv4 flows comes in pairs that differ only in the
//! LAN host: there the router cannot keep the port and must choose another. Limits: requests and
//! datagrams of at least 16 bytes (they carry a stamp), datagrams up to 1,400.

use std::ops::RangeInclusive;

use super::account::Stamp;
use super::steps::Path;
use super::topology::Side;
use super::tuple::Proto;

/// A stream of random numbers from a seed: `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// True `percent` times of a hundred.
    pub const fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < percent as u64
    }

    /// A number of `range`, all alike.
    #[expect(clippy::cast_possible_truncation, reason = "below the range's end")]
    pub const fn even(&mut self, range: &RangeInclusive<u32>) -> u32 {
        let (low, high) = (*range.start(), *range.end());
        low + self.below(high.saturating_sub(low) as u64 + 1) as u32
    }

    /// A number of `range`, small ones as likely as large ones (every power of two alike).
    #[expect(clippy::cast_possible_truncation, reason = "below the range's end")]
    pub fn size(&mut self, range: &RangeInclusive<u32>) -> u32 {
        let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
        let span = high.saturating_sub(low) + 1;
        let bits = 64 - span.leading_zeros();
        let limit = 1 << (1 + self.below(bits.into()));
        (low + self.below(limit.min(span))) as u32
    }
}

/// The traffic of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything random follows from.
    pub seed: u64,
    /// TCP connections.
    pub tcp_flows: u32,
    /// UDP flows.
    pub udp_flows: u32,
    /// ICMP and ICMPv6 flows.
    pub icmp_flows: u32,
    /// Bytes that a TCP client sends, from 16 on.
    pub request_bytes: RangeInclusive<u32>,
    /// Bytes that a TCP server answers.
    pub response_bytes: RangeInclusive<u32>,
    /// Payload of datagrams and echoes, 16 to 1,400.
    pub datagram_bytes: RangeInclusive<u32>,
    /// Datagrams or echoes of a flow, from 1 on.
    pub exchanges: RangeInclusive<u32>,
    /// Share of the UDP flows that nobody answers.
    pub unanswered_percent: u8,
    /// Share of the flows over IPv6.
    pub ipv6_percent: u8,
    /// Share of the IPv4 flows whose port another LAN host uses too.
    pub clash_percent: u8,
    /// Flows at a time.
    pub concurrency: usize,
    /// How long a TCP server thinks before it answers, milliseconds, below 5,000.
    pub pause_ms: RangeInclusive<u32>,
    /// New flows a second; as fast as it goes when absent.
    pub per_second: Option<u32>,
}

impl Plan {
    /// A mixed plan: 1,000 TCP, 1,000 UDP and 100 ICMP flows, a third of them IPv6.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self {
            seed,
            tcp_flows: 1000,
            udp_flows: 1000,
            icmp_flows: 100,
            request_bytes: 16..=4_000,
            response_bytes: 0..=60_000,
            datagram_bytes: 16..=1_400,
            exchanges: 1..=8,
            unanswered_percent: 10,
            ipv6_percent: 33,
            clash_percent: 2,
            concurrency: 128,
            pause_ms: 0..=0,
            per_second: None,
        }
    }

    /// A plan of `flows` flows: 60 % TCP, 35 % UDP, 5 % ICMP.
    #[must_use]
    pub const fn of(flows: u32, seed: u64) -> Self {
        let (udp_flows, icmp_flows) = (flows * 35 / 100, flows * 5 / 100);
        let tcp_flows = flows - udp_flows - icmp_flows;
        Self { tcp_flows, udp_flows, icmp_flows, ..Self::seeded(seed) }
    }

    /// All flows.
    #[must_use]
    pub const fn flows(&self) -> u32 {
        self.tcp_flows + self.udp_flows + self.icmp_flows
    }
}

/// One flow of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) stamp: Stamp,
    pub(super) proto: Proto,
    pub(super) path: Path,
    /// Bytes of a TCP request, or of each datagram.
    pub(super) request: u32,
    /// Bytes of a TCP answer, or of each answering datagram.
    pub(super) response: u32,
    /// Datagrams or echoes.
    pub(super) exchanges: u32,
    /// Whether datagrams are answered.
    pub(super) answered: bool,
    /// How long a TCP server waits before it answers.
    pub(super) pause_ms: u32,
    /// Whether the server closes first.
    pub(super) server_closes: bool,
}

/// How many hosts there are to choose from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) lan: u64,
    pub(super) wan: u64,
}

/// Makes the flows of a plan one after the other.
#[derive(Debug)]
pub(super) struct Specs<'a> {
    plan: &'a Plan,
    random: Random,
    left: [u32; 3],
    choice: Choice,
    twin: Option<Spec>,
}

impl<'a> Specs<'a> {
    pub(super) const fn new(plan: &'a Plan, choice: Choice) -> Self {
        let left = [plan.tcp_flows, plan.udp_flows, plan.icmp_flows];
        Self { plan, random: Random::new(plan.seed), left, choice, twin: None }
    }

    /// The next flow; `stamp` gives numbers that no flow of the lab had before.
    pub(super) fn next(&mut self, mut stamp: impl FnMut() -> Stamp) -> Option<Spec> {
        if let Some(twin) = self.twin.take() {
            return Some(twin);
        }
        let kind = self.kind()?;
        let mut spec = self.spec(kind, stamp());
        let plan = self.plan;
        let may_clash = kind < 2 && !spec.path.ipv6 && self.choice.lan > 1 && self.left[kind] > 0;
        if may_clash && self.random.chance(plan.clash_percent) {
            self.left[kind] -= 1;
            spec.path.dport = clash_port(spec.stamp);
            let mut twin = self.spec(kind, stamp());
            twin.path = Path { lan: self.other_lan(spec.path.lan), ..spec.path };
            twin.answered = spec.answered;
            self.twin = Some(twin);
        }
        Some(spec)
    }

    /// TCP, UDP or ICMP, each as likely as it is frequent in what is left.
    fn kind(&mut self) -> Option<usize> {
        let all: u64 = self.left.iter().map(|n| u64::from(*n)).sum();
        let mut pick = self.random.below(all);
        for (kind, left) in self.left.iter_mut().enumerate() {
            if pick < (*left).into() {
                *left -= 1;
                return Some(kind);
            }
            pick -= u64::from(*left);
        }
        None
    }

    fn spec(&mut self, kind: usize, stamp: Stamp) -> Spec {
        let (plan, random) = (self.plan, &mut self.random);
        let path = Path {
            ipv6: random.chance(plan.ipv6_percent),
            lan: host(random.below(self.choice.lan)),
            wan: host(random.below(self.choice.wan)),
            sport: port(1024, stamp.0 % 64_000),
            dport: port(1000, stamp.0 % 4096),
        };
        let proto = [Proto::Tcp, Proto::Udp, path.echo()][kind];
        let (request, response) = if proto == Proto::Tcp {
            (random.size(&plan.request_bytes), random.size(&plan.response_bytes))
        } else {
            (random.size(&plan.datagram_bytes), random.size(&plan.datagram_bytes))
        };
        Spec {
            stamp,
            proto,
            path,
            request: request.max(16),
            response,
            exchanges: random.size(&plan.exchanges).max(1),
            answered: !random.chance(plan.unanswered_percent),
            pause_ms: random.even(&plan.pause_ms),
            server_closes: random.chance(50),
        }
    }

    fn other_lan(&mut self, lan: u8) -> u8 {
        let step = 1 + self.random.below(self.choice.lan - 1);
        host((u64::from(lan) + step) % self.choice.lan)
    }
}

/// Ports of WAN hosts that only a clashing pair uses.
fn clash_port(Stamp(n): Stamp) -> u16 {
    port(30_000, n % 30_000)
}

#[expect(clippy::cast_possible_truncation, reason = "callers keep the sum below 65,536")]
const fn port(base: u16, offset: u64) -> u16 {
    base + offset as u16
}

#[expect(clippy::cast_possible_truncation, reason = "at most 250 hosts")]
const fn host(index: u64) -> u8 {
    index as u8
}

impl Choice {
    pub(super) fn of(hosts: &super::Hosts) -> Self {
        Self { lan: hosts.count(Side::Lan) as u64, wan: hosts.count(Side::Wan) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Choice, Plan, Random, Spec, Specs, Stamp};
    use crate::lab::Proto;

    fn specs(plan: &Plan) -> Vec<Spec> {
        let mut stamp = 0;
        let mut specs = Specs::new(plan, Choice { lan: 8, wan: 4 });
        let next = || {
            specs.next(|| {
                stamp += 1;
                Stamp(stamp)
            })
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn one_seed_one_plan() {
        let (one, same, other) = (Plan::of(500, 7), Plan::of(500, 7), Plan::of(500, 8));
        assert_eq!(specs(&one), specs(&same));
        assert_ne!(specs(&one), specs(&other));
    }

    #[test]
    fn a_plan_has_the_flows_it_says() {
        let plan = Plan::of(10_001, 3);
        let specs = specs(&plan);
        let count = |is: fn(Proto) -> bool| specs.iter().filter(|s| is(s.proto)).count();
        assert_eq!(specs.len(), 10_001);
        assert_eq!(count(|p| p == Proto::Tcp), plan.tcp_flows as usize);
        assert_eq!(count(|p| p == Proto::Udp), plan.udp_flows as usize);
        assert_eq!(count(Proto::is_icmp), plan.icmp_flows as usize);
    }

    #[test]
    fn sizes_stay_in_their_ranges_and_fill_them() {
        let plan = Plan { pause_ms: 5..=9, ..Plan::of(20_000, 5) };
        let specs = specs(&plan);
        for spec in &specs {
            let requests =
                if spec.proto == Proto::Tcp { &plan.request_bytes } else { &plan.datagram_bytes };
            assert!(requests.contains(&spec.request) && spec.request >= 16, "{spec:?}");
            assert!(plan.exchanges.contains(&spec.exchanges) && (5..=9).contains(&spec.pause_ms));
            assert!(spec.proto != Proto::Tcp || plan.response_bytes.contains(&spec.response));
        }
        let tcp = || specs.iter().filter(|s| s.proto == Proto::Tcp);
        assert!(tcp().any(|s| s.response < 10) && tcp().any(|s| s.response > 50_000));
        assert_eq!(HashSet::<u32>::from_iter(specs.iter().map(|s| s.pause_ms)).len(), 5);
    }

    /// No two flows share a tuple on the LAN side; those that would share one on the WAN side if
    /// the router kept their port are the clashing pairs, and nobody else uses their WAN port.
    #[test]
    fn tuples_are_unique_but_for_clashing_pairs() {
        let plan = Plan { icmp_flows: 1_000, ..Plan::of(200_000, 9) };
        let specs = specs(&plan);
        let tuples: HashSet<_> = specs.iter().map(|s| s.path.tuple(s.proto)).collect();
        assert_eq!(tuples.len(), specs.len());
        let mut outside = HashSet::new();
        let clashing: Vec<&Spec> = specs
            .iter()
            .filter(|s| !s.proto.is_icmp() && !s.path.ipv6)
            .filter(|s| !outside.insert((s.proto, s.path.wan, s.path.sport, s.path.dport)))
            .collect();
        assert!(clashing.len() > 1_000, "{}", clashing.len());
        assert!(clashing.iter().all(|s| s.path.dport >= 30_000));
    }

    #[test]
    fn random_numbers_stay_below_their_end() {
        let mut random = Random::new(1);
        for end in [1, 2, 7, 1 << 40] {
            assert!((0..1_000).all(|_| random.below(end) < end));
        }
        assert_eq!(random.below(0), 0);
        assert!((0..1_000).all(|_| !random.chance(0) && random.chance(100)));
        assert!((0..1_000).all(|_| random.size(&(u32::MAX..=u32::MAX)) == u32::MAX));
    }
}
