//! The system calls that Rust cannot check, and nothing else. Source: `linux/ethtool.h`,
//! `linux/sockios.h`.
#![expect(unsafe_code, reason = "the one file of the first process that talks to the system")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const ETHTOOL_SGRO: u32 = 0x2c;
const SIOCETHTOOL: u16 = 0x8946;

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Has the kernel hand packets of the interface `name` on as they came.
pub(crate) fn no_receive_offload(name: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut value = Value { command: ETHTOOL_SGRO, data: 0 };
    // SAFETY: ifreq is plain data for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads the request and the value that it points to, which both live until
    // the call returns, and writes no more than the value.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL.into(), &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
