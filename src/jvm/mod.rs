//! HotSpot, talked to natively: no JDK in the image, nothing injected.
//!
//! Owns the attach protocol and the meaning of what diagnostic commands
//! answer, for JDK 11 to 25. Knows neither plan nor roles. Every reply is read
//! as hostile input, every step has a deadline, and whatever is opened is
//! closed: the JVM's attach listener serves one connection at a time, so a
//! client that lingers blocks everybody (facts: `attachListener_posix.cpp`).

mod attach;
mod crash;
mod dump;
mod heap;
mod locate;
mod options;
mod perf;
mod protocol;
mod reply;
mod session;
mod target;

pub use attach::Failure;
pub use crash::CrashFiles;
pub use dump::{Cut, DumpStream, IsOver, Opener, takes_pipes};
pub use heap::{DumpOutcome, judge_dump, used_bytes};
pub use locate::{find, find_all};
pub use options::gc_log_files;
pub use perf::Counters;
pub use reply::Reply;
pub use session::{Session, Version};
pub use target::Target;
