//! A heap dump that is checked, redacted, compressed and digested while the JVM writes: through a
//! pipe, or from a file that it follows.

use super::heap::{HeapDump, PLAIN, let_jvm_write, other_user, quotable};
use super::heap_sink::{Careful, HeapSink, send_parts};
use crate::agent::elsewhere::elsewhere;
use crate::agent::storing::Tail;
use crate::evidence::{ArtifactRecord, Bundle, Content, Digested, Piped, Status, pipe};
use crate::hprof::{DumpError, Resegmented, Structure, Summary, Unpacked};
use crate::jvm::{
    CrashFiles, Cut, DumpOutcome, DumpStream, Failure, IsOver, Opener, Session, Version, judge_dump,
    takes_pipes,
};
use crate::store::Upload;
use crate::units::{ByteSize, Redaction};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

pub const SUMMARY: &str = "heap-summary";
const NAMES: &str = "heap-names";
/// The FIFO's name in the bundle, while it is there.
const PIPE: &str = "heap.pipe";
/// What is in pipes and buffers is written within that: a few megabytes.
const LAST_PIECES: Duration = Duration::from_secs(5);

/// Takes a dump that the JVM writes into a pipe, or a file if it cannot, to `upload` or to a file
/// of the bundle.
pub(super) async fn stream_heap(
    session: &Session,
    bundle: &Bundle,
    dump: &HeapDump,
    upload: Option<Upload>,
    deadline: Instant,
    over: impl Future<Output = ()>,
) -> (Vec<ArtifactRecord>, Option<Tail>) {
    let begun = Instant::now();
    let artifact = dump.origin.artifact();
    let failed = |reason: String| (vec![ArtifactRecord::failed(artifact, reason, begun.elapsed())], None);
    let name = dump.file();
    let is_piped = takes_pipes(&session.version);
    let way = if is_piped { PIPE } else { PLAIN };
    let path = bundle.unfinished(way);
    let quoted = match quotable(&path) {
        Ok(quoted) => quoted,
        Err(reason) => return failed(reason),
    };
    let (sink, task) = match upload {
        Some(upload) => {
            let (parts, task) = send_parts(upload);
            (HeapSink::Bucket(parts), Some(task))
        }
        None => match bundle.open(&name) {
            Ok((_, file)) => (HeapSink::File(Careful::new(file, bundle)), None),
            Err(error) => return failed(format!("cannot write {name}: {error}")),
        },
    };
    let owner = other_user(session);
    let has_answered = Arc::new(AtomicBool::new(false));
    let made = if is_piped {
        DumpStream::through_pipes(&path, &session.version, owner)
    } else {
        let has_answered = Arc::clone(&has_answered);
        let is_over: IsOver = Arc::new(move || has_answered.load(Ordering::Acquire));
        let open: Opener = Arc::new(open_plain);
        Ok(DumpStream::of_file(&path, &session.version, &open, &is_over))
    };
    let source = match made {
        Ok(source) => source,
        Err(error) => {
            bundle.discard(&name);
            return failed(format!("cannot make a pipe in {}: {error}", bundle.folder().display()));
        }
    };
    let line = format!("{}\"{quoted}\"", source.options(dump.live));
    // Also if we are not asked for any longer: the JVM must not wait for a reader.
    let cut = CutWhenDropped(source.cut());
    let recipe = dump.recipe.clone();
    let version = session.version.clone();
    // It reads before the JVM is asked to write.
    let piped = tokio::task::spawn_blocking(move || {
        let mixes_names = source.mixes_names();
        let cut = source.cut();
        pipe(with_lengths(source, &version), sink, &recipe, mixes_names, || cut.is_due())
    });
    let written = async {
        let answer = let_jvm_write(session, bundle, &line, deadline).await;
        has_answered.store(true, Ordering::Release);
        answer
    };
    let outcome = tokio::select! {
        answer = written => match answer {
            Ok(Ok((status, text))) => match judge_dump(status, &text) {
                DumpOutcome::Created => Outcome::Whole,
                DumpOutcome::Failed(reason) => Outcome::Failed(reason),
            },
            Ok(Err(Failure::NoAnswer)) => Outcome::OutOfTime,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(reason) => Outcome::Failed(reason),
        },
        () = over => Outcome::OutOfTime,
    };
    if outcome != Outcome::Whole {
        cut.0.now();
    }
    // A file has been followed to its end by the time that this is over; a pipe is at it.
    let patience = if is_piped {
        LAST_PIECES
    } else {
        deadline.saturating_duration_since(Instant::now()).max(LAST_PIECES)
    };
    if owner.is_some() {
        // Not taken back where the answer did not come.
        drop(bundle.take_back());
    }
    let done = match timeout(patience, piped).await {
        Ok(Ok(piped)) => judge(bundle, dump, piped, task, &outcome, begun).await,
        Ok(Err(error)) => {
            bundle.discard(&name);
            failed(error.to_string())
        }
        Err(_) => failed(format!("{} takes no more of it", bundle.folder().display())),
    };
    bundle.discard(way);
    done
}

