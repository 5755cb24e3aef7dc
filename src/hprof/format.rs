//! Tags, types and errors of the format.

use std::io;

/// `JAVA PROFILE 1.0.2`, with its NUL.
pub(super) const VERSION: &[u8] = b"JAVA PROFILE 1.0.2\0";

/// What stands at the top level (`heapDumper.cpp`, `hprofTag`).
pub(super) mod tag {
    pub(crate) const UTF8: u8 = 0x01;
    pub(crate) const LOAD_CLASS: u8 = 0x02;
    pub(crate) const FRAME: u8 = 0x04;
    pub(crate) const TRACE: u8 = 0x05;
    pub(crate) const HEAP_DUMP: u8 = 0x0c;
    pub(crate) const HEAP_DUMP_SEGMENT: u8 = 0x1c;
    pub(crate) const HEAP_DUMP_END: u8 = 0x2c;
    /// All others whose content is passed on as it is.
    pub(crate) const PLAIN: [u8; 7] = [0x03, 0x06, 0x07, 0x0a, 0x0b, 0x0d, 0x0e];
}

/// What stands in a heap dump segment.
pub(super) mod sub {
    pub(crate) const THREAD: u8 = 0x08;
    pub(crate) const CLASS: u8 = 0x20;
    pub(crate) const INSTANCE: u8 = 0x21;
    pub(crate) const OBJECT_ARRAY: u8 = 0x22;
    pub(crate) const PRIMITIVE_ARRAY: u8 = 0x23;
}

/// A root's bytes behind its tag: so many identifiers, and so many others.
pub(super) fn root_size(tag: u8) -> Option<(usize, usize)> {
    Some(match tag {
        // Unknown, sticky class, monitor.
        0xff | 0x05 | 0x07 => (1, 0),
        // JNI global.
        0x01 => (2, 0),
        // JNI local, Java frame, thread.
        0x02 | 0x03 | sub::THREAD => (1, 8),
        // Native stack, thread block.
        0x04 | 0x06 => (1, 4),
        _ => return None,
    })
}

/// A value's size by its type (`hprofTag`, `HPROF_NORMAL_OBJECT` and so on). Bytes.
pub(super) fn size_of(kind: u8, identifier: usize) -> Option<usize> {
    Some(match kind {
        OBJECT => identifier,
        4 | BYTE => 1,
        CHARACTER | 9 => 2,
        6 | 10 => 4,
        7 | 11 => 8,
        _ => return None,
    })
}

pub(super) const OBJECT: u8 = 2;
pub(super) const CHARACTER: u8 = 5;
pub(super) const BYTE: u8 = 8;

/// The name of an array of that type, as in Java.
pub(super) fn array_name(kind: u8) -> &'static str {
    match kind {
        4 => "boolean[]",
        CHARACTER => "char[]",
        6 => "float[]",
        7 => "double[]",
        BYTE => "byte[]",
        9 => "short[]",
        10 => "int[]",
        11 => "long[]",
        _ => "?[]",
    }
}

/// Why a dump cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("this is no heap dump: it does not begin with \"JAVA PROFILE 1.0.2\"")]
    NoDump,
    #[error("the dump is broken at byte {at}: {what}")]
    Broken { at: u64, what: String },
    #[error("the dump ends at byte {at}, in the middle of a record")]
    Short { at: u64 },
    #[error("cannot read it: {0}")]
    Read(#[source] io::Error),
    #[error("cannot write it: {0}")]
    Write(#[source] io::Error),
}
