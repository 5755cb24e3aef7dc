//! The way into the program, without the standard library's own.
//!
//! Rust's runtime ignores SIGPIPE, installs SIGSEGV handlers and opens
//! descriptors before `main`; what we inherited is then lost, and every child
//! gets the wrong dispositions. So `main` is C's, and its first act is to
//! block all signals: whatever arrives from then on waits in the kernel.

use super::{descriptors, signals};
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// Defines C's `main`, which calls `fn(Inherited, Vec<OsString>) -> u8`.
#[macro_export]
macro_rules! entry_point {
    ($main:path) => {
        #[expect(
            unsafe_code,
            reason = "C's entry point must keep its name; the linker wants exactly one"
        )]
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
        // SAFETY: the kernel hands `main` an array of `count` pointers (System V ABI).
        let argument = unsafe { *arguments.add(index) };
        if argument.is_null() {
            break;
        }
        // SAFETY: each non-null pointer of that array is a NUL-terminated string
        // that lives as long as the process.
        let text = unsafe { CStr::from_ptr(argument) };
        collected.push(OsString::from_vec(text.to_bytes().to_vec()));
    }
    collected
}
