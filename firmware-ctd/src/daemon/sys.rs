//! The one file with `unsafe`: system calls that neither std nor nix give in a form that
//! allocates nothing, the memory mapping, and the counting allocator.

#![expect(unsafe_code, reason = "the only file that may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use nix::sys::mman::{MapFlags, ProtFlags};

use crate::words::settle;

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
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new private mapping at a place of the kernel's choice overlaps nothing.
    let start = unsafe { nix::sys::mman::mmap_anonymous(None, bytes(words)?, protection, flags) }?;
    // SAFETY: the mapping is page aligned, zeroed (any u32 is valid), of this length, referred to
    // by nobody else, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast::<u32>(), words) })
}

/// So many words in bytes; not 0.
fn bytes(words: usize) -> io::Result<std::num::NonZeroUsize> {
    let bytes = words.checked_mul(size_of::<u32>()).and_then(std::num::NonZeroUsize::new);
    bytes.ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Memory that a process shares with its children, and by a file with those after it.
///
/// Its first [`Mapping::SHARED`] words are for all at once, as atomics. The others belong to one
/// process at a time: to a worker while it lives.
#[derive(Debug)]
pub struct Mapping {
    start: std::ptr::NonNull<u32>,
    words: usize,
}

impl Mapping {
    /// Words at the beginning that all processes use at once.
    pub const SHARED: usize = 64;

    /// Maps a file of at least so many words, or, without one, memory of no file.
    ///
    /// # Errors
    ///
    /// What mmap(2) says, or `OutOfMemory` if the size cannot be addressed.
    pub fn new(file: Option<&File>, words: usize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let (flags, size) = (MapFlags::MAP_SHARED, bytes(words.max(Self::SHARED + 1))?);
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing.
        let start = unsafe {
            match file {
                Some(file) => nix::sys::mman::mmap(None, size, protection, flags, file, 0),
                None => nix::sys::mman::mmap_anonymous(None, size, protection, flags),
            }
        }?;
        Ok(Self { start: start.cast(), words: words.max(Self::SHARED + 1) })
    }

    /// The words for all processes.
    #[must_use]
    pub fn shared(&self) -> &'static [AtomicU32; Self::SHARED] {
        // SAFETY: the words are mapped as long as the program runs, aligned, and used as nothing
        // but atomics by every process.
        unsafe { &*self.start.as_ptr().cast() }
    }

    /// The other words, for a worker: it is the only process that uses them while it lives.
    #[must_use]
    pub fn own(self) -> &'static mut [u32] {
        // SAFETY: within the mapping, which is never unmapped; any u32 is valid. A worker calls it
        // once, on its copy of the one `Mapping`, and the supervisor never does.
        unsafe {
            let start = self.start.as_ptr().add(Self::SHARED);
            std::slice::from_raw_parts_mut(start, self.words - Self::SHARED)
        }
    }
}

/// Locks a file against other daemons, until every process that has it open is gone.
///
/// # Errors
///
/// `WouldBlock` if another daemon has it.
pub fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: flock touches no memory.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which of two processes one is after [`fork`].
#[derive(Debug)]
pub enum Fork {
    /// The one that called; the other's id.
    Parent(nix::unistd::Pid),
    /// The new one.
    Child,
}

/// Makes a second process of this one. It is killed when the first one dies.
///
/// # Errors
/// What fork(2) says.
pub fn fork() -> io::Result<Fork> {
    let parent = nix::unistd::getpid();
    // SAFETY: the program has one thread, so the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        nix::unistd::ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                // It died before it could be said.
                std::process::abort();
            }
            Ok(Fork::Child)
        }
    }
}

/// What the C library calls an error of the system; no words where it does not know it.
pub fn error_words(errno: i32, room: &mut [u8; 128]) -> &str {
    // SAFETY: the library writes at most so many bytes, which are ours.
    unsafe { libc::strerror_r(errno, room.as_mut_ptr().cast(), room.len()) };
    let text = std::ffi::CStr::from_bytes_until_nul(room).unwrap_or_default();
    text.to_str().unwrap_or_default()
}

