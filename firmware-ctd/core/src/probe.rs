//! Flows that the daemon makes itself, to see whether the kernel tells of them.
//!
//! They stand in a zone of their own, between addresses of the documentation ranges (RFC 5737),
//! where no real flow can be, and are never reported.

use core::net::{IpAddr, Ipv4Addr};

use crate::wire::{Conntrack, Family, L4, Protocol, Status, Tuple};

/// The zone of all probes.
pub const ZONE: u16 = 0xf1c7;
const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The original tuple of probe number `n`.
#[must_use]
pub const fn tuple(n: u16) -> Tuple {
    Tuple {
        src: IpAddr::V4(SRC),
        dst: IpAddr::V4(DST),
        proto: Protocol::UDP,
        l4: L4::Ports { src: n, dst: 9 },
    }
}

/// Probe number `n` as the kernel is asked to create it; it lives a few seconds at most.
#[must_use]
pub fn flow(n: u16) -> Conntrack<'static> {
    let orig = tuple(n);
    let l4 = L4::Ports { src: 9, dst: n };
    Conntrack {
        family: Family::Ipv4,
        orig: Some(orig),
        reply: Some(Tuple { src: orig.dst, dst: orig.src, l4, ..orig }),
        zone: Some(ZONE),
        status: Some(Status(Status::CONFIRMED)),
        timeout_s: Some(3),
        ..Conntrack::default()
    }
}

/// Whether this is a probe of ours (or of another instance of this program).
#[inline]
#[must_use]
pub fn is_probe(ct: &Conntrack<'_>) -> bool {
    ct.zone == Some(ZONE)
        && ct.orig.is_some_and(|orig| orig.src == IpAddr::V4(SRC) && orig.dst == IpAddr::V4(DST))
        && ct.counters_orig.unwrap_or_default().packets == 0
}
