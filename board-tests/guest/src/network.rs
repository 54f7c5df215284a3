//! The firewall, then the two interfaces: what the scripts `firewall` and `network` do.

use std::fs;
use std::time::Duration;

use board_guest::error::{Context, LabError};
use board_guest::link::{Links, Mac};
use board_guest::nft;
use board_guest::topology::Side;

use crate::options::Options;
use crate::{sys, wait};

/// The router's settings, and the masquerade; no interface is up yet.
pub(crate) fn rules() -> Result<(), LabError> {
    for (key, value) in [
        // What OpenWrt has on boards of 64 MB.
        ("net/netfilter/nf_conntrack_max", "8192"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
    ] {
        set(key, value)?;
    }
    nft::masquerade(Side::Wan.interface())?;
    Links::open()?.up("lo", None)
}

/// Sets a sysctl, by its path below `/proc/sys`.
pub(crate) fn set(key: &str, value: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/sys/{key}"), value).context(&format!("setting {key} to {value}"))
}

/// Both interfaces, with their addresses and neighbours.
pub(crate) fn interfaces(options: &Options) -> Result<(), LabError> {
    let mut links = Links::open()?;
    for (side, hosts) in [(Side::Lan, options.hosts.0), (Side::Wan, options.hosts.1)] {
        let name = side.interface();
        let found = card(side.router_mac())?;
        links.rename(&found, name)?;
        // Packets are counted as they came, not merged.
        sys::no_receive_offload(name).context("switching receive offload off")?;
        links.up(name, None)?;
        let (index, _) = links.get(name)?;
        let (v4, v6) = side.gateway();
        links.address(index, v4.into(), 24)?;
        links.address(index, v6.into(), 64)?;
        for place in (0..hosts).map(|n| side.place(n)) {
            for address in place.addresses() {
                links.neighbour(index, address, place.mac)?;
            }
        }
        // It takes no IPv6 packet before.
        let state = format!("/sys/class/net/{name}/operstate");
        wait::until(&format!("{name} to be up"), Duration::from_secs(10), || {
            fs::read_to_string(&state).is_ok_and(|text| text.trim() == "up")
        })?;
    }
    Ok(())
}

/// Takes both interfaces down.
pub(crate) fn down() -> Result<(), LabError> {
    let mut links = Links::open()?;
    [Side::Wan, Side::Lan].iter().try_for_each(|side| links.down(side.interface()))
}

/// The name that the kernel gave to the card with that address.
fn card(mac: Mac) -> Result<String, LabError> {
    let wanted: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = wanted.join(":");
    let mut found = None;
    wait::until(&format!("the network card {wanted}"), Duration::from_secs(10), || {
        let cards = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        found = cards.map(|card| card.path()).find(|path| {
            fs::read_to_string(path.join("address")).is_ok_and(|text| text.trim() == wanted)
        });
        found.is_some()
    })?;
    let name = found.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}
