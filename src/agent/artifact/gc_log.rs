//! `gc-log`: the file that the JVM's flags name; or, where they name none, a log of
//! collections and safepoints that begins now, through a FIFO.
//!
//! `VM.log` adds an output while the JVM runs. A FIFO needs no space, and the JVM
//! survives its reader's end; but a full one would stop whoever logs, so that it is
//! drained from before its first word until after its last (facts: section 2).

use super::files::{read_end, without_secrets};
use super::heap::quotable;
use super::write_text;
use crate::agent::elsewhere::has_threads;
use crate::evidence::{ArtifactRecord, Bundle};
use crate::jvm::{Failure, Session, gc_log_files};
use crate::units::ByteSize;
use nix::sys::stat::Mode;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const ARTIFACT: &str = "gc-log";
const NAME: &str = "gc.log";
/// For a command that needs no safepoint.
const PATIENCE: Duration = Duration::from_secs(1);
/// No log of an event is longer. Bytes.
const LIMIT: usize = 16 << 20;
/// How often an empty pipe is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// The end of the file that the JVM's own options name; `None` where they name none.
pub(in crate::agent) fn capture_gc_log(
    session: &Session,
    bundle: &Bundle,
    last: ByteSize,
) -> Option<ArtifactRecord> {
    let begun = Instant::now();
    let path = gc_log_files(&session.target)
        .into_iter()
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()?
        .1;
    Some(match read_end(&path, last.0) {
        Ok(bytes) => write_text(bundle, ARTIFACT, NAME, &without_secrets(bytes), begun)
            .with_note(&path.display().to_string()),
        Err(error) => {
            ArtifactRecord::failed(ARTIFACT, format!("{}: {error}", path.display()), begun.elapsed())
        }
    })
}

/// A log that runs beside the rest of an event.
#[derive(Debug)]
pub(in crate::agent) struct GcLog {
    path: PathBuf,
    begun: Instant,
    is_over: Arc<AtomicBool>,
    drained: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl GcLog {
    /// Begins it.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::agent) async fn begin(session: &Session, bundle: &Bundle) -> Result<Self, ArtifactRecord> {
        let begun = Instant::now();
        if !has_threads() {
            let reason = "no thread can be had to drain it";
            return Err(ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed()));
        }
        let path = bundle.unfinished(NAME);
        let begin = async {
            let text = quotable(&path)?.to_owned();
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|error| format!("cannot make a FIFO: {}", error.desc()))?;
            // Both ends: it is never at its end while the JVM has not opened it.
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|error| format!("cannot open a FIFO: {error}"))?;
            // By descriptor, and before the folder is lent: the name may be somebody else's then.
            let (user, group) = (session.target.user, session.target.group);
            std::os::unix::fs::fchown(&file, Some(user), Some(group))
                .and_then(|()| bundle.lend(user, group))
                .map_err(|error| format!("cannot lend it to the JVM's user: {error}"))?;
            let is_over = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&is_over);
            let drained = tokio::task::spawn_blocking(move || drain(file, &flag));
            let line = format!(
                "VM.log output=\"{text}\" what=gc*=debug,safepoint=info decorators=time,uptime,level,tags"
            );
            let answer = session.text(&line, Instant::now() + PATIENCE).await;
            // It has opened it, and needs the folder no longer.
            let taken_back =
                bundle.take_back().map_err(|error| format!("cannot take the folder back: {error}"));
            match (answer, taken_back) {
                // No answer yet: it may do it later, and is told to end it all the same.
                (Ok(_) | Err(Failure::NoAnswer), Ok(())) => Ok((is_over, drained)),
                (answer, taken_back) => {
                    is_over.store(true, Ordering::Relaxed);
                    let reason = answer.err().map(|error| error.to_string()).or(taken_back.err());
                    Err(reason.unwrap_or_default())
                }
            }
        };
        match begin.await {
            Ok((is_over, drained)) => Ok(Self { path, begun, is_over, drained }),
            Err(reason) => {
                drop(bundle.take_back());
                bundle.discard(NAME);
                Err(ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed()))
            }
        }
    }

    /// Ends it, and takes what it said.
    pub(in crate::agent) async fn end(self, session: &Session, bundle: &Bundle) -> ArtifactRecord {
        let text = self.path.display().to_string();
        // An output that logs nothing is removed (`logConfiguration.cpp`).
        let line = format!("VM.log output=\"{text}\" what=all=off");
        let trouble = session.text(&line, Instant::now() + PATIENCE).await.err();
        self.is_over.store(true, Ordering::Relaxed);
        let drained = self.drained.await;
        bundle.discard(NAME);
        let took = self.begun.elapsed();
        match drained {
            Ok(Ok(bytes)) => {
                let record = write_text(bundle, ARTIFACT, NAME, &without_secrets(bytes), self.begun)
                    .with_note("the JVM's options name no log: this one began with the event");
                match trouble {
                    None => record,
                    Some(error) => record.with_note(&format!("the JVM was not told to end it: {error}")),
                }
            }
            Ok(Err(error)) => {
                ArtifactRecord::failed(ARTIFACT, format!("cannot read the FIFO: {error}"), took)
            }
            Err(error) => ArtifactRecord::failed(ARTIFACT, error.to_string(), took),
        }
    }
}

fn drain(mut file: std::fs::File, is_over: &AtomicBool) -> std::io::Result<Vec<u8>> {
    let mut log = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        // Looked at first: what was written before it is still read.
        let was_over = is_over.load(Ordering::Relaxed);
        match file.read(&mut piece) {
            Ok(0) => return Ok(log),
            Ok(size) => {
                let room = LIMIT.saturating_sub(log.len());
                log.extend_from_slice(piece.get(..size.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if was_over {
                    return Ok(log);
                }
                std::thread::park_timeout(LOOK);
            }
            Err(error) => return Err(error),
        }
    }
}
