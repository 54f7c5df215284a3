//! The router: a network namespace with two interfaces, forwarding, masquerade and conntrack.
//!
//! The handle looks at the kernel's side (table, statistics, sysctls) and starts programs inside.
//! What the daemon under test sets by itself (events, accounting, timestamps) is left alone unless
//! a test asks. Limits: `nf_conntrack_max` is one number for the machine and cannot be set here.

use std::process::Command;

use super::ctnetlink::{self, Entry, Kind, Listener, Requests};
use super::error::{Context, LabError};
use super::link::{LinkStats, Links};
use super::netns::Netns;
use super::process::Guarded;
use super::topology::Side;

/// The router of a lab.
#[derive(Debug)]
pub struct Router {
    pub(super) netns: Netns,
    links: Links,
    requests: Requests,
}

impl Router {
    pub(super) fn new(netns: Netns, links: Links) -> Result<Self, LabError> {
        let requests = Requests::open(&netns)?;
        Ok(Self { netns, links, requests })
    }

    /// Its namespace, to open sockets or run code in.
    #[must_use]
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Starts `command` in the router's namespace. It ends with the guard, and with the thread
    /// that started it, whichever comes first.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Guarded, LabError> {
        Guarded::spawn(command, &self.netns)
    }

    /// Entries that the kernel counts (`nf_conntrack_count`): live and dying.
    ///
    /// # Errors
    /// When conntrack is not there.
    pub fn count(&self) -> Result<u64, LabError> {
        let text = self.netns.sysctl("net.netfilter.nf_conntrack_count")?;
        text.parse().map_err(std::io::Error::other).context("reading nf_conntrack_count")
    }

    /// Removes every flow, each with a destroy event.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flush(&mut self) -> Result<(), LabError> {
        self.requests.flush()
    }

    /// The kernel's table. As a side effect the kernel removes flows that have timed out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn dump(&mut self) -> Result<Vec<Entry>, LabError> {
        self.requests.dump()
    }

    /// Packets that conntrack saw but assigned to no flow, since the router was made.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn invalid(&mut self) -> Result<u64, LabError> {
        self.requests.invalid()
    }

    /// A listener to the router's own events of these kinds, from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen(&self, kinds: &[Kind]) -> Result<Listener, LabError> {
        ctnetlink::listen(&self.netns, kinds)
    }

    /// Counters of the router's interface on `side`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn link_stats(&mut self, side: Side) -> Result<LinkStats, LabError> {
        Ok(self.links.get(side.interface())?.1)
    }

    /// Sets the sysctl `key` of the router (`net.netfilter.nf_conntrack_udp_timeout`).
    ///
    /// # Errors
    /// When there is no such key or the value is refused.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        self.netns.set_sysctl(key, value)
    }

    /// The sysctl `key` of the router.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn sysctl(&self, key: &str) -> Result<String, LabError> {
        self.netns.sysctl(key)
    }

    /// Turns accounting, timestamps and events on, as a daemon would.
    ///
    /// # Errors
    /// When the kernel has no such setting.
    pub fn account(&self) -> Result<(), LabError> {
        ["acct", "timestamp", "events"]
            .iter()
            .try_for_each(|key| self.set_sysctl(&format!("net.netfilter.nf_conntrack_{key}"), "1"))
    }

    /// Sets every timeout of finished or unanswered flows to `seconds`, so that flows end soon.
    ///
    /// # Errors
    /// When the kernel has no such setting.
    pub fn short_timeouts(&self, seconds: u32) -> Result<(), LabError> {
        let tcp = ["close", "close_wait", "fin_wait", "last_ack", "time_wait"];
        let keys = tcp
            .iter()
            .map(|state| format!("tcp_timeout_{state}"))
            .chain(["udp", "udp_stream", "icmp", "icmpv6"].map(|p| format!("{p}_timeout")));
        for key in keys.map(|key| key.replace("udp_stream_timeout", "udp_timeout_stream")) {
            self.set_sysctl(&format!("net.netfilter.nf_conntrack_{key}"), &seconds.to_string())?;
        }
        Ok(())
    }
}
