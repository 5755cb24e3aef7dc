//! `heap`: whether there is room and time for a dump, and which way it goes.

use super::disk::{Room, is_in_memory};
use super::heap_stream::{convert, stream_heap};
use crate::agent::budget::{Kind, Rates, Size, dump_size};
use crate::agent::elsewhere::has_threads;
use crate::agent::storing::Tail;
use crate::evidence::{ArtifactRecord, Bundle, Status};
use crate::facts::cgroup;
use crate::facts::processes::Process;
use crate::jvm::{self, DumpOutcome, Session, judge_dump, takes_pipes, used_bytes};
use crate::plan::Plan;
use crate::store::{Bucket, Labels, Upload};
use crate::units::{ByteSize, Compression, Recipe, format_duration};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

const ARTIFACT: &str = "heap";
/// The plain dump's file; the compression's ending comes behind it.
pub(super) const PLAIN: &str = "heap.hprof";
/// No heap is made smaller than that by compression, unless it is empty.
const BEST_RATIO: u64 = 10;
/// For the end of a dump that is read, until it is with the store.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a bucket may take to say that it will take a dump.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long `GC.heap_info` may take; it needs no safepoint.
const INFO_PATIENCE: Duration = Duration::from_secs(1);

/// A heap dump as it is wanted.
#[derive(Clone, Debug)]
pub struct HeapDump {
    /// Only what is reachable, which costs a full collection.
    pub live: bool,
    pub recipe: Recipe,
    /// What there is of one that was cut off is kept.
    pub keeps_partial: bool,
    pub origin: Origin,
}

/// Who wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We asked for it.
    Asked,
    /// The JVM made it of itself, for an OutOfMemoryError.
    OutOfMemory,
}

impl Origin {
    pub(super) fn artifact(self) -> &'static str {
        match self {
            Self::Asked => ARTIFACT,
            Self::OutOfMemory => "crash",
        }
    }

    /// What its files' names begin with.
    fn stem(self) -> &'static str {
        match self {
            Self::Asked => "heap",
            Self::OutOfMemory => "heap-oom",
        }
    }
}

impl HeapDump {
    /// As the plan wants dumps.
    pub(in crate::agent) fn of(plan: &Plan, live: bool, origin: Origin) -> Self {
        let keeps_partial = plan.evidence.as_ref().is_none_or(|evidence| evidence.keeps_partial);
        Self { live, recipe: plan.heap.clone(), keeps_partial, origin }
    }

    /// The file's name.
    pub fn file(&self) -> String {
        format!("{}.hprof{}", self.origin.stem(), self.recipe.extension())
    }

    /// Where the names go that belong in front, and cannot be put there any more.
    pub(super) fn names_file(&self) -> String {
        format!("{}-names.hprof{}", self.origin.stem(), self.recipe.extension())
    }

    /// What it amounts to, with that ending.
    pub(super) fn summary_file(&self, ending: &str) -> String {
        format!("{}-summary.{ending}", self.origin.stem())
    }
}

/// How a dump comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pipe,
    /// From a file, while the JVM writes it.
    Followed,
    /// From a file, once it is whole: where there can be no threads.
    File,
}

/// A bucket that takes a dump as it comes.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Remote<'a> {
    pub(in crate::agent) bucket: &'a Bucket,
    /// Of the event, in the bucket.
    pub(in crate::agent) folder: String,
    pub(in crate::agent) labels: Labels,
}

/// Takes a heap dump into the bundle's folder.
pub async fn capture_heap(
    session: &Session,
    bundle: &Bundle,
    dump: &HeapDump,
    rates: &Rates,
    deadline: Instant,
    over: impl Future<Output = ()>,
) -> Vec<ArtifactRecord> {
    send_heap(session, bundle, dump, None, rates, deadline, over).await.0
}

