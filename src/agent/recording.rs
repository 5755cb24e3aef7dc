//! The `jfr` artifact: what a running flight recording holds.

use super::capture::{let_jvm_write, milliseconds, quotable};
use crate::evidence::{ArtifactRecord, Bundle, Status};
use crate::jvm::{Failure, Session};
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "recording.jfr";

/// Dumps the running recording, or its last part. Starting one now would tell
/// nothing of what led here, and costs a second of stops (facts: section 2).
pub(super) async fn capture_recording(
    session: &Session,
    bundle: &Bundle,
    last: Option<Duration>,
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let outcome = dump(session, bundle, last, deadline).await;
    let record = |status, file: Option<&str>, reason| ArtifactRecord {
        artifact: "jfr",
        status,
        file: file.map(str::to_owned),
        bytes: None,
        sha256: None,
        duration_ms: milliseconds(begun.elapsed()),
        reason,
    };
    match outcome {
        Ok(()) => record(Status::Complete, Some(NAME), None),
        Err((status, reason)) => {
            bundle.discard(NAME);
            record(status, None, Some(reason))
        }
    }
}

async fn dump(
    session: &Session,
    bundle: &Bundle,
    last: Option<Duration>,
    deadline: Instant,
) -> Result<(), (Status, String)> {
    let failed = |reason: String| (Status::Failed, reason);
    // `Recording 1: name=...` for each; without one there is nothing to dump
    // (`JfrCheckFlightRecordingDCmd`).
    let check = session.text("JFR.check", deadline).await.map_err(|error| match error {
        Failure::Command { reason } => {
            (Status::Skipped, format!("this JVM has no flight recorder: {reason}"))
        }
        error => failed(error.to_string()),
    })?;
    if !check.contains("Recording ") {
        return Err((Status::Skipped, "no flight recording runs".to_owned()));
    }
    let path = bundle.unfinished(NAME);
    let path = quotable(&path).map_err(failed)?;
    // Whole seconds: the smallest unit that every version reads the same way.
    let age = last.map_or_else(String::new, |last| format!(" maxage={}s", last.as_secs().max(1)));
    let line = format!("JFR.dump filename=\"{path}\"{age}");
    let answer = let_jvm_write(session, bundle, &line, deadline).await.map_err(failed)?;
    let (_, text) = answer.map_err(|error| failed(error.to_string()))?;
    // The status is 0 in either case: the file tells.
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
        return Err(failed(line.chars().take(300).collect()));
    }
    bundle.finish(NAME, NAME).map(drop).map_err(|error| failed(format!("cannot rename {NAME}: {error}")))
}
