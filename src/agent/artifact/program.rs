//! `exec`: what a program of the user's own says about the service.

use super::write_text;
use crate::agent::prober::image;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::plan::{Plan, Program, Variables};
use crate::probe;
use crate::sys::process::Pid;
use crate::sys::signals::Inherited;
use crate::units::format_duration;
use std::ffi::OsString;
use std::time::Duration;
use tokio::time::Instant;

const ARTIFACT: &str = "exec";
/// So much of what it says is kept. Bytes.
const WORDS_LIMIT: usize = 16 << 20;

/// Runs it as the main process's user, in its directory and with its environment,
/// and `BOOKEND_JVM_PID`; killed at the time's end. What it said is kept in any case.
#[expect(clippy::too_many_arguments, reason = "who, with what, into what, for how long")]
pub(in crate::agent) async fn capture_program(
    plan: &Plan,
    exported: &Variables,
    jvm: Option<Pid>,
    inherited: Inherited,
    bundle: &Bundle,
    command: &[String],
    limit: Duration,
    number: usize,
) -> ArtifactRecord {
    let begun = Instant::now();
    let mut environment = plan.main.environment.clone();
    if let Some(pid) = jvm {
        environment.push(("BOOKEND_JVM_PID".into(), pid.to_string().into()));
    }
    let arguments = command.iter().map(OsString::from).collect();
    let program = Program { arguments, environment, ..plan.main.clone() };
    let ended = match probe::run(image(plan, exported, &program), inherited, limit, WORDS_LIMIT).await {
        Ok(ended) => ended,
        Err(reason) => return ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed()),
    };
    let name = format!("exec-{number}.txt");
    let text = mask(&String::from_utf8_lossy(&ended.words));
    let record = write_text(bundle, ARTIFACT, &name, text.as_bytes(), begun);
    match ended.status {
        Some(status) if status.is_success() => record,
        Some(status) => record.with_note(&format!("it ended with {status}")),
        None => record.with_note(&format!("it did not end within {}", format_duration(limit))),
    }
}