/// Takes a heap dump: through a pipe, so that it is smaller and safe before it is written
/// anywhere; from a JVM that cannot, by way of a file that shrinks behind us as it grows.
///
/// Skipped if it would not fit on the disk or into the time: the JVM stands still while it
/// runs. Ends when `over` does, with what there is until then.
pub(in crate::agent) async fn send_heap(
    session: &Session,
    bundle: &Bundle,
    dump: &HeapDump,
    remote: Option<&Remote<'_>>,
    rates: &Rates,
    deadline: Instant,
    over: impl Future<Output = ()>,
) -> (Vec<ArtifactRecord>, Option<Tail>) {
    let begun = Instant::now();
    let way = match (has_threads(), takes_pipes(&session.version)) {
        (true, true) => Way::Pipe,
        (true, false) => Way::Followed,
        (false, _) => Way::File,
    };
    let used = match too_slow(session, dump, deadline, rates).await {
        Ok(used) => used,
        Err(record) => return (vec![*record], None),
    };
    tokio::pin!(over);
    // It may be asked again after it has been.
    let is_over = AtomicBool::new(false);
    let mut over = std::future::poll_fn(|context| {
        if is_over.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        over.as_mut().poll(context).map(|()| is_over.store(true, Ordering::Relaxed))
    });
    // A bucket that answers is a bucket that takes: another's dump goes to the spool.
    let upload = match remote.filter(|_| way == Way::Pipe) {
        Some(remote) => begin_upload(remote, bundle, dump, deadline).await,
        None => None,
    };
    if upload.is_none()
        && let Some(record) = too_large(session, used, bundle.folder(), dump, way)
    {
        return (vec![record], None);
    }
    if way != Way::File {
        let is_sent = upload.is_some();
        let (records, tail) = stream_heap(session, bundle, dump, upload, deadline, &mut over).await;
        let status = records.first().map(|record| record.status);
        let reason = match (status, tail) {
            (Some(Status::Failed), None) if is_sent => {
                records.first().and_then(|record| record.reason.clone()).unwrap_or_default()
            }
            // As long as it is not with the store the JVM is all there is of it.
            (Some(Status::Complete), Some(tail)) => {
                // Time for another one is left in any case. What is still on its way is a few
                // parts, and the word that they are all: a store that is silent for longer has gone.
                let patience = begun.elapsed().max(ARRIVAL_PATIENCE);
                let until = deadline.checked_sub(begun.elapsed() * 3 / 2).unwrap_or(begun);
                let until = until.min(Instant::now() + patience);
                match arrives(tail, until, &mut over).await {
                    Ok(tail) => return (records, Some(tail)),
                    Err(reason) => {
                        // Names and summaries of what is not there.
                        bundle.remove_files(&records);
                        reason
                    }
                }
            }
            (_, tail) => return (records, tail),
        };
        let (records, tail) = (vec![ArtifactRecord::failed(ARTIFACT, reason.clone(), begun.elapsed())], None);
        // What was sent is gone; the heap is still there.
        if is_over.load(Ordering::Relaxed)
            || too_slow(session, dump, deadline, rates).await.is_err()
            || too_large(session, used, bundle.folder(), dump, way).is_some()
        {
            return (records, tail);
        }
        warn!("the heap is dumped once more, to the spool, as the store took no more of it: {reason}");
        return stream_heap(session, bundle, dump, None, deadline, over).await;
    }
    let by_file = async {
        let record = by_file(session, bundle, dump.live, deadline).await;
        match record.status {
            Status::Complete if dump.recipe != Recipe::PLAIN => convert(bundle, dump, record).await,
            _ => vec![record],
        }
    };
    let records = tokio::select! {
        records = by_file => records,
        () = over => {
            // It may be lent to the JVM's user.
            drop(bundle.take_back());
            bundle.discard(PLAIN);
            vec![ArtifactRecord::failed(ARTIFACT, "cut off: the time was up", begun.elapsed())]
        }
    };
    (records, None)
}

/// The same once it has arrived, or where there is no time to wait for that; else why it has not.
async fn arrives(mut tail: Tail, until: Instant, over: impl Future<Output = ()>) -> Result<Tail, String> {
    let arrived = tokio::select! {
        arrived = timeout_at(until, &mut tail.task) => arrived,
        () = over => return Ok(tail),
    };
    match arrived {
        Ok(Ok(Ok(()))) => Ok(Tail { task: tokio::spawn(async { Ok(()) }), ..tail }),
        Ok(Ok(Err(reason))) => Err(reason),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            tail.task.abort();
            Err("it was not with the store in time".to_owned())
        }
    }
}

/// `None`, and a word in the log, if the bucket does not take it.
async fn begin_upload(
    remote: &Remote<'_>,
    bundle: &Bundle,
    dump: &HeapDump,
    deadline: Instant,
) -> Option<Upload> {
    let key = format!("{}/{}", remote.folder, dump.file());
    let until = deadline.min(Instant::now() + BEGIN_PATIENCE);
    let reason = match timeout_at(until, remote.bucket.begin(&key, &remote.labels)).await {
        Ok(Ok(mut upload)) => {
            upload.note_to(bundle.upload_note(&dump.file()), &key, None);
            return Some(upload);
        }
        Ok(Err(reason)) => reason,
        Err(_) => "no answer".to_owned(),
    };
    warn!("the heap dump goes to the spool, as the store does not take it: {reason}");
    None
}

