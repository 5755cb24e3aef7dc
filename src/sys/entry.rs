//! The way into the program, without the standard library's own.
//!
//! Rust's runtime ignores SIGPIPE, installs SIGSEGV handlers and opens
//! descriptors before `main`; what we inherited is then lost, and every child
//! gets the wrong dispositions. So `main` is C's, and its first act is to
//! block all signals: whatever arrives from then on waits in the kernel.

use super::{descriptors, signals};
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where the kernel put the argument strings: they stand one behind the other,
/// and `/proc/PID/cmdline` shows that memory as it is.
static TITLE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How many bytes they are.
static TITLE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Defines C's `main`, which calls `fn(Inherited, Vec<OsString>) -> u8`.
#[macro_export]
macro_rules! entry_point {
    ($main:path) => {
        #[expect(unsafe_code, reason = "C's entry point must keep its name; the linker wants exactly one")]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: ::std::ffi::c_int,
            arguments: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            $crate::sys::entry::enter(count, arguments, $main)
        }
    };
}

/// Blocks all signals, makes descriptors 0–2 safe to use, and runs `main`.
pub fn enter(
    count: c_int,
    arguments: *const *const c_char,
    main: fn(signals::Inherited, Vec<OsString>) -> u8,
) -> c_int {
    let inherited = signals::block_all();
    descriptors::open_missing_standard_streams();
    c_int::from(main(inherited, collect(count, arguments)))
}

fn collect(count: c_int, arguments: *const *const c_char) -> Vec<OsString> {
    let mut collected = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for index in 0..usize::try_from(count).unwrap_or(0) {
        let place = arguments.wrapping_add(index);
        // SAFETY: the kernel hands `main` an array of `count` pointers (System V ABI).
        let argument = unsafe { *place };
        if argument.is_null() {
            break;
        }
        // SAFETY: each non-null pointer of that array is a NUL-terminated string
        // that lives as long as the process.
        let text = unsafe { CStr::from_ptr(argument) };
        remember(index, argument, text.to_bytes_with_nul().len());
        collected.push(OsString::from_vec(text.to_bytes().to_vec()));
    }
    collected
}

/// Extends the title's memory by one more argument, if it stands right behind.
fn remember(index: usize, argument: *const c_char, size: usize) {
    if index == 0 {
        TITLE.store(argument.cast_mut().cast(), Ordering::Relaxed);
        TITLE_SIZE.store(size, Ordering::Relaxed);
    } else {
        let known = TITLE_SIZE.load(Ordering::Relaxed);
        let end = TITLE.load(Ordering::Relaxed).wrapping_add(known);
        if std::ptr::eq(end, argument.cast()) {
            TITLE_SIZE.store(known + size, Ordering::Relaxed);
        }
    }
}

/// Replaces what `ps` and `pgrep -f` see as this process's command line.
///
/// For a forked role: under the supervisor's own words, which hold the main
/// process's command, `pkill -f` would hit the agent too. Cut where the
/// original was shorter.
pub fn set_title(title: &str) {
    let start = TITLE.swap(std::ptr::null_mut(), Ordering::Relaxed);
    let size = TITLE_SIZE.load(Ordering::Relaxed);
    if start.is_null() || size == 0 {
        return;
    }
    // SAFETY: `size` bytes from `start` are the argument strings, writable
    // memory of this process (System V ABI); everybody uses the copies made of
    // them by `collect`, and the swap above makes this reference the only one.
    let memory = unsafe { std::slice::from_raw_parts_mut(start, size) };
    memory.fill(0);
    for (place, byte) in memory.iter_mut().take(size - 1).zip(title.bytes()) {
        *place = byte;
    }
}
