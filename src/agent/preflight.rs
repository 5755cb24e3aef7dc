//! The declared needs, checked as the main process's user: all of them, so
//! that one start shows everything that is missing.

use crate::plan::{Plan, Preflight};
use crate::probe;
use crate::units::format_duration;
use nix::unistd::{AccessFlags, access};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::error;

/// Between two attempts to reach an address.
const PAUSE: Duration = Duration::from_millis(250);
/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Checks everything; the role's exit code.
pub fn preflight(plan: &Plan) -> u8 {
    let Some(needs) = &plan.preflight else {
        return crate::exit::SUCCESS;
    };
    let mut problems = local(plan, needs);
    if !needs.reachable.is_empty() {
        match super::runtime() {
            Ok(runtime) => problems.extend(runtime.block_on(remote(needs))),
            Err(error) => problems.push(format!("cannot look for addresses: {error}")),
        }
    }
    for problem in &problems {
        error!("preflight: {problem}");
    }
    if problems.is_empty() { crate::exit::SUCCESS } else { crate::exit::PREFLIGHT }
}

fn local(plan: &Plan, needs: &Preflight) -> Vec<String> {
    let mut problems = Vec::new();
    for path in &needs.files {
        if let Err(error) = access(path, AccessFlags::R_OK) {
            problems.push(format!("the file {} cannot be read: {}", path.display(), error.desc()));
        }
    }
    for name in &needs.variables {
        let set = plan
            .environment
            .iter()
            .chain(&plan.main.environment)
            .any(|(key, value)| key.to_str() == Some(name) && !value.is_empty());
        if !set {
            problems.push(format!("the environment variable {name} is not set, or empty"));
        }
    }
    for path in &needs.writable {
        if let Err(error) = access(path, AccessFlags::W_OK) {
            problems.push(format!("{} cannot be written: {}", path.display(), error.desc()));
        }
    }
    problems
}

/// Each address until it answers or the timeout is over.
async fn remote(needs: &Preflight) -> Vec<String> {
    let deadline = Instant::now() + needs.timeout;
    let mut problems = Vec::new();
    for need in &needs.reachable {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(reason) = probe::connect(&need.host, need.port, left.min(ATTEMPT)).await else {
                break;
            };
            if Instant::now() + PAUSE >= deadline {
                let waited = format_duration(needs.timeout);
                problems.push(format!("{need} was not reachable within {waited}: {reason}"));
                break;
            }
            sleep(PAUSE).await;
        }
    }
    problems
}
