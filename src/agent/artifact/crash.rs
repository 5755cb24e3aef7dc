//! The `crash` artifact: what a JVM that died, or ran out of memory, has written itself.

use super::disk::Room;
use super::heap::HeapDump;
use super::heap_stream::follow_heap;
use super::write_text;
use crate::agent::elsewhere::elsewhere;
use crate::evidence::{ArtifactRecord, Bundle, PRIVATE_FILE, mask};
use crate::jvm::CrashFiles;
use crate::units::{ByteSize, Redaction};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::time::Instant;

const ARTIFACT: &str = "crash";
/// No report is longer. Bytes.
const REPORT_LIMIT: u64 = 64 << 20;
const CORE: &str = "core";

/// The JVM's report, without secrets, the heap dump of an OutOfMemoryError, as `dump` wants it,
/// and the core file, moved; one record for each, or one that says that there is none.
///
/// A JVM that is not dead may still write its dump: it is followed. Ends when `over` does.
pub(in crate::agent) async fn collect(
    files: Option<&CrashFiles>,
    is_dead: bool,
    dump: &HeapDump,
    bundle: &Bundle,
    over: impl Future<Output = ()>,
) -> Vec<ArtifactRecord> {
    let Some(files) = files else {
        return vec![ArtifactRecord::skipped(ARTIFACT, "no JVM was seen whose report it could be")];
    };
    let mut records = Vec::new();
    if let Some(path) = files.report() {
        records.push(copy_report(files, &path, bundle));
    }
    tokio::pin!(over);
    if let Some(path) = files.heap_dump() {
        records.extend(follow_heap(files, path, bundle, dump, &mut over).await);
    }
    if let Some(path) = files.core().filter(|_| is_dead) {
        let begun = Instant::now();
        let recipe = &dump.recipe;
        if recipe.redaction != Redaction::None || !recipe.encrypt_to.is_empty() {
            let reason = format!(
                "{} stays where it is: a core holds in the open what [heap] takes out of dumps, or encrypts",
                path.display()
            );
            records.push(ArtifactRecord::skipped(ARTIFACT, reason));
        } else {
            tokio::select! {
                record = take(files, &path, CORE, bundle) => records.push(record),
                () = &mut over => {
                    records.push(ArtifactRecord::failed(ARTIFACT, "cut off: the time was up", begun.elapsed()));
                }
            }
        }
    }
    if records.is_empty() {
        records.push(ArtifactRecord::absent(ARTIFACT, "the JVM left no report, no heap dump and no core"));
    }
    records
}

/// A dump that does not fit leaves the disk as it is, and stays where it is.
fn room_for(size: u64, to: &Path) -> io::Result<()> {
    let room = Room::at(to.parent().unwrap_or(to)).filter(|room| !room.holds(size));
    let Some(Room { free, kept }) = room else { return Ok(()) };
    Err(io::Error::other(format!(
        "it has {}, and there are {} free; {} of the disk are kept for the service",
        ByteSize(size),
        ByteSize(free),
        ByteSize(kept)
    )))
}

fn copy_report(files: &CrashFiles, path: &Path, bundle: &Bundle) -> ArtifactRecord {
    let begun = Instant::now();
    let read = files.open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(REPORT_LIMIT).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(bytes) => {
            let text = mask(&String::from_utf8_lossy(&bytes));
            write_text(bundle, ARTIFACT, "hs_err.log", text.as_bytes(), begun)
        }
        Err(error) => refused(path, &error, begun),
    }
}

fn refused(path: &Path, error: &io::Error, begun: Instant) -> ArtifactRecord {
    let reason = format!("cannot take {}: {error}", path.display());
    ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())
}

/// By its name alone where both are on one file system; else copied, by another
/// thread. Its digest is made when it is stored.
async fn take(files: &CrashFiles, path: &Path, name: &str, bundle: &Bundle) -> ArtifactRecord {
    let begun = Instant::now();
    let to = bundle.unfinished(name);
    let (files, from) = (files.clone(), path.to_owned());
    let moved = elsewhere(move || {
        if std::fs::rename(&from, &to).is_ok() {
            return Ok(());
        }
        let mut source = files.open(&from)?;
        room_for(source.metadata()?.len(), &to)?;
        let mut target = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&to)?;
        io::copy(&mut source, &mut target)?;
        std::fs::remove_file(&from)
    });
    let moved = moved.await.unwrap_or_else(|reason| Err(io::Error::other(reason)));
    // It follows no link and makes the file private, whoever it was moved from.
    match moved.and_then(|()| bundle.finish(name, name)) {
        Ok(_) => ArtifactRecord::complete(ARTIFACT, name, begun.elapsed()),
        Err(error) => {
            bundle.discard(name);
            refused(path, &error, begun)
        }
    }
}
