//! Running a program within a time: does it say that all is well?

use crate::sys::descriptors;
use crate::sys::process::{self, Pid, Status, Waited};
use crate::sys::signals::Inherited;
use crate::sys::spawn::{self, Image, Streams};
use crate::units::{Signal, format_duration};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// So much of what it says is kept: its last line tells why. Bytes.
const WORDS_LIMIT: usize = 4096;

/// A probe takes a few milliseconds, mostly.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const SLOWEST_LOOK: Duration = Duration::from_millis(20);
/// For what it said last: it is in the pipe already.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// None if it was killed at the time's end.
    pub status: Option<Status>,
    /// The end of what it printed.
    pub words: Vec<u8>,
}

/// Runs `image` to its end; well is exit code 0. At the time's end it is killed,
/// with everything in its group.
///
/// # Errors
/// Its last line or its exit code, or that the time was up.
pub async fn exec(image: Image, inherited: Inherited, limit: Duration) -> Result<(), String> {
    let command = name(&image);
    let ended = run(image, inherited, limit, WORDS_LIMIT).await?;
    match ended.status {
        None => Err(format!("`{command}` did not end within {}", format_duration(limit))),
        Some(status) if status.is_success() => Ok(()),
        Some(status) => {
            let line = last_line(&ended.words);
            Err(if line.is_empty() { format!("{status}") } else { format!("{status}: {line}") })
        }
    }
}

fn name(image: &Image) -> String {
    image.arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs `image` to its end, or kills it at the time's end; the last `keep` bytes of
/// what it printed stay.
///
/// # Errors
/// Why it cannot be run, or how it ended is not known.
pub async fn run(
    mut image: Image,
    inherited: Inherited,
    limit: Duration,
    keep: usize,
) -> Result<Ended, String> {
    let (reader, writer) = descriptors::pipe().map_err(|error| format!("cannot run it: {}", error.desc()))?;
    image.streams = Streams::Captured(writer.as_raw_fd());
    let command = name(&image);
    let pid = spawn::spawn(&image, &inherited).map_err(|failure| {
        process::reap_ended();
        format!("cannot run `{command}`: {}", failure.error.desc())
    })?;
    drop(writer);
    let mut guard = KillOnDrop { pid, is_over: false };
    let mut output =
        Receiver::from_owned_fd(reader).map_err(|error| format!("cannot read what it says: {error}"))?;
    let ended = end_of(pid);
    tokio::pin!(ended);
    let mut words = Vec::new();
    let mut piece = vec![0; 16 << 10];
    let status = tokio::time::timeout(limit, async {
        let mut is_open = true;
        loop {
            tokio::select! {
                status = &mut ended => return status,
                // Read all the time: a full pipe would stop it.
                read = output.read(&mut piece), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(size) => keep_tail(&mut words, piece.get(..size).unwrap_or_default(), keep),
                },
            }
        }
    })
    .await;
    // What is left in the pipe; whoever still holds it is not waited for.
    let rest = async {
        while let Ok(size @ 1..) = output.read(&mut piece).await {
            keep_tail(&mut words, piece.get(..size).unwrap_or_default(), keep);
        }
    };
    let _still_open = tokio::time::timeout(LAST_WORDS, rest).await;
    match status {
        // The guard kills it.
        Err(_) => Ok(Ended { status: None, words }),
        Ok(Some(status)) => {
            guard.is_over = true;
            Ok(Ended { status: Some(status), words })
        }
        Ok(None) => Err(format!("nobody knows how `{command}` ended")),
    }
}

/// How it ended, once it did; `None` if nobody knows. Looked at now and then: a thread that
/// waits may not be had where one is needed most.
async fn end_of(pid: Pid) -> Option<Status> {
    let mut pause = FIRST_LOOK;
    loop {
        match process::wait_now(pid) {
            Waited::Ended(status) => return Some(status),
            Waited::Unknown => return None,
            Waited::Runs => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(SLOWEST_LOOK);
    }
}

/// Nobody waits for it any more: it and its group are killed.
struct KillOnDrop {
    pid: Pid,
    is_over: bool,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let _gone = process::signal_group(self.pid, Signal::KILL);
        let pid = self.pid;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Collected when it is gone, whoever waited.
            drop(runtime.spawn(async move { end_of(pid).await }));
        }
    }
}

fn keep_tail(words: &mut Vec<u8>, piece: &[u8], keep: usize) {
    words.extend_from_slice(piece);
    let excess = words.len().saturating_sub(keep);
    words.drain(..excess);
}

fn last_line(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines.next().unwrap_or_default().chars().take(200).collect()
}
