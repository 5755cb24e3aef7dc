//! `logs`: what the service printed last, where bookend carries its output.

use super::write_text;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::output::Ring;
use tokio::time::Instant;

/// Whole lines only, but for the last: the service may be in the middle of it.
pub(in crate::agent) fn capture_logs(ring: Option<&Ring>, bundle: &Bundle) -> ArtifactRecord {
    let begun = Instant::now();
    let Some(ring) = ring else {
        return ArtifactRecord::skipped("logs", "the main process's output does not go through bookend");
    };
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
