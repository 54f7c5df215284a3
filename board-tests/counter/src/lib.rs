//! A plugin for QEMU that counts a MIPS board's instructions: those of programs (addresses below
//! 2 GiB, where MIPS has its user segment) and those of the kernel.
//!
//! The counts stand in a file that the emulator and whoever watches it have in their memory: two
//! 64-bit numbers in the machine's byte order, programs first. `-plugin libboard_counter.so,counts=F`,
//! where F has 16 bytes at least. A block of instructions is counted when it begins, so one that is
//! left by an exception counts whole. Limits: one processor; MIPS.
//!
//! Source: QEMU's documentation of TCG plugins, API version 1.
#![expect(unsafe_code, reason = "a plugin of a C program")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The version of the interface that this speaks.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// Names a plugin within the emulator.
type Id = u64;
/// A block of translated instructions.
type Block = c_void;

/// Adds a number when the block begins.
const INLINE_ADD_U64: c_uint = 0;
/// Where the kernel's addresses begin.
const KERNEL: u64 = 0x8000_0000;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: Id,
        translated: extern "C" fn(id: Id, block: *mut Block),
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const Block) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_inline(
        block: *mut Block,
        operation: c_uint,
        number: *mut c_void,
        by: u64,
    );
}

/// Both counts.
static COUNTS: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());

/// Called by the emulator when it loads the plugin; not 0 when the plugin cannot work.
///
/// # Safety
/// `arguments` are `count` strings, as the emulator gives them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _emulator: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the emulator gives `count` strings that live until this returns.
    let mut words = (0..count).map(|n| unsafe { CStr::from_ptr(*arguments.add(n)) });
    let file = words.find_map(|word| word.to_str().ok()?.strip_prefix("counts="));
    let Some(counts) = file.and_then(shared) else { return 1 };
    COUNTS.store(counts, Ordering::Release);
    // SAFETY: the callback lives as long as the plugin.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// The first 16 bytes of a file, as two numbers in memory.
fn shared(path: &str) -> Option<*mut u64> {
    const LENGTH: usize = 16;
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    if file.metadata().ok()?.len() < LENGTH as u64 {
        return None;
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of an open file at a place of the kernel's choice, looked at before use.
    let place = unsafe {
        libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    (place != libc::MAP_FAILED).then(|| place.cast())
}

/// Has a new block count itself.
extern "C" fn translated(_id: Id, block: *mut Block) {
    let counts = COUNTS.load(Ordering::Acquire);
    // SAFETY: the block is the emulator's and lives during this call; the counts are two numbers in
    // a mapping that is never removed.
    unsafe {
        let kernel = qemu_plugin_tb_vaddr(block) & 0xffff_ffff >= KERNEL;
        let number = counts.add(usize::from(kernel)).cast();
        let instructions = qemu_plugin_tb_n_insns(block) as u64;
        qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, number, instructions);
    }
}
