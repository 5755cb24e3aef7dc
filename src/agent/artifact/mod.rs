//! The artifacts, one file each: asked for with a deadline, written under a
//! temporary name, judged by the JVM's own words.
//!
//! Each function takes what it needs and returns records of what became of it.
//! Order, time and what is left out are the ladder's and the budget's.

mod answers;
mod crash;
mod disk;
mod files;
mod gc_log;
mod heap;
mod heap_sink;
mod heap_stream;
mod logs;
mod os;
mod program;
mod recording;
mod text;
mod threads;

pub use answers::capture_histogram;
pub(super) use answers::{VM_COMMANDS, capture_answers};
pub(super) use crash::collect as collect_crash;
pub(super) use files::capture_files;
pub(super) use gc_log::{GcLog, capture_gc_log};
pub(super) use heap::quotable;
pub use heap::{HeapDump, Origin, capture_heap};
pub(super) use heap::{Remote, send_heap};
pub use heap_stream::SUMMARY as HEAP_SUMMARY;
pub(super) use logs::capture_logs;
pub(super) use os::capture_os;
pub(super) use program::capture_program;
pub use recording::capture_recording;
pub(super) use recording::stop_recording;
pub(super) use text::write_text;
pub use threads::capture_threads;
pub(super) use threads::{ask_by_quit, capture_virtual_threads, has_deadlock};