/// One with true lengths, of any JVM.
fn with_lengths(source: DumpStream, version: &Version) -> Box<dyn Read + Send> {
    if takes_pipes(version) { Box::new(source) } else { Box::new(Resegmented::new(source)) }
}

/// A JVM has written it as its own user, where it could also make links.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a plain file"))
    }
}

/// Takes the dump that a JVM makes of itself for an OutOfMemoryError, while it writes or later.
/// It is gone from `path` then: its blocks are given back as they are read.
pub(super) async fn follow_heap(
    files: &CrashFiles,
    path: PathBuf,
    bundle: &Bundle,
    dump: &HeapDump,
    over: impl Future<Output = ()>,
) -> Vec<ArtifactRecord> {
    let begun = Instant::now();
    let failed =
        |reason: String| vec![ArtifactRecord::failed(dump.origin.artifact(), reason, begun.elapsed())];
    let name = dump.file();
    let sink = match bundle.open(&name) {
        Ok((_, file)) => HeapSink::File(Careful::new(file, bundle)),
        Err(error) => return failed(format!("cannot write {name}: {error}")),
    };
    let cut = CutWhenDropped(Cut::default());
    let (recipe, files, from) = (dump.recipe.clone(), files.clone(), path.clone());
    let until = cut.0.clone();
    let mut piped = std::pin::pin!(elsewhere(move || {
        let open: Opener = Arc::new({
            let files = files.clone();
            move |path| files.open_to_punch(path)
        });
        let is_over: IsOver = Arc::new({
            let (files, until) = (files.clone(), until.clone());
            move || until.is_due() || !files.is_alive()
        });
        let is_packed = match first_bytes(&from, &open, &is_over)? {
            Some(first) => first != PLAIN_BEGIN,
            None => return Err(io::Error::other("nothing was written to it")),
        };
        let over = || until.is_due();
        if is_packed {
            // `-XX:HeapDumpGzipLevel`
            let source = DumpStream::of_file_as_it_is(&from, &open, &is_over);
            return Ok(pipe(Unpacked::new(source)?, sink, &recipe, false, over));
        }
        let source = DumpStream::of_file(&from, files.version(), &open, &is_over);
        let mixes_names = source.mixes_names();
        Ok(pipe(with_lengths(source, files.version()), sink, &recipe, mixes_names, over))
    }));
    let (piped, outcome) = tokio::select! {
        piped = &mut piped => (Ok(piped), Outcome::Whole),
        () = over => {
            cut.0.now();
            (timeout(LAST_PIECES, piped).await, Outcome::OutOfTime)
        }
    };
    let refused = |reason: String| {
        bundle.discard(&name);
        failed(format!("cannot take {}: {reason}", path.display()))
    };
    match piped {
        Ok(Ok(Ok(piped))) => {
            let records = judge(bundle, dump, piped, None, &outcome, begun).await.0;
            if records.first().is_some_and(|record| record.file.is_some()) {
                // What is left of it is no dump.
                drop(std::fs::remove_file(&path));
            }
            records
        }
        Ok(Ok(Err(error))) => refused(error.to_string()),
        Ok(Err(reason)) => refused(reason),
        Err(_) => refused(format!("{} takes no more of it", bundle.folder().display())),
    }
}

