//! Attaching once, soon after the JVM's start.
//!
//! With a full Java heap a first attach fails on every JDK, while a JVM that
//! was attached to once answers everything (facts: 1.4). So the agent does not
//! wait for trouble.

use crate::jvm::{self, Session};
use crate::sys::process::Pid;
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

/// Looks for the JVM below `main` and attaches to it; `None` if there is none,
/// or it cannot be attached to, which is logged once.
pub(super) async fn attach(main: Pid) -> Option<Session> {
    let begun = Instant::now();
    let mut pause = FIRST_LOOK;
    loop {
        let mut said = None;
        if let Some(target) = jvm::find(main) {
            match Session::open(target, Instant::now() + ATTEMPT).await {
                Ok(session) => {
                    let pid = session.target.pid.number();
                    info!(pid, version = session.version.full, "attached to the JVM");
                    return Some(session);
                }
                // It has not yet set its handler, or is not yet ready to listen.
                Err(jvm::Failure::WouldKill) if begun.elapsed() < ATTEMPT => {}
                Err(jvm::Failure::NoAnswer | jvm::Failure::NoSocket { .. })
                    if begun.elapsed() < ATTEMPT * 3 => {}
                Err(error) => said = Some(error),
            }
        }
        if let Some(error) = said {
            warn!("cannot attach to the JVM: {error}; evidence will be poorer");
            return None;
        }
        if begun.elapsed() > PATIENCE {
            info!(
                "no JVM found under the main process: thread and heap dumps are tried again when asked for"
            );
            return None;
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST_LOOK);
    }
}
