//! Long transfers over one connection, checked byte for byte: for tests in which the router goes
//! away in the middle.
//!
//! What is sent follows from the stream's number and the place in it, so that the receiver can tell
//! any byte that is wrong, missing or there twice. Limits: one direction carries data.

use std::hash::Hasher;
use std::time::Duration;

use smoltcp::socket::tcp::{Socket, State};

use super::error::LabError;
use super::hosts::Hosts;
use super::steps::{Path, TcpFlow};
use super::topology::Side;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the WAN to the LAN.
    Down,
    /// From the LAN to the WAN.
    Up,
}

/// A transfer over an established connection.
#[derive(Debug)]
pub struct Stream {
    flow: TcpFlow,
    /// Which way its data goes.
    pub way: Way,
    number: u64,
    /// Bytes of the transfer.
    pub bytes: u64,
    sent: u64,
    received: u64,
    wrong: Option<u64>,
    hash: Hash,
}

/// How a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Data is still to come.
    Going,
    /// All bytes came, and were right.
    Finished,
    /// The connection was reset or closed before its end.
    Dead,
    /// This byte was wrong.
    Wrong(u64),
}

impl Stream {
    /// A transfer of `bytes` over `flow`; `number` decides its content.
    #[must_use]
    pub fn new(flow: TcpFlow, way: Way, bytes: u64, number: u64) -> Self {
        let hash = Hash::default();
        Self { flow, way, number, bytes, sent: 0, received: 0, wrong: None, hash }
    }

    /// Its path.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.flow.path
    }

    /// Bytes that have arrived.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// A hash (FNV-1a) of what has arrived.
    #[must_use]
    pub fn received_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The hash of the whole content, as the sender knows it.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let mut hash = Hash::default();
        (0..self.bytes).for_each(|at| hash.write_u8(content(self.number, at)));
        hash.finish()
    }

    /// Sends what fits and takes what arrived, at most up to `until` bytes in all.
    pub fn step(&mut self, hosts: &mut Hosts, until: u64) -> Standing {
        let (from, to) = match self.way {
            Way::Down => (Side::Wan, Side::Lan),
            Way::Up => (Side::Lan, Side::Wan),
        };
        let until = until.min(self.bytes);
        if self.sent < until {
            let (sent, number) = (self.sent, self.number);
            let socket: &mut Socket<'_> = hosts.end_of(&self.flow, from);
            let taken = socket.send(|room| {
                let count = usize::try_from(until - sent).unwrap_or(usize::MAX).min(room.len());
                let bytes = room.iter_mut().take(count).zip(sent..);
                bytes.for_each(|(byte, at)| *byte = content(number, at));
                (count, count)
            });
            self.sent += taken.unwrap_or(0) as u64;
        }
        let socket: &mut Socket<'_> = hosts.end_of(&self.flow, to);
        let (number, hash) = (self.number, &mut self.hash);
        let (received, wrong) = (&mut self.received, &mut self.wrong);
        while let Ok(1..) = socket.recv(|bytes| {
            for byte in &*bytes {
                if *byte != content(number, *received) {
                    wrong.get_or_insert(*received);
                }
                hash.write_u8(*byte);
                *received += 1;
            }
            (bytes.len(), bytes.len())
        }) {}
        if let Some(at) = self.wrong {
            return Standing::Wrong(at);
        }
        let states = [from, to].map(|side| hosts.end_of(&self.flow, side).state());
        match states {
            _ if self.received == self.bytes => Standing::Finished,
            [State::Established, State::Established] => Standing::Going,
            _ => Standing::Dead,
        }
    }

    /// Gives the connection back.
    #[must_use]
    pub fn into_flow(self) -> TcpFlow {
        self.flow
    }
}

/// Transfers that stand still for so long are given up: more than the longest wait of a stack that
/// was not heard for a while.
const PATIENCE: Duration = Duration::from_secs(30);

impl Hosts {
    /// Establishes connections, one after the other, and makes transfers of them.
    ///
    /// # Errors
    /// When one cannot be established.
    pub fn streams(&mut self, wanted: &[(Path, Way, u64)]) -> Result<Vec<Stream>, LabError> {
        let numbered = wanted.iter().zip(1..);
        numbered
            .map(|(&(path, way, bytes), number)| {
                Ok(Stream::new(self.open_tcp(path)?, way, bytes, number))
            })
            .collect()
    }

    /// Drives transfers until each has `share` of a hundred of its bytes, or is over; false if
    /// nothing moved any more.
    pub fn drive_streams(&mut self, streams: &mut [Stream], share: u64) -> bool {
        self.drive_until(PATIENCE, |hosts| {
            streams.iter_mut().fold(true, |all, stream| {
                let until = stream.bytes * share / 100;
                let going = stream.step(hosts, until) == Standing::Going;
                all & (!going || stream.received() >= until)
            })
        })
    }

    /// How each transfer stands.
    pub fn standings(&mut self, streams: &mut [Stream]) -> Vec<Standing> {
        streams.iter_mut().map(|stream| stream.step(self, stream.bytes)).collect()
    }

    /// Has one end of a connection say something.
    pub fn say(&mut self, flow: &TcpFlow, side: Side, text: &[u8]) {
        // What does not fit is not said, and not heard: the test that waits for it fails.
        let _ = self.end_of(flow, side).send_slice(text);
    }

    /// What one end of a connection has heard since the last call.
    pub fn hear(&mut self, flow: &TcpFlow, side: Side) -> Vec<u8> {
        let mut heard = Vec::new();
        let socket: &mut Socket<'_> = self.end_of(flow, side);
        while let Ok(1..) = socket.recv(|bytes| {
            heard.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        }) {}
        heard
    }
}

/// `count` transfers between the lab's hosts, up and down, IPv4 and IPv6 in turn.
#[must_use]
pub fn mixed(count: u16, bytes: u64) -> Vec<(Path, Way, u64)> {
    (0..count)
        .map(|n| {
            let [lan, wan] = [n % 10, n / 10 % 4].map(|host| u8::try_from(host).unwrap_or(0));
            let path = Path { ipv6: n % 2 == 1, lan, wan, sport: 20_000 + n, dport: 8_000 + n };
            (path, if n % 4 < 2 { Way::Down } else { Way::Up }, bytes)
        })
        .collect()
}

/// The byte at `at` of stream `number`.
fn content(number: u64, at: u64) -> u8 {
    let mixed = (at ^ number << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

/// FNV-1a, 64 bits.
#[derive(Debug)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Hash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
