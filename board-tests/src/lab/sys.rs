//! The system calls of the lab that Rust cannot check, and nothing else.
//!
//! Decides nothing: each function is one call (or one memory mapping) with a safe face. Limits:
//! Linux only. Source: packet(7), namespaces(7), `Documentation/networking/packet_mmap.rst` and
//! `Documentation/networking/tuntap.rst`.
#![expect(unsafe_code, reason = "the one file of the lab that talks to the system")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[expect(clippy::cast_possible_truncation, reason = "structs of a few bytes")]
const fn len_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Makes `command` start in the network namespace behind `netns` and end with the thread that
/// starts it (`PR_SET_PDEATHSIG`).
///
/// The descriptor must stay open until the command was spawned.
pub(super) fn start_in(command: &mut Command, netns: RawFd) {
    let hook = move || {
        // SAFETY: setns, prctl and getppid are async-signal-safe system calls without pointers.
        unsafe {
            check(libc::setns(netns, libc::CLONE_NEWNET))?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        }
        Ok(())
    };
    // SAFETY: the hook runs between fork and exec and does nothing but the two calls above.
    unsafe {
        command.pre_exec(hook);
    }
}

/// Has `command` start with the file `boot_id` in the place of `/proc/sys/kernel/random/boot_id`,
/// for it and its children alone.
pub(super) fn boot_as(command: &mut Command, boot_id: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let from = CString::new(boot_id.as_os_str().as_bytes())?;
    let hook = move || {
        let (none, root) = (ptr::null(), c"/".as_ptr());
        let to = c"/proc/sys/kernel/random/boot_id".as_ptr();
        // SAFETY: unshare and mount are system calls that read the strings given, which live.
        unsafe {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none, root, none, flags, none.cast()))?;
            check(libc::mount(from.as_ptr(), to, none, libc::MS_BIND, none.cast()))?;
        }
        Ok(())
    };
    // SAFETY: the hook runs between fork and exec and does nothing but the calls above.
    unsafe {
        command.pre_exec(hook);
    }
    Ok(())
}

fn set_option<T>(fd: RawFd, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a live object of the size given; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(fd, libc::SOL_PACKET, name, ptr::from_ref(value).cast(), len_of::<T>())
    })
    .map(drop)
}

/// Opens `/dev/net/tun` as the TAP interface `name` of the calling thread's namespace, without
/// packet information headers, non-blocking.
pub(super) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let path = CString::from(c"/dev/net/tun");
    // SAFETY: the path is a NUL-terminated string; the result is checked before use.
    let fd = check(unsafe {
        libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC)
    })?;
    // SAFETY: `fd` was just opened and is owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut request = request_of(name);
    #[expect(clippy::cast_possible_truncation, reason = "0x1002 fits")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    }
    // SAFETY: TUNSETIFF reads one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw const request) })?;
    Ok(fd)
}

