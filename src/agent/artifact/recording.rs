//! `jfr`: what a flight recording holds.

use super::heap::{let_jvm_write, quotable};
use super::threads::first_line;
use crate::agent::elsewhere::elsewhere;
use crate::config::Recording;
use crate::evidence::{ArtifactRecord, Bundle, overwrite_secrets, secrets_with};
use crate::facts::processes::command_line;
use crate::jvm::{Failure, Session};
use std::fs::File;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const ARTIFACT: &str = "jfr";
const NAME: &str = "recording.jfr";
/// What a recording of ours is called in the JVM.
const OWN: &str = "bookend-event";
/// Dumping one takes at most so much of what is left. The rest is its own time.
const DUMP_TIME: Duration = Duration::from_secs(2);

/// Dumps the recording that runs, or its last part. Where none runs, and only where it
/// is asked for, one is started: that costs the JVM a second of stops (facts:
/// section 2), and tells nothing of what led here.
pub async fn capture_recording(
    session: &Session,
    bundle: &Bundle,
    wanted: &Recording,
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    match record(session, bundle, wanted, deadline).await {
        Ok(None) => ArtifactRecord::complete(ARTIFACT, NAME, begun.elapsed()),
        Ok(Some(note)) => ArtifactRecord::complete(ARTIFACT, NAME, begun.elapsed()).with_note(&note),
        Err(Refusal::Nothing(reason)) => ArtifactRecord::absent(ARTIFACT, reason),
        Err(Refusal::Failed(reason)) => {
            bundle.discard(NAME);
            ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())
        }
    }
}

enum Refusal {
    /// There is nothing to dump.
    Nothing(String),
    Failed(String),
}

/// What must be known of it, if something.
async fn record(
    session: &Session,
    bundle: &Bundle,
    wanted: &Recording,
    deadline: Instant,
) -> Result<Option<String>, Refusal> {
    let failed = |error: Failure| Refusal::Failed(error.to_string());
    // `Recording 1: name=...` for each; without one there is nothing to dump
    // (`JfrCheckFlightRecordingDCmd`).
    let check = session.text("JFR.check", deadline).await.map_err(|error| match error {
        Failure::Command { reason } => Refusal::Nothing(format!("this JVM has no flight recorder: {reason}")),
        error => failed(error),
    })?;
    if check.contains("Recording ") {
        // Whole seconds: the smallest unit that every version reads the same way.
        let age = wanted.last.map_or_else(String::new, |last| format!(" maxage={}s", last.as_secs().max(1)));
        dump(session, bundle, &age, deadline).await?;
        return Ok(None);
    }
    let Some((settings, time)) = &wanted.start else {
        return Err(Refusal::Nothing("no flight recording runs".to_owned()));
    };
    let settings_path = quotable(settings.as_ref()).map_err(Refusal::Failed)?;
    let line = format!("JFR.start name={OWN} settings=\"{settings_path}\"");
    let answer = session.text(&line, deadline).await.map_err(failed)?;
    if !answer.contains("Started recording") {
        return Err(Refusal::Failed(first_line(&answer)));
    }
    let until = (Instant::now() + *time).min(deadline.checked_sub(DUMP_TIME).unwrap_or(deadline));
    sleep_until(until).await;
    let dumped = dump(session, bundle, &format!(" name={OWN}"), deadline).await;
    let stopped = stop_recording(session, Instant::now() + DUMP_TIME).await;
    dumped?;
    let note = "none ran: this one was started by the event";
    Ok(Some(match stopped {
        None => note.to_owned(),
        Some(reason) => format!("{note}; it still runs: {reason}"),
    }))
}

/// Ends the recording that an event has started; why it still runs, if it does.
pub(in crate::agent) async fn stop_recording(session: &Session, deadline: Instant) -> Option<String> {
    session.text(&format!("JFR.stop name={OWN}"), deadline).await.err().map(|error| error.to_string())
}

async fn dump(session: &Session, bundle: &Bundle, which: &str, deadline: Instant) -> Result<(), Refusal> {
    let path = bundle.unfinished(NAME);
    let quoted = quotable(&path).map_err(Refusal::Failed)?;
    let line = format!("JFR.dump filename=\"{quoted}\"{which}");
    let answer = let_jvm_write(session, bundle, &line, deadline).await.map_err(Refusal::Failed)?;
    let (_, text) = answer.map_err(|error| Refusal::Failed(error.to_string()))?;
    // The status is 0 in either case: the file tells.
    if !std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(Refusal::Failed(first_line(&text)));
    }
    let secrets = secrets_with(&command_line(session.target.pid));
    let overwritten = elsewhere(move || {
        let file = File::options().read(true).write(true).open(path)?;
        overwrite_secrets(&file, &secrets, || Instant::now() > deadline)
    });
    let overwritten = overwritten.await.and_then(|result| result.map_err(|error| error.to_string()));
    // Of two evils the smaller: it may be asked for again, a secret cannot be taken back.
    overwritten.map_err(|error| Refusal::Failed(format!("its secrets cannot be taken out: {error}")))?;
    let renamed = bundle.finish(NAME, NAME);
    renamed.map(drop).map_err(|error| Refusal::Failed(format!("cannot rename {NAME}: {error}")))
}