/// The JVM writes the file itself, and all of it.
async fn by_file(session: &Session, bundle: &Bundle, live: bool, deadline: Instant) -> ArtifactRecord {
    let begun = Instant::now();
    let failed = |reason: String| ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed());
    let path = bundle.unfinished(PLAIN);
    let line = match dump_command(&path, live) {
        Ok(line) => line,
        Err(reason) => return failed(reason),
    };
    let answer = match let_jvm_write(session, bundle, &line, deadline).await {
        Ok(answer) => answer.map(|(status, text)| judge_dump(status, &text)),
        Err(reason) => return failed(reason),
    };
    let reason = match answer {
        Ok(DumpOutcome::Created) => match bundle.finish(PLAIN, PLAIN) {
            Ok(_) => return ArtifactRecord::complete(ARTIFACT, PLAIN, begun.elapsed()),
            Err(error) => format!("cannot rename {PLAIN}: {error}"),
        },
        Ok(DumpOutcome::Failed(reason)) => reason,
        Err(jvm::Failure::NoAnswer) => match std::fs::metadata(&path) {
            Ok(metadata) => format!("cut off at the deadline after {}", ByteSize(metadata.len())),
            Err(_) => "the JVM did not begin it in time".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    bundle.discard(PLAIN);
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
    let owner = other_user(session);
    let folder = bundle.folder().display();
    if let Some((user, group)) = owner {
        bundle
            .lend(user, group)
            .map_err(|error| format!("cannot give {folder} to the JVM's user: {error}"))?;
    }
    let answer = async {
        let reply = session.command(line, deadline).await?;
        let status = reply.status;
        Ok((status, reply.text(64 * 1024).await?))
    };
    let answer = answer.await;
    if owner.is_some() {
        bundle.take_back().map_err(|error| format!("cannot take {folder} back: {error}"))?;
    }
    Ok(answer)
}

/// The user and group of a JVM that cannot write to what is ours: root's JVM is often somebody
/// else.
pub(super) fn other_user(session: &Session) -> Option<(u32, u32)> {
    let is_other = nix::unistd::geteuid().is_root() && session.target.user != 0;
    is_other.then_some((session.target.user, session.target.group))
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

/// How much heap there is to dump, in bytes; or why it should not be begun.
async fn too_slow(
    session: &Session,
    dump: &HeapDump,
    deadline: Instant,
    rates: &Rates,
) -> Result<Option<u64>, Box<ArtifactRecord>> {
    let skipped = |reason: String| Err(Box::new(ArtifactRecord::skipped(ARTIFACT, reason)));
    let until = deadline.min(Instant::now() + INFO_PATIENCE);
    let text = match session.text("GC.heap_info", until).await {
        Ok(text) => text,
        Err(jvm::Failure::NoAnswer) => return skipped("the JVM does not answer".to_owned()),
        Err(error) => return skipped(error.to_string()),
    };
    // Where it was not understood, the whole process is an upper bound.
    let resident = || Process::read(session.target.pid).and_then(|process| process.resident);
    let Some(used) = used_bytes(&text).or_else(resident) else { return Ok(None) };
    let kind = if dump.live { Kind::LiveHeap } else { Kind::Heap };
    let time = rates.estimate(kind, Size { heap: Some(used), threads: None });
    let left = deadline.saturating_duration_since(Instant::now());
    if time > left {
        let reason = format!(
            "it would take about {} ({} of heap in use), and there are {}",
            format_duration(time),
            ByteSize(used),
            format_duration(left)
        );
        return Err(Box::new(ArtifactRecord::cut(ARTIFACT, reason, time, left)));
    }
    Ok(Some(used))
}

/// A dump of so much heap that would not fit on the disk.
fn too_large(
    session: &Session,
    used: Option<u64>,
    folder: &Path,
    dump: &HeapDump,
    way: Way,
) -> Option<ArtifactRecord> {
    let skipped = |reason: String| Some(ArtifactRecord::skipped(ARTIFACT, reason));
    let size = dump_size(used?);
    let disk = match (way, dump.recipe.compression) {
        // At best: more than that is seen while it is written.
        (Way::Pipe, Compression::Zstd | Compression::Auto | Compression::Gzip) => size / BEST_RATIO,
        // Since 22 the heap goes to segment files first and is copied then (JDK-8306441).
        (Way::File, _) if session.version.feature >= 22 => size.saturating_mul(2),
        // The JVM is faster than whoever follows it: at worst by all of it, which nobody can stop.
        (Way::Pipe, Compression::None) | (Way::Followed | Way::File, _) => size,
    };
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
    let room = Room::at(folder)?;
    if room.holds(disk) {
        return None;
    }
    skipped(format!(
        "it would need about {} of disk, and {} has {} free; {} of it are kept for the service",
        ByteSize(disk),
        folder.display(),
        ByteSize(room.free),
        ByteSize(room.kept)
    ))
}

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
