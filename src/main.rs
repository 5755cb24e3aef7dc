//! Block signals, parse, choose the role, return its exit code.
#![no_main]

use bookend::sys::signals::Inherited;
use std::ffi::OsString;

bookend::entry_point!(main_with);

fn main_with(inherited: Inherited, arguments: Vec<OsString>) -> u8 {
    bookend::cli::main(&inherited, arguments)
}
