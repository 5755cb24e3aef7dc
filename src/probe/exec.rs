//! Does a program say that all is well?

use crate::sys::descriptors;
use crate::sys::process;
use crate::sys::signals::Inherited;
use crate::sys::spawn::{self, Image};
use crate::units::{Signal, format_duration};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// So much of what it says is kept: its last line tells why. Bytes.
const WORDS_LIMIT: usize = 4096;

/// Runs `image` to its end; well is exit code 0. At the time's end it is killed,
/// with everything in its group.
///
/// # Errors
/// Its last line or its exit code, or that the time was up.
pub async fn run(mut image: Image, inherited: Inherited, limit: Duration) -> Result<(), String> {
    let (reader, writer) = descriptors::pipe().map_err(|error| format!("cannot run it: {}", error.desc()))?;
    image.output = Some(writer.as_raw_fd());
    let command = image.arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let pid = spawn::spawn(&image, &inherited).map_err(|failure| {
        process::reap_ended();
        format!("cannot run `{command}`: {}", failure.error.desc())
    })?;
    drop(writer);
    let mut ended = tokio::task::spawn_blocking(move || process::wait_for(pid));
    let status = match tokio::time::timeout(limit, &mut ended).await {
        Ok(status) => status.ok().flatten(),
        Err(_) => {
            let _gone = process::signal_group(pid, Signal::KILL);
            drop(ended.await);
            return Err(format!("`{command}` did not end within {}", format_duration(limit)));
        }
    };
    match status {
        Some(status) if status.is_success() => Ok(()),
        Some(status) => {
            let line = last_line(reader);
            Err(if line.is_empty() { format!("{status}") } else { format!("{status}: {line}") })
        }
        None => Err(format!("nobody knows how `{command}` ended")),
    }
}

/// What it left in the pipe; it has ended, and whoever still holds the pipe is not waited for.
fn last_line(reader: OwnedFd) -> String {
    let mut words = vec![0; WORDS_LIMIT];
    let count = File::from(reader).read(&mut words).unwrap_or(0);
    let text = String::from_utf8_lossy(words.get(..count).unwrap_or_default()).into_owned();
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect()
}
