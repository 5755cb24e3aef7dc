//! `vm`, `histogram` and `jcmd`: what the JVM answers to diagnostic commands.

use super::write_text;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::jvm::{self, Session};
use std::time::Duration;
use tokio::time::Instant;

/// What a JVM tells about itself without a safepoint (facts: section 2); an older
/// one answers that it does not know a command. `VM.info` first: it is the most, and
/// answered as long as no safepoint is waited for. System properties last: they run
/// Java code, which a full heap may not let it.
pub(in crate::agent) const VM_COMMANDS: &[&str] = &[
    "VM.info",
    "VM.version",
    "VM.uptime",
    "GC.heap_info",
    "VM.flags",
    "VM.command_line",
    "VM.native_memory summary",
    "VM.metaspace basic",
    "VM.events",
    "VM.system_properties",
];

/// The longest text that is kept of one command. Bytes.
const TEXT_LIMIT: usize = 16 << 20;
/// For one command that needs no safepoint.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Takes a histogram into `histogram.txt`: of all objects, or of those that `live`, after a collection.
pub async fn capture_histogram(
    session: &Session,
    bundle: &Bundle,
    live: bool,
    deadline: Instant,
) -> ArtifactRecord {
    let command = if live { "GC.class_histogram" } else { "GC.class_histogram -all" };
    capture_answers(session, bundle, "histogram", "histogram.txt", &[command], deadline).await
}

/// Asks the JVM several things and writes the answers into one text, without
/// secrets. Complete if one was answered; what was not is told in the text.
pub(in crate::agent) async fn capture_answers(
    session: &Session,
    bundle: &Bundle,
    artifact: &'static str,
    name: &str,
    commands: &[&str],
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let mut text = String::new();
    let mut trouble = None;
    let mut answered = false;
    for command in commands {
        let until = deadline.min(Instant::now() + COMMAND_PATIENCE);
        let answer = async {
            let reply = session.command(command, until).await?;
            let status = reply.status;
            Ok((status, reply.text(TEXT_LIMIT).await?))
        };
        let answer = answer.await;
        text.push_str("=== ");
        text.push_str(&mask(command));
        text.push('\n');
        match answer {
            Ok((status, answer)) => {
                answered |= status == 0;
                if status != 0 {
                    trouble = Some(answer.lines().next().unwrap_or("no reason given").to_owned());
                }
                text.push_str(&mask(&answer));
            }
            Err(error) => {
                text.push_str(&format!("not answered: {error}\n"));
                let is_silent = matches!(error, jvm::Failure::NoAnswer | jvm::Failure::NoSocket { .. });
                trouble = Some(error.to_string());
                if is_silent {
                    break;
                }
            }
        }
        text.push('\n');
    }
    if answered {
        return write_text(bundle, artifact, name, text.as_bytes(), begun);
    }
    let reason = trouble.unwrap_or_else(|| "nothing was asked".to_owned());
    ArtifactRecord::failed(artifact, mask(&reason), begun.elapsed())
}
