//! `heap` through a pipe: checked, redacted, compressed and digested while the JVM writes.

use super::heap::{HeapDump, disk_space, is_in_memory, let_jvm_write, other_user, quotable};
use crate::agent::elsewhere::elsewhere;
use crate::evidence::{ArtifactRecord, Bundle, Content, Piped, Sink, pipe};
use crate::facts::cgroup;
use crate::hprof::DumpError;
use crate::jvm::{Cut, DumpOutcome, DumpPipe, Failure, Session, judge_dump};
use crate::units::{ByteSize, Redaction};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const ARTIFACT: &str = "heap";
const SUMMARY: &str = "heap-summary";
/// The FIFO's name in the bundle, while it is there.
const PIPE: &str = "heap.pipe";
/// What is in pipes and buffers is written within that: a few megabytes.
const LAST_PIECES: Duration = Duration::from_secs(5);
/// So often the room on the disk is looked at, which must hold as much more. Bytes.
const LOOK_EVERY: u64 = 1 << 20;
/// A container whose memory is so nearly full gets no more in its tmpfs. Bytes.
const MEMORY_KEPT: u64 = 64 << 20;

/// Takes a dump that the JVM writes into a pipe.
pub(super) async fn stream_heap(
    session: &Session,
    bundle: &Bundle,
    dump: &HeapDump<'_>,
    deadline: Instant,
    over: impl Future<Output = ()>,
) -> Vec<ArtifactRecord> {
    let begun = Instant::now();
    let failed = |reason: String| vec![ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())];
    let name = dump.file();
    let sink = match bundle.open(&name) {
        Ok((_, file)) => Careful::new(file, bundle),
        Err(error) => return failed(format!("cannot write {name}: {error}")),
    };
    let path = bundle.unfinished(PIPE);
    let owner = other_user(session);
    let made = DumpPipe::make(&path, &session.version, owner);
    let source = match made {
        Ok(source) => source,
        Err(error) => {
            bundle.discard(&name);
            return failed(format!("cannot make a pipe in {}: {error}", bundle.folder().display()));
        }
    };
    let line = match quotable(&path) {
        Ok(path) => format!("{}\"{path}\"", source.options(dump.live)),
        Err(reason) => return failed(reason),
    };
    // Also if we are not asked for any longer: the JVM must not wait for a reader.
    let cut = CutWhenDropped(source.cut());
    let recipe = dump.recipe;
    // It reads before the JVM is asked to write.
    let piped = tokio::task::spawn_blocking(move || {
        let mixes_names = source.mixes_names();
        pipe(source, sink, recipe, mixes_names)
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
    let records = match timeout(LAST_PIECES, piped).await {
        Ok(Ok(piped)) => judge(bundle, dump, piped, &outcome, begun),
        Ok(Err(error)) => {
            bundle.discard(&name);
            failed(error.to_string())
        }
        Err(_) => failed(format!("{} takes no more of it", bundle.folder().display())),
    };
    bundle.discard(PIPE);
    records
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
pub(super) async fn convert(
    bundle: &Bundle,
    dump: &HeapDump<'_>,
    plain: ArtifactRecord,
) -> Vec<ArtifactRecord> {
    let begun = Instant::now();
    let took = Duration::from_millis(plain.duration_ms);
    let path = bundle.folder().join(dump.name);
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
        Ok((_, file)) => Careful::new(file, bundle),
        Err(error) => return failed(format!("cannot write {name}: {error}")),
    };
    let cut = CutWhenDropped(Cut::default());
    let (recipe, source) = (dump.recipe, Until { source, cut: cut.0.clone() });
    match elsewhere(move || pipe(source, sink, recipe, false)).await {
        Ok(piped) => {
            drop(std::fs::remove_file(&path));
            judge(bundle, dump, piped, &Outcome::Whole, begun.checked_sub(took).unwrap_or(begun))
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
fn judge(
    bundle: &Bundle,
    dump: &HeapDump<'_>,
    piped: Piped<Careful>,
    outcome: &Outcome,
    begun: Instant,
) -> Vec<ArtifactRecord> {
    let name = dump.file();
    let size = ByteSize(piped.plain.bytes());
    let trouble = match (&piped.sink, &piped.structure, outcome) {
        (Err(error), ..) => Some(format!("cannot write {name}: {error}")),
        (Ok(_), Ok(structure), _) if structure.has_end => None,
        (.., Outcome::Failed(reason)) => Some(reason.clone()),
        (.., Outcome::OutOfTime) if piped.plain.bytes() == 0 => {
            Some("the JVM did not begin it in time".to_owned())
        }
        (.., Outcome::OutOfTime) => Some(format!("cut off at the deadline after {size}")),
        (_, Err(error @ DumpError::Broken { .. }), _) => {
            Some(format!("{error} (some builds of JDK 11 and 17 write such: JDK-8303937)"))
        }
        (_, Err(error), _) => Some(error.to_string()),
        (_, Ok(_), _) => Some(format!("the JVM broke it off after {size}")),
    };
    let objects = piped.summary.objects;
    let mut records = Vec::new();
    let took = begun.elapsed();
    match trouble {
        Some(reason) if objects == 0 => {
            bundle.discard(&name);
            return vec![ArtifactRecord::failed(ARTIFACT, reason, took)];
        }
        trouble => {
            let file = if trouble.is_none() { name.clone() } else { format!("{name}.partial") };
            let record = match (bundle.finish(&name, &file), trouble) {
                (Ok(_), None) => ArtifactRecord::complete(ARTIFACT, &file, took),
                (Ok(_), Some(reason)) => ArtifactRecord::partial(ARTIFACT, &file, reason, took),
                (Err(error), _) => {
                    bundle.discard(&name);
                    let reason = format!("cannot rename {name}: {error}");
                    return vec![ArtifactRecord::failed(ARTIFACT, reason, took)];
                }
            };
            let redaction = Some(dump.recipe.redaction).filter(|how| *how != Redaction::None);
            let content = Content::new(piped.plain, objects, redaction.map(Redaction::word));
            // How much of it a file holds that ends in the middle nobody knows.
            let is_sound = piped.sink.is_ok();
            let record = record.with_digested(piped.stored);
            records.push(if is_sound { record.with_content(content) } else { record });
        }
    }
    let text = piped.summary.to_string().into_bytes();
    let json = serde_json::to_vec_pretty(&piped.summary).map_err(|error| error.to_string());
    for (file, content) in [("heap-summary.txt", Ok(text)), ("heap-summary.json", json)] {
        let written = content.and_then(|bytes| {
            let write = |(_, mut to): (PathBuf, File)| to.write_all(&bytes);
            let written = bundle.open(file).and_then(write).and_then(|()| bundle.finish(file, file));
            written.map_err(|error| format!("cannot write {file}: {error}"))
        });
        let record = match written {
            Ok(_) => ArtifactRecord::complete(SUMMARY, file, Duration::ZERO),
            Err(reason) => ArtifactRecord::failed(SUMMARY, reason, Duration::ZERO),
        };
        records.push(record.made_of(ARTIFACT));
    }
    records
}

/// A file that does not take the disk's last.
struct Careful {
    file: File,
    folder: PathBuf,
    is_in_memory: bool,
    since_looked: u64,
}

impl Careful {
    fn new(file: File, bundle: &Bundle) -> Self {
        let folder = bundle.folder().to_owned();
        let is_in_memory = is_in_memory(&folder);
        Self { file, folder, is_in_memory, since_looked: LOOK_EVERY }
    }

    fn look(&self) -> io::Result<()> {
        if let Some((free, kept)) = disk_space(&self.folder)
            && free <= kept.saturating_add(LOOK_EVERY)
        {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the rest of the disk is the service's"));
        }
        if self.is_in_memory && cgroup::available_memory().is_some_and(|left| left < MEMORY_KEPT) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "it is in memory, and that is nearly full",
            ));
        }
        Ok(())
    }
}

impl Write for Careful {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since_looked >= LOOK_EVERY {
            self.since_looked = 0;
            self.look()?;
        }
        let count = self.file.write(bytes)?;
        self.since_looked += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Careful {
    /// Moves what is there up, the end first.
    fn put_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.look()?;
        let by = bytes.len() as u64;
        let mut buffer = vec![0; 1 << 20];
        let mut end = self.file.metadata()?.len();
        while end > 0 {
            let count = end.min(buffer.len() as u64);
            let piece = buffer.get_mut(..usize::try_from(count).unwrap_or_default()).unwrap_or_default();
            end -= count;
            self.file.read_exact_at(piece, end)?;
            self.file.write_all_at(piece, end + by)?;
        }
        self.file.write_all_at(bytes, 0)
    }
}
