//! The router's firewall, written straight through nfnetlink: no `nft`, no library.
//!
//! Decides what the router does: masquerade of IPv4 that leaves by the WAN, plain forwarding of
//! IPv6, and connection tracking of both (a NAT chain of the `inet` family turns it on for both).
//! Limits: one table, no sets. Source: `linux/netfilter/nf_tables.h`, nfnetlink batches.

use nix::sys::socket::SockProtocol;

use crate::error::LabError;
use crate::netlink::{CREATE, Netlink, PLAIN, Request};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// `NLM_F_APPEND`
const APPEND: u16 = 0x800;
/// `NFPROTO_INET`
const INET: u8 = 1;
const TABLE: &str = "lab";
const CHAIN: &str = "postrouting";
const REGISTER: u32 = 1;

/// Loads the ruleset into the namespace of the calling thread; `wan` is the outer interface.
///
/// # Errors
/// When the kernel refuses, or lacks `nf_tables`.
pub fn masquerade(wan: &str) -> Result<(), LabError> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter, 0)?;
    let mut batch = Request::default();
    batch.message(BATCH_BEGIN, PLAIN, &header(0, SUBSYSTEM));
    batch.message(NEW_TABLE, CREATE, &header(INET, 0)).text(1, TABLE);
    batch.message(NEW_CHAIN, CREATE, &header(INET, 0)).text(1, TABLE).text(3, CHAIN);
    batch.text(7, "nat").nest(4, |hook| {
        let (postrouting, priority) = (4_u32, 100_u32);
        hook.attr(1, &postrouting.to_be_bytes()).attr(2, &priority.to_be_bytes());
    });
    let flags = CREATE & !0x200 | APPEND;
    batch.message(NEW_RULE, flags, &header(INET, 0)).text(1, TABLE).text(2, CHAIN);
    batch.nest(4, |rule| {
        compare_meta(rule, 15, &[2]); // meta nfproto == ipv4
        compare_meta(rule, 7, &interface(wan)); // meta oifname == wan
        expression(rule, "masq", |_| {});
    });
    batch.message(BATCH_END, PLAIN, &header(0, SUBSYSTEM));
    netlink.ack(&batch, "loading the router's nftables rules").map_err(|error| {
        error.advice("the kernel needs nf_tables with nft_masq and nf_nat (modprobe nft_masq)")
    })
}

/// `struct nfgenmsg`: the family, version 0 and the resource.
#[must_use]
pub fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn interface(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

fn expression(rule: &mut Request, name: &str, data: impl FnOnce(&mut Request)) {
    rule.nest(1, |element| {
        element.text(1, name).nest(2, data);
    });
}

/// Loads the meta `key` and goes on only if it equals `value`.
fn compare_meta(rule: &mut Request, key: u32, value: &[u8]) {
    expression(rule, "meta", |meta| {
        meta.attr(2, &key.to_be_bytes()).attr(1, &REGISTER.to_be_bytes());
    });
    expression(rule, "cmp", |cmp| {
        cmp.attr(1, &REGISTER.to_be_bytes()).attr(2, &0_u32.to_be_bytes());
        cmp.nest(3, |data| {
            data.attr(1, value);
        });
    });
}
