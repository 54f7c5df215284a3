//! A TCP connection: a stamped request, an answer, and a full close begun by either side.

use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::Step;
use crate::lab::account::Stamp;
use crate::lab::clock;
use crate::lab::host::{Host, tcp_socket};
use crate::lab::hosts::Hosts;
use crate::lab::plan::Spec;
use crate::lab::steps::{pull, push};
use crate::lab::tuple::Proto;

/// Bytes of a socket's buffers at most: what one connection may have on the wire.
const WINDOW: usize = 8 << 10;

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: SocketHandle,
    pub(super) server: SocketHandle,
    /// The server's end has shown the stamp of this flow.
    pub(super) greeted: bool,
    up_to_send: usize,
    up_to_receive: usize,
    down_to_send: usize,
    down_to_receive: usize,
    /// When the server may answer; set when it has the whole request.
    answer_at: Option<Instant>,
    broken: bool,
}

impl Connection {
    pub(super) fn begin(spec: &Spec, hosts: &mut Hosts) -> Self {
        let (up, down) = (spec.request as usize, spec.response as usize);
        let (up_buffer, down_buffer) = (up.clamp(64, WINDOW), down.clamp(64, WINDOW));
        let host = hosts.wan_host(&spec.path);
        let server = host.add(tcp_socket(up_buffer, down_buffer));
        let listening = host.socket::<Socket<'_>>(server).listen(spec.path.dport).is_ok();
        let host = hosts.lan_host(&spec.path);
        let client = host.add(tcp_socket(down_buffer, up_buffer));
        let to = spec.path.tuple(Proto::Tcp).dst;
        let connecting = host.connect(client, (to.ip(), to.port()), spec.path.sport);
        Self {
            client,
            server,
            greeted: false,
            up_to_send: up,
            up_to_receive: up,
            down_to_send: down,
            down_to_receive: down,
            answer_at: None,
            broken: !listening || !connecting,
        }
    }

    pub(super) fn step(&mut self, spec: &Spec, hosts: &mut Hosts) -> Step {
        let lan = hosts.lan_host(&spec.path);
        let client = self.client_step(spec, lan);
        let client_state = lan.peek::<Socket<'_>>(self.client).state();
        let wan = hosts.wan_host(&spec.path);
        if !self.greeted
            && let Some(stamp) = self.greet(wan)
            && stamp != spec.stamp
        {
            return Step::Belongs(stamp);
        }
        let server = self.greeted && self.server_step(spec, wan);
        let states = (client_state, wan.peek::<Socket<'_>>(self.server).state());
        match states {
            _ if self.broken => Step::Broken,
            (State::Closed | State::TimeWait, State::Closed) | (State::Closed, State::TimeWait) => {
                if self.unfinished() {
                    Step::Broken
                } else {
                    Step::Done
                }
            }
            (State::Closed, _) if self.unfinished() => Step::Broken,
            _ if client || server => Step::Moved,
            _ => Step::Idle,
        }
    }

    const fn unfinished(&self) -> bool {
        self.up_to_receive + self.down_to_receive > 0
    }

    fn client_step(&mut self, spec: &Spec, host: &mut Host) -> bool {
        let socket = host.peek::<Socket<'_>>(self.client);
        let (can_send, can_receive) = (socket.can_send(), socket.can_recv());
        let mut moved = false;
        if can_send && self.up_to_send == spec.request as usize {
            let stamp = spec.stamp.bytes();
            let sent = host.socket::<Socket<'_>>(self.client).send_slice(&stamp);
            self.broken |= sent != Ok(Stamp::LEN);
            self.up_to_send -= Stamp::LEN;
            moved = true;
        }
        if can_send && self.up_to_send > 0 {
            self.up_to_send -= push(host, self.client, self.up_to_send);
            moved = true;
        }
        if can_receive {
            let taken = pull(host, self.client);
            self.broken |= taken > self.down_to_receive;
            self.down_to_receive = self.down_to_receive.saturating_sub(taken);
            moved = true;
        }
        let finished = self.up_to_send == 0 && self.down_to_receive == 0;
        let when = if spec.server_closes { State::CloseWait } else { State::Established };
        moved | (finished && close(host, self.client, when))
    }

    /// Reads the stamp at the head of the request once it is there.
    fn greet(&mut self, host: &mut Host) -> Option<Stamp> {
        if host.peek::<Socket<'_>>(self.server).recv_queue() < Stamp::LEN {
            return None;
        }
        let mut head = [0; Stamp::LEN];
        let read = host.socket::<Socket<'_>>(self.server).peek_slice(&mut head);
        let stamp = read.ok().and_then(|_| Stamp::read(&head));
        self.greeted = stamp.is_some();
        self.broken |= stamp.is_none();
        stamp
    }

    fn server_step(&mut self, spec: &Spec, host: &mut Host) -> bool {
        let socket = host.peek::<Socket<'_>>(self.server);
        let (can_send, can_receive) = (socket.can_send(), socket.can_recv());
        let mut moved = false;
        if can_receive {
            let taken = pull(host, self.server);
            self.broken |= taken > self.up_to_receive;
            self.up_to_receive = self.up_to_receive.saturating_sub(taken);
            moved = true;
        }
        if can_send && self.down_to_send > 0 && self.may_answer(spec) {
            self.down_to_send -= push(host, self.server, self.down_to_send);
            moved = true;
        }
        let finished = self.up_to_receive == 0 && self.down_to_send == 0;
        let when = if spec.server_closes { State::Established } else { State::CloseWait };
        moved | (finished && close(host, self.server, when))
    }
}

impl Connection {
    /// Whether the request is complete and the server has thought long enough.
    fn may_answer(&mut self, spec: &Spec) -> bool {
        if self.up_to_receive > 0 || spec.pause_ms == 0 {
            return self.up_to_receive == 0;
        }
        let pause = Duration::from_millis(spec.pause_ms.into());
        let now = clock::now();
        now >= *self.answer_at.get_or_insert(now + pause)
    }
}

/// Closes the socket if it is in state `when`.
fn close(host: &mut Host, handle: SocketHandle, when: State) -> bool {
    let due = host.peek::<Socket<'_>>(handle).state() == when;
    if due {
        host.socket::<Socket<'_>>(handle).close();
    }
    due
}
