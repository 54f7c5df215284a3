//! The one file with `unsafe`: system calls that neither std nor nix give in a form that
//! allocates nothing, the memory mapping, and the counting allocator.

#![expect(unsafe_code, reason = "the only file that may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The allocator of the program: the system's, counted.
///
/// Counts are of machine words, since small boards have no wider atomics; they wrap.
#[derive(Debug)]
pub struct CountingAllocator;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES_HELD: AtomicUsize = AtomicUsize::new(0);

/// How many allocations and reallocations there were since the program began.
#[must_use]
pub fn allocations() -> usize {
    ALLOCATIONS.load(Relaxed)
}

/// How many bytes are allocated now.
#[must_use]
pub fn bytes_held() -> usize {
    BYTES_HELD.load(Relaxed)
}

// SAFETY: every call goes to the system's allocator with the same arguments; the counters do not
// touch memory that is handed out.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES_HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES_HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES_HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES_HELD.fetch_add(new_size.wrapping_sub(layout.size()), Relaxed);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Maps zeroed memory for as long as the program runs. Pages take room once they are touched.
///
/// # Errors
///
/// What mmap(2) says, or `OutOfMemory` if the size cannot be addressed.
pub fn map_words(words: usize) -> io::Result<&'static mut [u32]> {
    let bytes = words
        .checked_mul(size_of::<u32>())
        .and_then(std::num::NonZeroUsize::new)
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
    let flags = nix::sys::mman::MapFlags::MAP_PRIVATE | nix::sys::mman::MapFlags::MAP_NORESERVE;
    // SAFETY: a new private mapping at a place of the kernel's choice overlaps nothing.
    let start = unsafe { nix::sys::mman::mmap_anonymous(None, bytes, protection, flags) }?;
    // SAFETY: the mapping is page aligned, zeroed (any u32 is valid), of this length, referred to
    // by nobody else, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast::<u32>(), words) })
}

/// `SK_MEMINFO_*` of a socket, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Bytes in the receive queue, as the kernel counts them.
    pub receive_queued: u32,
    /// Limit of the receive queue.
    pub receive_buffer: u32,
    /// Deliveries that found no room.
    pub drops: u32,
}

/// Asks for `SO_MEMINFO` (`include/uapi/linux/sock_diag.h`).
///
/// # Errors
///
/// What getsockopt(2) says.
pub fn socket_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    const RMEM_ALLOC: usize = 0;
    const RCVBUF: usize = 1;
    const DROPS: usize = 8;
    let mut values = [0_u32; 9];
    let mut len = libc::socklen_t::try_from(size_of_val(&values)).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes to `values`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(SocketMemory {
        receive_queued: values[RMEM_ALLOC],
        receive_buffer: values[RCVBUF],
        drops: values[DROPS],
    })
}

/// Room for many datagrams, received by one system call.
pub struct Batch {
    buffer: Box<[u8]>,
    size: usize,
    headers: Box<[libc::mmsghdr]>,
    /// What the headers point to; never moves.
    _vectors: Box<[libc::iovec]>,
    senders: Box<[libc::sockaddr_nl]>,
    received: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} of {} datagrams)", self.received, self.headers.len())
    }
}

/// One datagram of a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'b> {
    /// What was received of it.
    pub bytes: &'b [u8],
    /// Netlink port of the sender: 0 is the kernel.
    pub port: u32,
    /// It was longer than its room.
    pub truncated: bool,
}

impl Batch {
    /// Room for `count` datagrams of `size` bytes.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Self {
        // SAFETY: all-zero is a valid value of these C structures.
        let (zero_header, zero_sender) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut buffer = vec![0_u8; count * size].into_boxed_slice();
        let mut senders: Box<[libc::sockaddr_nl]> = vec![zero_sender; count].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = buffer
            .chunks_exact_mut(size)
            .map(|chunk| libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: size })
            .collect();
        let mut headers: Box<[libc::mmsghdr]> = vec![zero_header; count].into_boxed_slice();
        for ((header, vector), sender) in headers.iter_mut().zip(&mut vectors).zip(&mut senders) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
        }
        Self { buffer, size, headers, _vectors: vectors, senders, received: 0 }
    }

    /// Receives what waits, without waiting; what was in the batch is gone.
    ///
    /// # Errors
    ///
    /// What recvmmsg(2) says; that nothing waits is no error.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_up_to(self.headers.len(), socket)
    }

    /// The same, but at most so many datagrams.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub fn receive_up_to(&mut self, most: usize, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        if most == 0 {
            return Ok(0);
        }
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = SENDER_LEN;
        }
        let count = libc::c_uint::try_from(most.min(self.headers.len())).unwrap_or(0);
        // SAFETY: every header points to an iovec and an address that live as long as the batch
        // and are changed by nobody else while the call lasts.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => self.received = received,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => {}
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
        Ok(self.received)
    }

    /// Whether the last call filled the batch, so that more may wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.received == self.headers.len()
    }

    /// The datagrams that were received last.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let chunks = self.buffer.chunks_exact(self.size);
        let parts = self.headers.iter().zip(&self.senders).zip(chunks).take(self.received);
        parts.map(|((header, sender), chunk)| {
            let len = header.msg_len as usize;
            Datagram {
                bytes: chunk.get(..len).unwrap_or(chunk),
                port: sender.nl_pid,
                truncated: len > chunk.len() || header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            }
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "twelve")]
const SENDER_LEN: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
