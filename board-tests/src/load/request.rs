//! One flow of a load as requests.

use super::flows::Flows;
use firmware_ctd::wire::request::{self, CreateFlags};
use firmware_ctd::wire::{
    Conntrack, Full, NatRange, ProtoInfo, Protocol, Status, Tcp, TcpState, Writer,
};

pub(super) fn create(
    w: &mut Writer<'_>,
    seq: u32,
    ack: bool,
    flows: &Flows,
    n: u32,
) -> Result<(), Full> {
    let orig = flows.orig(n);
    let established = Tcp { state: Some(TcpState::ESTABLISHED), ..Tcp::default() };
    let ct = Conntrack {
        orig: Some(orig),
        reply: Some(flows.inverse(n)),
        status: Some(Status(Status::CONFIRMED | Status::ASSURED | Status::SEEN_REPLY)),
        timeout_s: Some(flows.timeout_s),
        protoinfo: match orig.proto {
            Protocol::TCP => ProtoInfo::Tcp(established),
            _ => ProtoInfo::None,
        },
        mark: (flows.mark != 0).then_some(flows.mark),
        zone: zone(flows),
        nat_src: flows.public(n).map(|(address, port)| NatRange {
            min: Some(address.into()),
            max: Some(address.into()),
            ports: Some((port, port)),
        }),
        ..Conntrack::default()
    };
    request::create(w, seq, CreateFlags { ack, exclusive: true }, &ct)
}

pub(super) fn delete(
    w: &mut Writer<'_>,
    seq: u32,
    ack: bool,
    flows: &Flows,
    n: u32,
) -> Result<(), Full> {
    request::delete(w, seq, ack, &flows.orig(n), zone(flows), None)
}

fn zone(flows: &Flows) -> Option<u16> {
    (flows.zone != 0).then_some(flows.zone)
}