/// What no compressed file begins with.
const PLAIN_BEGIN: [u8; 4] = *b"JAVA";

/// Once they are there.
fn first_bytes(path: &Path, open: &Opener, is_over: &IsOver) -> io::Result<Option<[u8; 4]>> {
    let file = open(path)?;
    loop {
        let is_over = is_over();
        let mut first = [0; PLAIN_BEGIN.len()];
        match file.read_exact_at(&mut first, 0) {
            Ok(()) => return Ok(Some(first)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !is_over => {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// How it went by the JVM's words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    OutOfTime,
    Failed(String),
}

struct CutWhenDropped(Cut);

impl Drop for CutWhenDropped {
    fn drop(&mut self) {
        self.0.now();
    }
}

/// A dump that had to be written to a file first: the same, from there.
pub(super) async fn convert(bundle: &Bundle, dump: &HeapDump, plain: ArtifactRecord) -> Vec<ArtifactRecord> {
    let begun = Instant::now();
    let took = Duration::from_millis(plain.duration_ms);
    let path = bundle.folder().join(PLAIN);
    let failed = |reason: String| {
        // A dump with its secrets is not what was asked for.
        drop(std::fs::remove_file(&path));
        vec![ArtifactRecord::failed(dump.origin.artifact(), reason, took + begun.elapsed())]
    };
    let source = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return failed(format!("cannot read {}: {error}", path.display())),
    };
    // Redaction alone has no ending of its own.
    let name = dump.file();
    let sink = match bundle.open(&name) {
        Ok((_, file)) => HeapSink::File(Careful::new(file, bundle)),
        Err(error) => return failed(format!("cannot write {name}: {error}")),
    };
    let cut = CutWhenDropped(Cut::default());
    let (recipe, source) = (dump.recipe.clone(), Until { source, cut: cut.0.clone() });
    match elsewhere(move || pipe(source, sink, &recipe, false, || false)).await {
        Ok(piped) => {
            drop(std::fs::remove_file(&path));
            let begun = begun.checked_sub(took).unwrap_or(begun);
            judge(bundle, dump, piped, None, &Outcome::Whole, begun).await.0
        }
        Err(reason) => failed(reason),
    }
}

/// A file that is read until somebody says so.
struct Until {
    source: File,
    cut: Cut,
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cut.is_due() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.source.read(buffer)
    }
}

/// What was got, by its own structure and by the JVM's words.
async fn judge(
    bundle: &Bundle,
    dump: &HeapDump,
    piped: Piped<HeapSink>,
    task: Option<JoinHandle<Result<(), String>>>,
    outcome: &Outcome,
    begun: Instant,
) -> (Vec<ArtifactRecord>, Option<Tail>) {
    let name = dump.file();
    let took = begun.elapsed();
    let Piped { plain, stored, summary, structure, names, sink } = piped;
    let trouble = trouble(&name, plain.bytes(), &structure, &sink, outcome);
    let artifact = dump.origin.artifact();
    let failed = |reason: String| (vec![ArtifactRecord::failed(artifact, reason, took)], None);
    let is_sound = sink.is_ok();
    let objects = summary.objects;
    if let (0, Some(reason)) = (objects, &trouble) {
        bundle.discard(&name);
        return failed(reason.clone());
    }
    if let (Some(reason), false) = (&trouble, dump.keeps_partial) {
        drop(sink);
        // Its parts are taken back from the store.
        if let Some(task) = task {
            drop(timeout(LAST_PIECES, task).await);
        }
        bundle.discard(&name);
        return failed(format!("{reason}; what there was of it is discarded, as configured"));
    }
    let file = if trouble.is_none() { name.clone() } else { format!("{name}.partial") };
    let mut tail = None;
    match (sink, task) {
        (Ok(HeapSink::Bucket(parts)), Some(task)) => {
            if parts.finish().await.is_err() {
                return failed(refusal(task).await);
            }
            // Whether the last parts arrive is asked when the event is stored.
            tail = Some(Tail { file: file.clone(), task, begun_as: name.clone() });
        }
        // The store's own reason, and nothing is left of it.
        (_, Some(task)) => return failed(refusal(task).await),
        (_, None) => {
            if let Err(error) = bundle.finish(&name, &file) {
                bundle.discard(&name);
                return failed(format!("cannot rename {name}: {error}"));
            }
        }
    }
    let record = match trouble {
        None => ArtifactRecord::complete(artifact, &file, took),
        Some(reason) => ArtifactRecord::partial(artifact, &file, reason, took),
    };
    let redaction = Some(dump.recipe.redaction).filter(|how| *how != Redaction::None);
    let content = Content::new(plain, objects, redaction.map(Redaction::word));
    // How much of it a file holds that ends in the middle nobody knows.
    let record = if is_sound { record.with_content(content) } else { record };
    let record = match (stored, &tail) {
        // A file in two halves is read once more instead.
        (Digested::Halves(_), None) => record,
        (stored, _) => record.with_digested(stored),
    };
    let mut records = vec![record];
    if let Some(names) = names {
        let file = dump.names_file();
        let made = small_file(bundle, NAMES, &file, &names);
        if let Some(heap) = records.first_mut() {
            *heap = match &made.reason {
                None => {
                    heap.clone().with_note(&format!("it goes on from {file}, which belongs in front of it"))
                }
                Some(reason) => ArtifactRecord {
                    status: Status::Partial,
                    ..heap.clone().with_note(&format!("its names are missing: {reason}"))
                },
            };
        }
        records.push(made.made_of(artifact));
    }
    records.extend(summaries(bundle, dump, &summary));
    (records, tail)
}

/// The store's own words.
async fn refusal(task: JoinHandle<Result<(), String>>) -> String {
    match timeout(LAST_PIECES, task).await {
        Ok(Ok(Err(reason))) => reason,
        _ => "the store took no more of it".to_owned(),
    }
}

/// Why it is not whole.
fn trouble(
    name: &str,
    bytes: u64,
    structure: &Result<Structure, DumpError>,
    sink: &io::Result<HeapSink>,
    outcome: &Outcome,
) -> Option<String> {
    let size = ByteSize(bytes);
    match (sink, structure, outcome) {
        (Err(error), ..) => Some(format!("cannot write {name}: {error}")),
        (Ok(_), Ok(structure), _) if structure.has_end => None,
        (.., Outcome::Failed(reason)) => Some(reason.clone()),
        (.., Outcome::OutOfTime) if bytes == 0 => Some("the JVM did not begin it in time".to_owned()),
        (.., Outcome::OutOfTime) => Some(format!("cut off at the deadline after {size}")),
        (_, Err(error @ DumpError::Broken { .. }), _) => {
            Some(format!("{error} (some builds of JDK 11 and 17 write such: JDK-8303937)"))
        }
        (_, Err(error), _) => Some(error.to_string()),
        (_, Ok(_), _) => Some(format!("the JVM broke it off after {size}")),
    }
}

/// What it amounts to, as text and JSON.
fn summaries(bundle: &Bundle, dump: &HeapDump, summary: &Summary) -> Vec<ArtifactRecord> {
    let text = small_file(bundle, SUMMARY, &dump.summary_file("txt"), summary.to_string().as_bytes());
    let json = match serde_json::to_vec_pretty(summary) {
        Ok(bytes) => small_file(bundle, SUMMARY, &dump.summary_file("json"), &bytes),
        Err(error) => ArtifactRecord::failed(SUMMARY, error.to_string(), Duration::ZERO),
    };
    [text, json].map(|record| record.made_of(dump.origin.artifact())).into()
}

fn small_file(bundle: &Bundle, artifact: &'static str, file: &str, bytes: &[u8]) -> ArtifactRecord {
    let write = |(_, mut to): (PathBuf, File)| to.write_all(bytes);
    let written = bundle.open(file).and_then(write).and_then(|()| bundle.finish(file, file));
    match written {
        Ok(_) => ArtifactRecord::complete(artifact, file, Duration::ZERO),
        Err(error) => {
            ArtifactRecord::failed(artifact, format!("cannot write {file}: {error}"), Duration::ZERO)
        }
    }
}
