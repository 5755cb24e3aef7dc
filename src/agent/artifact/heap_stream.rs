//! `heap` through a pipe: checked, redacted, compressed and digested while the JVM writes.

use super::heap::{HeapDump, NAMES, PLAIN, let_jvm_write, other_user, quotable};
use super::heap_sink::{Careful, HeapSink, send_parts};
use crate::agent::elsewhere::elsewhere;
use crate::agent::storing::Tail;
use crate::evidence::{ArtifactRecord, Bundle, Content, Digested, Piped, Status, pipe};
use crate::hprof::{DumpError, Structure, Summary};
use crate::jvm::{Cut, DumpOutcome, DumpPipe, Failure, Session, judge_dump};
use crate::store::Upload;
use crate::units::{ByteSize, Redaction};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const ARTIFACT: &str = "heap";
const SUMMARY: &str = "heap-summary";
/// The FIFO's name in the bundle, while it is there.
const PIPE: &str = "heap.pipe";
/// What is in pipes and buffers is written within that: a few megabytes.
const LAST_PIECES: Duration = Duration::from_secs(5);

/// Takes a dump that the JVM writes into a pipe, to `upload` or to a file of the bundle.
pub(super) async fn stream_heap(
    session: &Session,
    bundle: &Bundle,
    dump: &HeapDump,
    upload: Option<Upload>,
    deadline: Instant,
    over: impl Future<Output = ()>,
) -> (Vec<ArtifactRecord>, Option<Tail>) {
    let begun = Instant::now();
    let failed = |reason: String| (vec![ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())], None);
    let name = dump.file();
    let path = bundle.unfinished(PIPE);
    let quoted = match quotable(&path) {
        Ok(quoted) => quoted,
        Err(reason) => return failed(reason),
    };
    let (sink, task) = match upload {
        Some(upload) => {
            let note = bundle.upload_note(&name);
            let (parts, task) = send_parts(upload, move || drop(std::fs::remove_file(note)));
            (HeapSink::Bucket(parts), Some(task))
        }
        None => match bundle.open(&name) {
            Ok((_, file)) => (HeapSink::File(Careful::new(file, bundle)), None),
            Err(error) => return failed(format!("cannot write {name}: {error}")),
        },
    };
    let owner = other_user(session);
    let made = DumpPipe::make(&path, &session.version, owner);
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
    // It reads before the JVM is asked to write.
    let piped = tokio::task::spawn_blocking(move || {
        let mixes_names = source.mixes_names();
        let cut = source.cut();
        pipe(source, sink, &recipe, mixes_names, || cut.is_due())
    });
    let outcome = tokio::select! {
        answer = let_jvm_write(session, bundle, &line, deadline) => match answer {
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
    if owner.is_some() {
        // Not taken back where the answer did not come.
        drop(bundle.take_back());
    }
    let done = match timeout(LAST_PIECES, piped).await {
        Ok(Ok(piped)) => judge(bundle, dump, piped, task, &outcome, begun).await,
        Ok(Err(error)) => {
            bundle.discard(&name);
            failed(error.to_string())
        }
        Err(_) => failed(format!("{} takes no more of it", bundle.folder().display())),
    };
    bundle.discard(PIPE);
    done
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
        vec![ArtifactRecord::failed(ARTIFACT, reason, took + begun.elapsed())]
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
    let failed = |reason: String| (vec![ArtifactRecord::failed(ARTIFACT, reason, took)], None);
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
        None => ArtifactRecord::complete(ARTIFACT, &file, took),
        Some(reason) => ArtifactRecord::partial(ARTIFACT, &file, reason, took),
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
        // Where it is missing, so is the heap.
        let made = small_file(bundle, NAMES, &file, &names);
        if let (Some(heap), Status::Complete) = (records.first_mut(), made.status) {
            *heap = heap.clone().with_note(&format!("it goes on from {file}: decrypt that one first"));
        }
        records.push(made.made_of(ARTIFACT));
    }
    records.extend(summaries(bundle, &summary));
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
fn summaries(bundle: &Bundle, summary: &Summary) -> Vec<ArtifactRecord> {
    let text = small_file(bundle, SUMMARY, "heap-summary.txt", summary.to_string().as_bytes());
    let json = match serde_json::to_vec_pretty(summary) {
        Ok(bytes) => small_file(bundle, SUMMARY, "heap-summary.json", &bytes),
        Err(error) => ArtifactRecord::failed(SUMMARY, error.to_string(), Duration::ZERO),
    };
    [text, json].map(|record| record.made_of(ARTIFACT)).into()
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
