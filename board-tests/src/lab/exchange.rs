//! One flow of a plan while it is under way, both ends together.

mod datagram;
mod tcp;

use super::account::Stamp;
use super::hosts::Hosts;
use super::plan::Spec;
use super::tuple::{Proto, Tuple};

/// What became of a flow's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to do.
    Idle,
    /// Something was sent or taken.
    Moved,
    /// The server's end turned out to belong to the flow with this stamp.
    Belongs(Stamp),
    /// Refused or reset.
    Broken,
    /// Over, at both ends.
    Done,
}

/// A flow under way.
#[derive(Debug)]
pub(super) struct Exchange {
    spec: Spec,
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    Tcp(tcp::Connection),
    Datagrams(datagram::Datagrams),
}

impl Exchange {
    /// Opens the sockets of `spec` and sends its first packet at the hosts' next turn.
    pub(super) fn begin(spec: Spec, hosts: &mut Hosts) -> Self {
        let ends = if spec.proto == Proto::Tcp {
            Ends::Tcp(tcp::Connection::begin(&spec, hosts))
        } else {
            Ends::Datagrams(datagram::Datagrams::begin(&spec, hosts))
        };
        Self { spec, ends }
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self, hosts: &mut Hosts) -> Step {
        match &mut self.ends {
            Ends::Tcp(connection) => connection.step(&self.spec, hosts),
            Ends::Datagrams(datagrams) => datagrams.step(&self.spec, hosts),
        }
    }

    /// Closes the sockets without a packet.
    pub(super) fn end(self, hosts: &mut Hosts) -> Spec {
        let (client, server) = match &self.ends {
            Ends::Tcp(connection) => (connection.client, Some(connection.server)),
            Ends::Datagrams(datagrams) => (datagrams.client, datagrams.server),
        };
        hosts.lan_host(&self.spec.path).remove(client);
        if let Some(server) = server {
            hosts.wan_host(&self.spec.path).remove(server);
        }
        self.spec
    }

    /// Gives each of two connections to the same server the end that is its own.
    pub(super) const fn swap_server(&mut self, other: &mut Self) {
        if let (Ends::Tcp(one), Ends::Tcp(two)) = (&mut self.ends, &mut other.ends) {
            std::mem::swap(&mut one.server, &mut two.server);
            std::mem::swap(&mut one.greeted, &mut two.greeted);
        }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        self.spec.stamp
    }

    pub(super) const fn tuple(&self) -> Tuple {
        self.spec.path.tuple(self.spec.proto)
    }
}
