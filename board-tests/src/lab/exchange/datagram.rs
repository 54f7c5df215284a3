//! UDP datagrams and ICMP echoes: one at a time, each answered before the next, or never answered.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{icmp, udp};

use super::Step;
use crate::lab::host::{Host, icmp_socket, udp_socket};
use crate::lab::hosts::Hosts;
use crate::lab::plan::Spec;
use crate::lab::steps::{bound, payload, send_datagram, send_echo};
use crate::lab::tuple::Proto;

/// Both ends of a flow of datagrams. The far end of an echo is the host's stack itself.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) client: SocketHandle,
    pub(super) server: Option<SocketHandle>,
    sent: u32,
    answers: u32,
    broken: bool,
}

impl Datagrams {
    pub(super) fn begin(spec: &Spec, hosts: &mut Hosts) -> Self {
        let udp = spec.proto == Proto::Udp;
        let server = udp.then(|| bound(hosts.wan_host(&spec.path), spec.path.dport));
        let host = hosts.lan_host(&spec.path);
        let client = if udp { bound(host, spec.path.sport) } else { Ok(host.add(icmp_socket())) };
        let broken = client.is_err() || matches!(server, Some(Err(_)));
        Self {
            client: client.unwrap_or_else(|_| host.add(udp_socket(1))),
            server: server.and_then(Result::ok),
            sent: 0,
            answers: 0,
            broken,
        }
    }

    pub(super) fn step(&mut self, spec: &Spec, hosts: &mut Hosts) -> Step {
        let mut moved = self.answer(spec, hosts.wan_host(&spec.path));
        moved |= self.take_answers(spec, hosts.lan_host(&spec.path));
        let unanswered = spec.proto == Proto::Udp && !spec.answered;
        let arrived = if unanswered { arrived(spec, hosts) } else { self.answers };
        if self.broken {
            return Step::Broken;
        }
        if arrived == spec.exchanges && self.all_sent(spec, hosts) {
            return Step::Done;
        }
        if arrived == self.sent && self.sent < spec.exchanges {
            moved = true;
            self.send(spec, hosts.lan_host(&spec.path));
        }
        if moved { Step::Moved } else { Step::Idle }
    }

    /// Whether the far end has nothing to say any more, for this flow or one that shares it.
    fn all_sent(&self, spec: &Spec, hosts: &mut Hosts) -> bool {
        let host = hosts.wan_host(&spec.path);
        self.server.is_none_or(|handle| host.peek::<udp::Socket<'_>>(handle).send_queue() == 0)
    }

    fn send(&mut self, spec: &Spec, host: &mut Host) {
        let bytes = spec.request as usize;
        let sent = if spec.proto == Proto::Udp {
            let to = spec.path.tuple(Proto::Udp).dst;
            send_datagram(host, self.client, spec.stamp, bytes, to)
        } else {
            let seq_no = u16::try_from(self.sent).unwrap_or(u16::MAX);
            send_echo(host, self.client, &spec.path, seq_no, &payload(spec.stamp, bytes))
        };
        self.broken |= sent.is_err();
        self.sent += 1;
    }

    fn take_answers(&mut self, spec: &Spec, host: &mut Host) -> bool {
        let before = self.answers;
        if spec.proto == Proto::Udp {
            if !host.peek::<udp::Socket<'_>>(self.client).can_recv() {
                return false;
            }
            let socket = host.socket::<udp::Socket<'_>>(self.client);
            while socket.recv().is_ok() {
                self.answers += 1;
            }
        } else {
            if !host.peek::<icmp::Socket<'_>>(self.client).can_recv() {
                return false;
            }
            let socket = host.socket::<icmp::Socket<'_>>(self.client);
            while socket.recv().is_ok() {
                self.answers += 1;
            }
        }
        self.answers > before
    }

    /// Answers each datagram that arrived at the far end.
    fn answer(&mut self, spec: &Spec, host: &mut Host) -> bool {
        let Some(handle) = self.server else { return false };
        if !host.peek::<udp::Socket<'_>>(handle).can_recv() {
            return false;
        }
        let socket = host.socket::<udp::Socket<'_>>(handle);
        let answer = vec![0x33; spec.response as usize];
        while let Ok((_, from)) = socket.recv() {
            if spec.answered {
                self.broken |= socket.send_slice(&answer, from.endpoint).is_err();
            }
        }
        true
    }
}

/// Datagrams of the flow that reached the far host.
fn arrived(spec: &Spec, hosts: &mut Hosts) -> u32 {
    let account = hosts.wan_host(&spec.path).account();
    let seen = account.stamped(spec.stamp.0).map(|tuple| account.get(&tuple).received.packets);
    seen.map_or(0, |packets| u32::try_from(packets).unwrap_or(u32::MAX))
}
