//! `heap`: a dump that the JVM writes itself, into the bundle's folder.

use crate::agent::budget::{Kind, Rates, Size, dump_size};
use crate::evidence::{ArtifactRecord, Bundle};
use crate::facts::cgroup;
use crate::facts::processes::Process;
use crate::jvm::{self, DumpOutcome, Session, judge_dump, used_bytes};
use crate::units::{ByteSize, format_duration};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// The share of the disk that a dump never takes, in percent.
const DISK_KEPT_PERCENT: u64 = 5;
/// How long `GC.heap_info` may take; it needs no safepoint.
const INFO_PATIENCE: Duration = Duration::from_secs(1);

/// Takes a heap dump into `name`: of all objects, without a collection first, or of
/// those that live, after one.
///
/// Its digest is missing: reading it again takes time that the JVM may need.
/// Skipped if it would not fit on the disk or into the time; a dump cannot be
/// broken off once begun, and the JVM stands still while it runs.
pub async fn capture_heap(
    session: &Session,
    bundle: &Bundle,
    name: &str,
    live: bool,
    rates: &Rates,
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let failed = |reason: String| ArtifactRecord::failed("heap", reason, begun.elapsed());
    if let Some(record) = too_large(session, bundle.folder(), live, deadline, rates).await {
        return record;
    }
    let path = bundle.unfinished(name);
    let line = match dump_command(&path, live) {
        Ok(line) => line,
        Err(reason) => return failed(reason),
    };
    let answer = match let_jvm_write(session, bundle, &line, deadline).await {
        Ok(answer) => answer.map(|(status, text)| judge_dump(status, &text)),
        Err(reason) => return failed(reason),
    };
    let reason = match answer {
        Ok(DumpOutcome::Created) => match bundle.finish(name, name) {
            Ok(_) => return ArtifactRecord::complete("heap", name, begun.elapsed()),
            Err(error) => format!("cannot rename {name}: {error}"),
        },
        Ok(DumpOutcome::Failed(reason)) => reason,
        Err(jvm::Failure::NoAnswer) => match std::fs::metadata(&path) {
            Ok(metadata) => format!("cut off at the deadline after {}", ByteSize(metadata.len())),
            Err(_) => "the JVM did not begin it in time".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    bundle.discard(name);
    failed(reason)
}

/// Sends a command on which the JVM writes into the bundle's folder, as its own user.
///
/// # Errors
/// The outer one: the folder cannot be lent, or not be taken back.
pub(super) async fn let_jvm_write(
    session: &Session,
    bundle: &Bundle,
    line: &str,
    deadline: Instant,
) -> Result<Result<(i32, String), jvm::Failure>, String> {
    let is_lent = nix::unistd::geteuid().is_root() && session.target.user != 0;
    let folder = bundle.folder().display();
    if is_lent {
        bundle
            .lend(session.target.user, session.target.group)
            .map_err(|error| format!("cannot give {folder} to the JVM's user: {error}"))?;
    }
    let answer = async {
        let reply = session.command(line, deadline).await?;
        let status = reply.status;
        Ok((status, reply.text(64 * 1024).await?))
    };
    let answer = answer.await;
    if is_lent {
        bundle.take_back().map_err(|error| format!("cannot take {folder} back: {error}"))?;
    }
    Ok(answer)
}

fn dump_command(path: &Path, live: bool) -> Result<String, String> {
    let text = quotable(path)?;
    // Without -all a full collection comes first.
    let which = if live { "" } else { "-all " };
    Ok(format!("GC.heap_dump {which}\"{text}\""))
}

/// A path that can be said in a diagnostic command.
pub(in crate::agent) fn quotable(path: &Path) -> Result<&str, String> {
    let text = path.to_str().ok_or("the spool's path is not UTF-8")?;
    // The command's parser splits at spaces outside quotes and knows no escapes
    // (`diagnosticFramework.cpp`, `DCmdArgIter`).
    if text.contains(['"', '\n', '\r']) {
        return Err(format!("the JVM cannot be told the path {text}: it holds a quote or a line break"));
    }
    Ok(text)
}

/// A dump of this heap that should not be begun, and why.
async fn too_large(
    session: &Session,
    folder: &Path,
    live: bool,
    deadline: Instant,
    rates: &Rates,
) -> Option<ArtifactRecord> {
    let skipped = |reason: String| Some(ArtifactRecord::skipped("heap", reason));
    let until = deadline.min(Instant::now() + INFO_PATIENCE);
    let text = match session.text("GC.heap_info", until).await {
        Ok(text) => text,
        Err(jvm::Failure::NoAnswer) => return skipped("the JVM does not answer".to_owned()),
        Err(error) => return skipped(error.to_string()),
    };
    // Where it was not understood, the whole process is an upper bound.
    let resident = || Process::read(session.target.pid).and_then(|process| process.resident);
    let used = used_bytes(&text).or_else(resident)?;
    let dump = dump_size(used);
    // Since 22 the heap goes to segment files first and is copied then (JDK-8306441).
    let disk = if session.version.feature >= 22 { dump.saturating_mul(2) } else { dump };
    let kind = if live { Kind::LiveHeap } else { Kind::Heap };
    let time = rates.estimate(kind, Size { heap: Some(used), threads: None });
    let left = deadline.saturating_duration_since(Instant::now());
    if time > left {
        let reason = format!(
            "it would take about {} ({} of heap in use), and there are {}",
            format_duration(time),
            ByteSize(used),
            format_duration(left)
        );
        return Some(ArtifactRecord::cut("heap", reason, time, left));
    }
    if is_in_memory(folder)
        && let Some(available) = cgroup::available_memory()
        && disk > available
    {
        return skipped(format!(
            "it would need about {} in {}, which is memory, and the container has {} left",
            ByteSize(disk),
            folder.display(),
            ByteSize(available)
        ));
    }
    let space = statvfs(folder).ok()?;
    let block = space.fragment_size();
    let free = space.blocks_available().saturating_mul(block);
    let kept = space.blocks().saturating_mul(block) / 100 * DISK_KEPT_PERCENT;
    if disk <= free.saturating_sub(kept) {
        return None;
    }
    skipped(format!(
        "it would need about {} of disk, and {} has {} free",
        ByteSize(disk),
        folder.display(),
        ByteSize(free)
    ))
}

/// Files there count as the container's own memory (`tmpfs(5)`).
fn is_in_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|system| {
        let kind = system.filesystem_type();
        kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
    })
}

/// `include/uapi/linux/magic.h`; nix has no name for it.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6_u32 as _);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_the_jvm_can_be_told() {
        assert_eq!(
            dump_command(Path::new("/a b/.heap.hprof.unfinished"), false).as_deref(),
            Ok("GC.heap_dump -all \"/a b/.heap.hprof.unfinished\"")
        );
        assert!(dump_command(Path::new("/a\"b"), false).is_err());
    }
}