/// Has the kernel fill in the checksums of what leaves by the interface `name` of the calling
/// thread's namespace, instead of leaving that to the hardware (`ETHTOOL_STXCSUM`).
pub(super) fn fill_checksums(name: &str) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL_STXCSUM: u32 = 0x17;
    // SAFETY: no pointers are passed.
    let fd =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` was just opened and is owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut off = Value { command: ETHTOOL_STXCSUM, data: 0 };
    let mut request = request_of(name);
    request.ifr_ifru.ifru_data = (&raw mut off).cast();
    // SAFETY: SIOCETHTOOL reads one ifreq and the value that it points to; both live until then.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) }).map(drop)
}

/// A request about the interface `name`.
fn request_of(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

/// Makes a netlink socket reliable: the kernel keeps and repeats a destroy that found no room
/// (`NETLINK_BROADCAST_ERROR`), and the socket itself does not report the overrun
/// (`NETLINK_NO_ENOBUFS`).
pub(super) fn make_reliable(fd: RawFd) -> io::Result<()> {
    for option in [libc::NETLINK_BROADCAST_ERROR, libc::NETLINK_NO_ENOBUFS] {
        let on = 1_i32;
        // SAFETY: the kernel reads one int, which lives until the call returns.
        check(unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                len_of::<libc::c_int>(),
            )
        })?;
    }
    Ok(())
}

const FRAME: usize = 2048;
const BLOCK: usize = 1 << 20;

/// A packet socket on one interface, with a receive ring in memory shared with the kernel.
///
/// The ring (16 MiB, 8,192 frames) is not bound by `net.core.rmem_max`, so an unprivileged lab
/// loses nothing either. It sees no frame that was sent through it.
#[derive(Debug)]
pub(super) struct PacketSocket {
    fd: OwnedFd,
    ring: *mut u8,
    frames: usize,
    at: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing of it is bound to a thread.
unsafe impl Send for PacketSocket {}

impl PacketSocket {
    /// Opens a packet socket on the interface `index` of the calling thread's namespace.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        const FRAMES: usize = 8192;
        // SAFETY: no pointers are passed. Protocol 0: nothing arrives before bind.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, raw_nonblocking(), 0) })?;
        // SAFETY: `fd` was just opened and is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = fd.as_raw_fd();
        set_option(
            raw,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as libc::c_int),
        )?;
        set_option(raw, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        // The queue of an interface is switched on only some time after its carrier, and until
        // then drops what is sent without a word: go past it.
        set_option(raw, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        let ring = map_ring(raw, FRAMES)?;
        let socket = Self { fd, ring, frames: FRAMES, at: 0 };
        bind_packet(raw, index)?;
        Ok(socket)
    }

    /// The oldest received frame that was not taken yet, copied into `into`; its length.
    ///
    /// Frames longer than 2,000 bytes cannot occur: the interfaces have an MTU of 1,500.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        // SAFETY: `at < frames`, so the frame lies inside the mapping, which is page aligned; its
        // first field is the status word that the kernel and we hand to and fro.
        let (frame, status) = unsafe {
            let frame = self.ring.add(self.at * FRAME);
            (frame, AtomicU32::from_ptr(frame.cast()))
        };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the status word says that the frame is ours until we give it back; the header
        // and `tp_snaplen` bytes at `tp_mac` lie within the frame (the kernel cuts to fit).
        let length = unsafe {
            let header = frame.cast::<libc::tpacket2_hdr>().read();
            let length = (header.tp_snaplen as usize).min(into.len());
            ptr::copy_nonoverlapping(frame.add(header.tp_mac.into()), into.as_mut_ptr(), length);
            length
        };
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at = (self.at + 1) % self.frames;
        Some(length)
    }

    /// Sends one Ethernet frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the kernel reads `frame.len()` bytes of a live slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Frames that the full ring refused since the last call.
    pub(super) fn take_drops(&self) -> io::Result<u32> {
        // SAFETY: tpacket_stats is plain data for which all zeros is valid.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = len_of::<libc::tpacket_stats>();
        // SAFETY: the kernel writes at most `length` bytes into `stats`.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        })?;
        Ok(stats.tp_drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map_ring` with this length and is not used again.
        unsafe {
            libc::munmap(self.ring.cast(), self.frames * FRAME);
        }
    }
}

const fn raw_nonblocking() -> libc::c_int {
    libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK
}

fn map_ring(fd: RawFd, frames: usize) -> io::Result<*mut u8> {
    let total = frames * FRAME;
    #[expect(clippy::cast_possible_truncation, reason = "16 MiB at most")]
    let request = libc::tpacket_req {
        tp_block_size: BLOCK as u32,
        tp_block_nr: (total / BLOCK) as u32,
        tp_frame_size: FRAME as u32,
        tp_frame_nr: frames as u32,
    };
    set_option(fd, libc::PACKET_RX_RING, &request)?;
    // SAFETY: a new shared mapping of the ring that was just set up, at an address of the
    // kernel's choice; checked before use.
    let ring = unsafe {
        libc::mmap(
            ptr::null_mut(),
            total,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    if ring == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(ring.cast()) }
}

fn bind_packet(fd: RawFd, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data for which all zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "17 and 3")]
    {
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    }
    address.sll_ifindex = i32::from_ne_bytes(index.to_ne_bytes());
    // SAFETY: the kernel reads one sockaddr_ll, which lives until the call returns.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), len_of::<libc::sockaddr_ll>()) })
        .map(drop)
}
