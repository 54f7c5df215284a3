//! Sockets of a collector, as the kernel lists them for the collector's own namespace.
//!
//! Reads `/proc/PID/net/{udp,tcp}`, which are of that process's namespace whoever reads them.
//! Decides nothing. Limit: IPv4 sockets. Source: `udp4_format_sock` in `net/ipv4/udp.c`,
//! `get_tcp4_sock` in `net/ipv4/tcp_ipv4.c`.

use std::fs;
use std::io;

/// A UDP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// Bytes waiting to be read, as the kernel charges them.
    pub waiting: u64,
    /// Datagrams that did not fit into the receive buffer.
    pub drops: u64,
}

/// `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// The UDP socket bound to `port`.
pub(super) fn udp(pid: i32, port: u16) -> io::Result<Option<Udp>> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/udp"))?;
    Ok(table.lines().skip(1).find_map(|line| udp_line(line, port)))
}

/// Whether a TCP socket listens on `port`.
pub(super) fn tcp_listens(pid: i32, port: u16) -> io::Result<bool> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    Ok(table.lines().skip(1).any(|line| {
        let field: Vec<&str> = line.split_whitespace().collect();
        field.get(1).is_some_and(|it| is_of(it, port)) && field.get(3) == Some(&LISTEN)
    }))
}

/// `sl local_address rem_address st tx_queue:rx_queue ... inode ref pointer drops`.
fn udp_line(line: &str, port: u16) -> Option<Udp> {
    let field: Vec<&str> = line.split_whitespace().collect();
    is_of(field.get(1)?, port).then_some(())?;
    let (_, waiting) = field.get(4)?.split_once(':')?;
    Some(Udp {
        waiting: u64::from_str_radix(waiting, 16).ok()?,
        drops: field.last()?.parse().ok()?,
    })
}

/// Whether `ADDRESS:PORT`, in hexadecimal, is of this port.
fn is_of(address: &str, port: u16) -> bool {
    let found = address.rsplit_once(':').and_then(|(_, it)| u16::from_str_radix(it, 16).ok());
    found == Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_line_is_read() {
        let line = " 2497: 0100007F:0807 00000000:0000 07 00000010:00000a00 00:00000000 00000000 \
                    0        0 117496 2 0000000068c9a7df 7";
        assert_eq!(udp_line(line, 2055), Some(Udp { waiting: 2560, drops: 7 }));
        assert_eq!(udp_line(line, 2056), None);
    }
}
