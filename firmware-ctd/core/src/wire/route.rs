//! The little of rtnetlink that is needed: this machine's addresses, and whether there is a default
//! route.
//!
//! Source: `struct ifaddrmsg` in `include/uapi/linux/if_addr.h`, `struct rtmsg` in
//! `include/uapi/linux/rtnetlink.h`.

use core::net::IpAddr;

use super::bytes::head;
use super::conntrack::Family;
use super::error::{Error, Full};
use super::nla::{Attribute, Attributes};
use super::nlmsg::{Header, RawMessage, Writer, flags};
use super::tuple::{v4, v6};

/// `RTM_*`
mod kind {
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const DELETE_ADDRESS: u16 = 21;
    pub(super) const GET_ADDRESS: u16 = 22;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const DELETE_ROUTE: u16 = 25;
    pub(super) const GET_ROUTE: u16 = 26;
}

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `RTN_UNICAST`
const UNICAST: u8 = 1;
/// `NLMSG_DONE`, `NLMSG_ERROR`
const DONE: u16 = 3;
const ERROR: u16 = 2;

/// The multicast groups (`RTMGRP_*`) of changes to addresses and routes of both families.
pub const GROUPS: [u32; 4] = [5, 7, 9, 11];

/// What a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An address of this machine's came or was listed (true), or went.
    Address(IpAddr, bool),
    /// A default route came or was listed (true), or went.
    Default(Family, bool),
    /// The end of what was asked for.
    Done,
    /// The kernel refused: an `errno`.
    Refused(i32),
    /// Anything else.
    Other,
}

impl Route {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is cut short, or a value has another size than its kind.
    pub fn parse(raw: &RawMessage<'_>) -> Result<Self, Error> {
        match raw.header.kind {
            kind::NEW_ADDRESS => address(raw.payload, true),
            kind::DELETE_ADDRESS => address(raw.payload, false),
            kind::NEW_ROUTE => default_route(raw.payload, true),
            kind::DELETE_ROUTE => default_route(raw.payload, false),
            DONE => Ok(Self::Done),
            ERROR => {
                let (errno, _) = head::<4>(raw.payload)?;
                Ok(Self::Refused(i32::from_ne_bytes(errno).saturating_neg()))
            }
            _ => Ok(Self::Other),
        }
    }
}

fn address(payload: &[u8], here: bool) -> Result<Route, Error> {
    let ([family, _prefix, _flags, _scope, ..], rest) = head::<8>(payload)?;
    let family = Family::from_number(family);
    // With a peer, the address is the peer's and the local one is ours.
    let (mut ours, mut any) = (None, None);
    for attribute in Attributes::new(rest) {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => ours = of_family(family, &attribute)?,
            IFA_ADDRESS => any = of_family(family, &attribute)?,
            _ => {}
        }
    }
    Ok(ours.or(any).map_or(Route::Other, |address| Route::Address(address, here)))
}

fn of_family(family: Family, attribute: &Attribute<'_>) -> Result<Option<IpAddr>, Error> {
    match family {
        Family::Ipv4 => v4(attribute).map(Some),
        Family::Ipv6 => v6(attribute).map(Some),
        Family::Unspec | Family::Other(_) => Ok(None),
    }
}

fn default_route(payload: &[u8], here: bool) -> Result<Route, Error> {
    let ([family, bits, .., kind, _, _, _, _], _) = head::<12>(payload)?;
    let is_default = bits == 0 && kind == UNICAST;
    Ok(if is_default { Route::Default(Family::from_number(family), here) } else { Route::Other })
}

/// Lists the addresses of both families.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn dump_addresses(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    // struct ifaddrmsg
    dump(w, kind::GET_ADDRESS, seq, &[0; 8])
}

/// Lists the routes of both families.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn dump_routes(w: &mut Writer<'_>, seq: u32) -> Result<(), Full> {
    // struct rtmsg
    dump(w, kind::GET_ROUTE, seq, &[0; 12])
}

fn dump(w: &mut Writer<'_>, kind: u16, seq: u32, fixed: &[u8]) -> Result<(), Full> {
    let flags = flags::REQUEST | flags::DUMP;
    w.message(Header { kind, flags, seq, ..Header::default() }, fixed, |_| Ok(()))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests {
    use super::*;
    use crate::wire::Messages;

    fn parse(kind: u16, payload: &[u8]) -> Result<Route, Error> {
        Route::parse(&RawMessage { header: Header { kind, ..Header::default() }, payload })
    }

    /// An attribute in the machine's own order.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + value.len()).unwrap();
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn the_local_address_counts_where_there_is_a_peer() {
        let head = [2, 32, 0, 0, 3, 0, 0, 0];
        let peer = attribute(IFA_ADDRESS, &[198, 51, 100, 1]);
        let ours = attribute(IFA_LOCAL, &[203, 0, 113, 7]);
        let payload = [&head[..], &peer, &ours].concat();
        let address = "203.0.113.7".parse().unwrap();
        assert_eq!(parse(20, &payload), Ok(Route::Address(address, true)));
        assert_eq!(parse(21, &payload), Ok(Route::Address(address, false)));
        assert!(parse(20, &payload[..6]).is_err());
        assert!(parse(20, &payload[..payload.len() - 1]).is_err());
    }

    #[test]
    fn ipv6_has_one_address() {
        let six: core::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
        let payload = [&[10, 64, 0, 0, 3, 0, 0, 0][..], &attribute(IFA_ADDRESS, &six.octets())];
        assert_eq!(parse(20, &payload.concat()), Ok(Route::Address(six.into(), true)));
    }

    #[test]
    fn only_unicast_routes_of_no_prefix_are_default_routes() {
        let route = |bits, kind| [2, bits, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0];
        assert_eq!(parse(24, &route(0, 1)), Ok(Route::Default(Family::Ipv4, true)));
        assert_eq!(parse(25, &route(0, 1)), Ok(Route::Default(Family::Ipv4, false)));
        assert_eq!(parse(24, &route(24, 1)), Ok(Route::Other));
        assert_eq!(parse(24, &route(0, 7)), Ok(Route::Other), "unreachable");
        assert!(parse(24, &[2, 0]).is_err());
    }

    #[test]
    fn an_error_tells_its_errno() {
        assert_eq!(parse(2, &(-1_i32).to_ne_bytes()), Ok(Route::Refused(1)));
        assert_eq!(parse(3, &[]), Ok(Route::Done));
    }

    #[test]
    fn requests_ask_for_all() {
        let mut buffer = [0; 64];
        let mut w = Writer::new(&mut buffer);
        dump_addresses(&mut w, 5).unwrap();
        let message = Messages::new(w.as_bytes()).next().unwrap().unwrap();
        assert_eq!((message.header.kind, message.header.flags), (22, 0x301));
        assert_eq!((message.header.seq, message.payload.len()), (5, 8));
        let mut w = Writer::new(&mut buffer);
        dump_routes(&mut w, 6).unwrap();
        let message = Messages::new(w.as_bytes()).next().unwrap().unwrap();
        assert_eq!((message.header.kind, message.payload.len()), (26, 12));
    }
}
