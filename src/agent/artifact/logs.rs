//! `logs`: what the service printed last, where bookend carries its output.

use super::write_text;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::output::Ring;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a service that has ended said last is carried within so long, unless nobody reads it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the pipes are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Whole lines only, but for the last: the service may be in the middle of it. One that
/// `has_ended` says nothing more: its last words are waited for.
pub(in crate::agent) async fn capture_logs(
    ring: Option<&Ring>,
    has_ended: bool,
    bundle: &Bundle,
) -> ArtifactRecord {
    let begun = Instant::now();
    let Some(ring) = ring else {
        return ArtifactRecord::skipped("logs", "the main process's output does not go through bookend");
    };
    while has_ended && !ring.is_caught_up() && begun.elapsed() < PATIENCE {
        sleep(LOOK).await;
    }
    match ring.tail() {
        Ok(bytes) => {
            let is_cut = ring.end() > bytes.len() as u64;
            let begin =
                if is_cut { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) } else { 0 };
            let text = String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default());
            write_text(bundle, "logs", "logs.txt", mask(&text).as_bytes(), begun)
        }
        Err(error) => ArtifactRecord::failed("logs", format!("cannot read them: {error}"), begun.elapsed()),
    }
}
