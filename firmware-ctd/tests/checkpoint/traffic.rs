//! TCP flows of 250 clients with 2,000 servers, random starts over three days, random ports, random
//! timeouts up to five days, counters of 10 to 10^6 packets with 40 to 1,500 bytes each, in both
//! directions; all of it independent, so that nothing can be guessed that a router's flows would
//! not let be guessed too.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are made here and small"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::checkpoint::SavedFlow;
use firmware_ctd::table::{Extension, L4State};
use firmware_ctd::wire::{Counters, L4, Protocol, Status, Tuple};

const DAYS_MS: u64 = 3 * 86_400_000;

/// A small generator of noise (xorshift*).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.below(64_512) + 1_024).unwrap_or(u16::MAX)
    }

    /// 10 to a million.
    fn packets(&mut self, uniform: bool) -> u64 {
        if uniform {
            return 10 + self.below(999_991);
        }
        let exponent = self.below(1 << 20) as f64 / f64::from(1 << 20) * 5.0;
        (10.0 * 10_f64.powf(exponent)) as u64
    }

    fn counters(&mut self, uniform: bool) -> Counters {
        let packets = self.packets(uniform);
        let bytes = 40 * packets + self.below(1_460 * packets);
        Counters { packets, bytes }
    }
}

/// What kind of flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) ipv6: bool,
    /// Counters are uniform, not log-uniform.
    pub(crate) uniform: bool,
    /// NAT changes ports.
    pub(crate) nat_ports: bool,
}

/// A flow.
pub(crate) fn flow(noise: &mut Noise, load: Load) -> SavedFlow {
    let (client, server) = (noise.below(250), noise.below(2_000));
    let v4 = |first: u64, n: u64| IpAddr::V4(Ipv4Addr::from_bits((first + n) as u32));
    let v6 = |first: u128, n: u64| {
        let low = u128::from(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        IpAddr::V6(Ipv6Addr::from_bits(first + low))
    };
    // Servers lie all over the world: their addresses have nothing in common.
    let scattered = (server + 1).wrapping_mul(0x9e37_79b1) & 0x7fff_ffff;
    let (src, dst) = if load.ipv6 {
        let network = u128::from((server + 1).wrapping_mul(0x9e37_79b1)) << 70;
        (v6(0x2001_0db8_0000_0001 << 64, client), v6(0x2a00 << 112 | network, server))
    } else {
        (v4(0xc0a8_0100, client), v4(0x1000_0000, scattered))
    };
    let (sport, dport) = (noise.port(), noise.port());
    let l4 = L4::Ports { src: sport, dst: dport };
    let orig = Tuple { src, dst, proto: Protocol::TCP, l4 };
    let mut reply = orig.inverse();
    if !load.ipv6 {
        reply.dst = v4(0xcb00_7101, 0);
        if load.nat_ports {
            reply.l4 = L4::Ports { src: dport, dst: noise.port() };
        }
    }
    let wscales = [0x77, 0x78, 0x97, 0x67][noise.below(4) as usize];
    SavedFlow {
        orig,
        reply,
        zone: 0,
        zone_orig_only: false,
        status: Status(if load.ipv6 { 0xe } else { 0x19e }),
        mark: 0,
        timeout_s: Some(noise.below(432_000) as u32),
        l4_state: Some(L4State { state: 3, wscales, flags_orig: 0x23, flags_reply: 0x23 }),
        counters: Some([noise.counters(load.uniform), noise.counters(load.uniform)]),
        inexact: false,
        start_ms: Some(1_795_000_000_000 + noise.below(DAYS_MS)),
        rare: Extension::default(),
    }
}
