//! Attaching once, soon after the JVM's start.
//!
//! With a full Java heap a first attach fails on every JDK, while a JVM that
//! was attached to once answers everything (facts: 1.4). So the agent does not
//! wait for trouble.

use super::artifact::quotable;
use crate::jvm::{self, Failure, Session, Target};
use crate::sys::process::Pid;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The first look; a JVM maps its library within milliseconds.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The slowest pace of looking.
const SLOWEST_LOOK: Duration = Duration::from_secs(2);
/// After that the main process is taken to be something else. Start scripts
/// that wait for a database first are the reason for its length.
const PATIENCE: Duration = Duration::from_mins(5);
/// For one attach.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a JVM may take from its first sight until it can be attached to.
const START: Duration = Duration::from_secs(15);
/// How often the JVM is looked at once it was attached to.
const WATCH: Duration = Duration::from_secs(5);

/// A JVM that was attached to.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) session: Session,
    /// Where it will dump its heap, if that was switched on now.
    pub(super) heap_dump: Option<PathBuf>,
}

/// Looks for the JVM below `main` and attaches to it; `None` if there is none,
/// which is logged. One that cannot be attached to is told once, and another
/// one is looked for: start scripts run short JVMs (`java -version`) first.
///
/// With `heap_dump` it is told to dump its heap there at an OutOfMemoryError, unless
/// its options say so already.
pub(super) async fn attach(main: Pid, heap_dump: Option<PathBuf>) -> Option<Attached> {
    let begun = Instant::now();
    let mut pause = FIRST_LOOK;
    // The JVM that was seen last, since when, and whether it was given up.
    let mut seen: Option<(Target, Instant, bool)> = None;
    while begun.elapsed() < PATIENCE {
        if let Some(target) = jvm::find(main) {
            let known = seen.take().filter(|(known, ..)| *known == target);
            let (_, since, given_up) = known.unwrap_or_else(|| (target.clone(), Instant::now(), false));
            let mut now_given_up = given_up;
            if !given_up {
                match Session::open(target.clone(), Instant::now() + ATTEMPT).await {
                    Ok(session) => {
                        let pid = session.target.pid.number();
                        info!(pid, version = session.version.full, "attached to the JVM");
                        let heap_dump = match heap_dump {
                            Some(path) => switch_on_heap_dump(&session, path).await,
                            None => None,
                        };
                        return Some(Attached { session, heap_dump });
                    }
                    // It was a short one, or is still starting.
                    Err(Failure::Gone { .. } | Failure::Broken { .. }) => {}
                    Err(Failure::WouldKill | Failure::NoAnswer | Failure::NoSocket { .. })
                        if since.elapsed() < START => {}
                    Err(error) => {
                        warn!("cannot attach to the JVM: {error}; evidence will be poorer");
                        now_given_up = true;
                    }
                }
            }
            seen = Some((target, since, now_given_up));
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST_LOOK);
    }
    if seen.is_none() {
        info!("no JVM found under the main process: thread and heap dumps are tried again when asked for");
    }
    None
}

/// By its manageable flags (`globals.hpp`). The path, if it was set.
async fn switch_on_heap_dump(session: &Session, path: PathBuf) -> Option<PathBuf> {
    let until = Instant::now() + ATTEMPT;
    let set = async {
        // Only what is not the default is listed.
        let flags = session.text("VM.flags", until).await.map_err(|error| error.to_string())?;
        if flags.contains("-XX:+HeapDumpOnOutOfMemoryError") {
            return Ok(false);
        }
        let text = quotable(&path)?;
        for line in [
            format!("VM.set_flag HeapDumpPath \"{text}\""),
            "VM.set_flag HeapDumpOnOutOfMemoryError 1".to_owned(),
        ] {
            session.text(&line, until).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(true)
    };
    match set.await {
        Ok(true) => {
            info!(path = %path.display(), "switched on while the JVM runs: a heap dump at an OutOfMemoryError");
            Some(path)
        }
        Ok(false) => None,
        Err(reason) => {
            warn!("no heap dump at an OutOfMemoryError: {reason}");
            None
        }
    }
}

/// Returns once the JVM is gone: what follows it is attached to anew.
pub(super) async fn until_gone(target: Target) {
    while target.is_there() {
        sleep(WATCH).await;
    }
}
