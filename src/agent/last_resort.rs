//! The last rung: a JVM that answers nothing is made to write its crash report.
//!
//! A SIGSEGV directed at the busiest thread: HotSpot's handler writes `hs_err` with
//! that thread as "Current thread", all others by name, heap, events and libraries,
//! within a tenth of a second, and although no safepoint ever comes (facts: 7.1).
//! The JVM dies of it (SIGABRT): only where it is about to be killed anyway, or where
//! a rule says so.

use super::artifact::{HeapDump, collect_crash};
use crate::evidence::{ArtifactRecord, Bundle};
use crate::facts::processes::{self, Process, Thread};
use crate::jvm::CrashFiles;
use crate::sys::process::{self, Pid};
use crate::units::Signal;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

const ARTIFACT: &str = "crash";
/// Between two looks at the threads: two ticks of the kernel's clock at least.
const LOOK: Duration = Duration::from_millis(50);
/// How often the report is looked for.
const WAIT: Duration = Duration::from_millis(10);

/// Makes it write the report, and collects it.
pub(super) async fn crash_report(
    pid: Pid,
    files: &CrashFiles,
    dump: &HeapDump,
    bundle: &Bundle,
    until: Instant,
) -> Vec<ArtifactRecord> {
    let begun = Instant::now();
    let failed = |reason: String| vec![ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())];
    let before = processes::threads(pid);
    sleep(LOOK).await;
    let busiest = processes::threads(pid).into_iter().max_by_key(|thread| {
        let earlier =
            before.iter().find(|known| known.id == thread.id).map_or(thread.ticks, |known| known.ticks);
        (thread.ticks.saturating_sub(earlier), thread.ticks)
    });
    let Some(Thread { id: thread, name, .. }) = busiest else {
        return failed("the last resort: its threads cannot be seen".to_owned());
    };
    warn!(thread = name, "the JVM answers nothing: its crash report is the last resort, and it dies of it");
    if let Err(error) = process::signal_thread(pid, thread, Signal::SEGV) {
        return failed(format!("the last resort: cannot send SIGSEGV to thread {name}: {}", error.desc()));
    }
    if Process::read(pid).is_some_and(|process| process.is_stopped()) {
        // Nothing reaches a stopped process but KILL and CONT.
        let _gone = process::signal(pid, Signal::CONT);
    }
    while Instant::now() < until && Process::read(pid).is_some_and(|process| process.state != 'Z') {
        sleep(WAIT).await;
    }
    let how = format!("the last resort, by a SIGSEGV to its busiest thread {name}");
    let over = sleep_until(until);
    collect_crash(Some(files), true, dump, bundle, over)
        .await
        .into_iter()
        .map(|record| record.with_note(&how))
        .collect()
}