/// Whether the kernel has been told that its wall clock is right (`STA_UNSYNC` of adjtimex(2)).
///
/// The C library's call makes wide times of narrow ones on 32-bit machines, which takes 1.6 KB.
#[must_use]
pub fn clock_is_synchronised() -> bool {
    // `status` comes after `modes` and four times.
    const STATUS: usize = 5;
    timex().is_some_and(|timex| {
        let [a, b, c, d, ..] = timex[STATUS].to_ne_bytes();
        i32::from_ne_bytes([a, b, c, d]) & libc::STA_UNSYNC == 0
    })
}

/// The kernel's `struct timex`, each of its first fields in a word.
fn timex() -> Option<[libc::c_long; 64]> {
    let mut timex = [0; 64];
    // SAFETY: all zero asks for nothing to be changed; the kernel fills less than it has room for.
    let state = unsafe { libc::syscall(libc::SYS_adjtimex, timex.as_mut_ptr()) };
    (state >= 0).then_some(timex)
}

/// Standard output, without the buffer and the lock that std puts around it.
#[must_use]
pub fn standard_output() -> BorrowedFd<'static> {
    // SAFETY: nothing in this program closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) }
}

/// Fills `bytes` with random ones without waiting until the kernel has enough of them.
///
/// # Errors
/// `EINVAL` before Linux 5.6.
pub fn random_at_once(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel writes at most so many bytes, which are ours.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_INSECURE) };
    let filled = usize::try_from(got) == Ok(bytes.len());
    if filled { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor of this process but the standard ones and one more: those that it has of
/// its parent would keep what the parent closes.
pub fn close_all_but(kept: BorrowedFd<'_>) {
    for descriptor in 3..1024 {
        if descriptor != kept.as_raw_fd() {
            // SAFETY: nothing in this process uses them any more, which is the caller's promise.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Ends this process at once: nothing is dropped, no buffer is flushed.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: it touches no memory.
    unsafe { libc::_exit(code) }
}

/// A socket's option: the whole words that the kernel wrote of it.
///
/// # Errors
/// What getsockopt(2) says.
pub fn socket_option<'v>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &'v mut [u32],
) -> io::Result<&'v [u32]> {
    let mut len = libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    let result = unsafe {
        let value = value.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.get(..len as usize / size_of::<u32>()).unwrap_or_default())
}

/// Bytes of a TCP connection that its peer has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
///
/// What ioctl(2) says.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// Room for many datagrams, received by one system call.
///
/// It may lie in memory that outlives the process. The kernel writes how long a datagram is after
/// the datagram itself, so those that a killed process had received are found again
/// ([`Batch::adopt`]).
pub struct Batch {
    size: usize,
    number: &'static mut u32,
    headers: &'static mut [libc::mmsghdr],
    /// What the headers point to.
    _vectors: &'static mut [libc::iovec],
    senders: &'static mut [libc::sockaddr_nl],
    buffer: &'static mut [u8],
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
    /// Netlink port of the sender: 0 is the kernel, or who passes on what it said.
    pub port: u32,
    /// It was longer than its room.
    pub truncated: bool,
}

impl Batch {
    /// Words that room for `count` datagrams of `size` bytes takes, to be aligned to 16 bytes.
    #[must_use]
    pub const fn words(count: usize, size: usize) -> usize {
        (16 + count * (PER_DATAGRAM + size)).div_ceil(16) * 4
    }

    /// Room for `count` datagrams of `size` bytes, in memory of its own, for as long as the program
    /// runs.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(count: usize, size: usize) -> io::Result<Self> {
        Ok(Self::adopt(map_words(Self::words(count, size))?, count, size))
    }

    /// Room in this memory, with what a process before this one received there last. Zeroed memory
    /// holds nothing.
    ///
    /// # Panics
    ///
    /// If the memory is not of [`Self::words`] words, or not aligned to 16 bytes.
    #[must_use]
    pub fn adopt(memory: &'static mut [u32], count: usize, size: usize) -> Self {
        assert!(memory.len() >= Self::words(count, size) && memory.as_ptr().addr() % 16 == 0);
        let start = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: the parts follow one another within the memory, which is long enough and aligned
        // for all of them (16 bytes; the sizes of the structures are multiples of their own
        // alignments, and headers come first); any bytes are valid values of these C structures,
        // whose pointers are set before they are used. The memory is nobody else's.
        let (number, headers, vectors, senders, buffer) = unsafe {
            let headers = start.add(16);
            let vectors = headers.add(count * size_of::<libc::mmsghdr>());
            let senders = vectors.add(count * size_of::<libc::iovec>());
            let buffer = senders.add(count * size_of::<libc::sockaddr_nl>());
            (
                &mut *start.cast::<u32>(),
                std::slice::from_raw_parts_mut(headers.cast::<libc::mmsghdr>(), count),
                std::slice::from_raw_parts_mut(vectors.cast::<libc::iovec>(), count),
                std::slice::from_raw_parts_mut(senders.cast::<libc::sockaddr_nl>(), count),
                std::slice::from_raw_parts_mut(buffer, count * size),
            )
        };
        let chunks = buffer.chunks_exact_mut(size);
        for ((header, (vector, sender)), chunk) in
            headers.iter_mut().zip(vectors.iter_mut().zip(senders.iter_mut())).zip(chunks)
        {
            *vector = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: size };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
            header.msg_hdr.msg_control = std::ptr::null_mut();
            header.msg_hdr.msg_controllen = 0;
        }
        let received = headers.iter().take_while(|header| header.msg_len != 0).count();
        Self { size, number, headers, _vectors: vectors, senders, buffer, received }
    }

    /// Touches all of its memory, so that the kernel never has to find a page while it receives:
    /// a process that is killed just then would lose a datagram.
    pub fn touch(&mut self) {
        for byte in self.buffer.iter_mut().step_by(1024) {
            // SAFETY: a byte of the buffer; volatile, so that it is written although unchanged.
            unsafe { std::ptr::write_volatile(byte, std::ptr::read_volatile(byte)) };
        }
    }

    /// The number of what was received last: it grows by one with each call that may receive.
    #[must_use]
    pub fn number(&self) -> u32 {
        *self.number
    }

    /// What was received has been handled.
    pub fn clear(&mut self) {
        for header in self.headers.iter_mut().take(self.received) {
            header.msg_len = 0;
        }
        self.received = 0;
        settle();
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
        self.clear();
        if most == 0 {
            return Ok(0);
        }
        for header in self.headers.iter_mut().take(most) {
            header.msg_hdr.msg_namelen = SENDER_LEN;
        }
        *self.number = self.number.wrapping_add(1);
        settle();
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
        let parts = self.headers.iter().zip(self.senders.iter()).zip(chunks).take(self.received);
        parts.map(|((header, sender), chunk)| {
            let len = header.msg_len as usize;
            Datagram {
                bytes: chunk.get(..len).unwrap_or(chunk),
                // A sender without a name is a process of this program, at the other end of a pair.
                port: if header.msg_hdr.msg_namelen == 0 { 0 } else { sender.nl_pid },
                truncated: len > chunk.len() || header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            }
        })
    }
}

/// Bytes of a datagram's header, vector and sender.
const PER_DATAGRAM: usize =
    size_of::<libc::mmsghdr>() + size_of::<libc::iovec>() + size_of::<libc::sockaddr_nl>();

#[expect(clippy::cast_possible_truncation, reason = "twelve")]
const SENDER_LEN: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use super::timex;
    use crate::daemon::clock;
    use crate::time::NANOS_PER_SEC;

    /// Every target has another `long`, and the C library's structure is another one.
    #[test]
    fn the_kernel_puts_each_field_of_a_timex_into_a_word() {
        const TIME_S: usize = 9;
        const TICK_US: usize = 11;
        let second = || clock::now().wall.as_nanos() / NANOS_PER_SEC;
        let (before, timex, after) = (second(), timex().unwrap(), second());
        let told = u64::try_from(timex[TIME_S]).unwrap();
        assert!((before..=after).contains(&told), "{before} {told} {after}");
        // A hundredth of a second, which may be steered by a tenth of itself.
        assert!((9_000..=11_000).contains(&timex[TICK_US]), "{timex:?}");
    }
}
