//! The `crash` artifact: what a JVM that died has written itself.

use super::event::missing;
use crate::evidence::{ArtifactRecord, Bundle, Digest, Hasher, PRIVATE_FILE, Status, mask};
use crate::jvm::CrashFiles;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// No report is longer. Bytes.
const REPORT_LIMIT: u64 = 64 << 20;

/// The JVM's report, without secrets, and the heap dump of an OutOfMemoryError,
/// moved; one record for each, or one that says that there is none.
pub(super) async fn collect(files: Option<&CrashFiles>, bundle: &Bundle) -> Vec<ArtifactRecord> {
    let Some(files) = files else {
        return vec![missing(
            "crash",
            Status::Skipped,
            "no JVM was seen whose report it could be".to_owned(),
        )];
    };
    let mut records = Vec::new();
    if let Some(path) = files.report() {
        records.push(record(&path, "hs_err.log", copy_report(files, &path, bundle)));
    }
    if let Some(path) = files.heap_dump() {
        records.push(record(&path, "heap-oom.hprof", take_heap_dump(files, &path, bundle).await));
    }
    if records.is_empty() {
        records.push(missing("crash", Status::Skipped, "the JVM left no report and no heap dump".to_owned()));
    }
    records
}

fn record(path: &Path, name: &str, outcome: (Instant, io::Result<Option<Digest>>)) -> ArtifactRecord {
    let (begun, outcome) = outcome;
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(digest) => ArtifactRecord {
            artifact: "crash",
            status: Status::Complete,
            file: Some(name.to_owned()),
            bytes: digest.as_ref().map(|digest| digest.bytes),
            sha256: digest.map(|digest| digest.sha256),
            duration_ms,
            reason: None,
        },
        Err(error) => missing("crash", Status::Failed, format!("cannot take {}: {error}", path.display())),
    }
}

fn copy_report(files: &CrashFiles, path: &Path, bundle: &Bundle) -> (Instant, io::Result<Option<Digest>>) {
    let begun = Instant::now();
    let copied = (|| {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(files.open(path)?, REPORT_LIMIT), &mut bytes)?;
        let text = mask(&String::from_utf8_lossy(&bytes));
        let (_, mut file) = bundle.open("hs_err.log")?;
        file.write_all(text.as_bytes())?;
        bundle.finish("hs_err.log", "hs_err.log")?;
        let mut hasher = Hasher::default();
        hasher.update(text.as_bytes());
        Ok(Some(hasher.finish()))
    })();
    (begun, copied)
}

/// By its name alone where both are on one file system; else copied, by another
/// thread. Its digest is made when it is stored.
async fn take_heap_dump(
    files: &CrashFiles,
    path: &Path,
    bundle: &Bundle,
) -> (Instant, io::Result<Option<Digest>>) {
    let begun = Instant::now();
    let to = bundle.unfinished("heap-oom.hprof");
    let (files, from) = (files.clone(), path.to_owned());
    let moved = tokio::task::spawn_blocking(move || {
        if std::fs::rename(&from, &to).is_ok() {
            return Ok(());
        }
        let mut source = files.open(&from)?;
        let mut target = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&to)?;
        io::copy(&mut source, &mut target)?;
        std::fs::remove_file(&from)
    });
    let moved = moved.await.unwrap_or_else(|error| Err(io::Error::other(error.to_string())));
    // It follows no link and makes the file private, whoever it was moved from.
    let taken = moved.and_then(|()| bundle.finish("heap-oom.hprof", "heap-oom.hprof").map(|_| None));
    if taken.is_err() {
        bundle.discard("heap-oom.hprof");
    }
    (begun, taken)
}
