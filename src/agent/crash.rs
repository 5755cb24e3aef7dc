//! The `crash` artifact: what a JVM that died has written itself.

use super::capture::{milliseconds, write_text};
use super::event::missing;
use crate::evidence::{ArtifactRecord, Bundle, PRIVATE_FILE, Status, mask};
use crate::jvm::CrashFiles;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::time::Instant;

/// No report is longer. Bytes.
const REPORT_LIMIT: u64 = 64 << 20;
const HEAP_DUMP: &str = "heap-oom.hprof";

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
        records.push(copy_report(files, &path, bundle));
    }
    if let Some(path) = files.heap_dump() {
        records.push(take_heap_dump(files, &path, bundle).await);
    }
    if records.is_empty() {
        records.push(missing("crash", Status::Skipped, "the JVM left no report and no heap dump".to_owned()));
    }
    records
}

fn copy_report(files: &CrashFiles, path: &Path, bundle: &Bundle) -> ArtifactRecord {
    let begun = Instant::now();
    let read = files.open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(REPORT_LIMIT).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(bytes) => {
            write_text(bundle, "crash", "hs_err.log", &mask(&String::from_utf8_lossy(&bytes)), begun)
        }
        Err(error) => missing("crash", Status::Failed, format!("cannot take {}: {error}", path.display())),
    }
}

/// By its name alone where both are on one file system; else copied, by another
/// thread. Its digest is made when it is stored.
async fn take_heap_dump(files: &CrashFiles, path: &Path, bundle: &Bundle) -> ArtifactRecord {
    let begun = Instant::now();
    let to = bundle.unfinished(HEAP_DUMP);
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
    match moved.and_then(|()| bundle.finish(HEAP_DUMP, HEAP_DUMP)) {
        Ok(_) => ArtifactRecord {
            artifact: "crash",
            status: Status::Complete,
            file: Some(HEAP_DUMP.to_owned()),
            bytes: None,
            sha256: None,
            duration_ms: milliseconds(begun.elapsed()),
            reason: None,
        },
        Err(error) => {
            bundle.discard(HEAP_DUMP);
            missing("crash", Status::Failed, format!("cannot take {}: {error}", path.display()))
        }
    }
}
