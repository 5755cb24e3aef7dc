//! The declared needs, checked as the main process's user: all of them, so
//! that one start shows everything that is missing.

use crate::config::{OnMismatch, Reachable};
use crate::plan::{Plan, Preflight, Release, ReleasePlan};
use crate::probe;
use crate::units::format_duration;
use nix::unistd::{AccessFlags, access};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

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
    if let Some(release) = &plan.release {
        problems.extend(another_release(plan, release));
    }
    for problem in &problems {
        error!("preflight: {problem}");
    }
    if problems.is_empty() { crate::exit::SUCCESS } else { crate::exit::PREFLIGHT }
}

/// That another release runs than the one that is meant to; or a word in the log, if that is wanted.
fn another_release(plan: &Plan, release: &ReleasePlan) -> Option<String> {
    let actual = match &release.actual {
        Release::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("cannot read {}: {error}", path.display())),
        Release::Digest(digest) => Ok(digest.clone()),
        Release::Ecs => match super::runtime() {
            Ok(runtime) => runtime.block_on(super::task::ask(plan)).and_then(|task| {
                task.image_digest.ok_or_else(|| "the task metadata has no ImageID".to_owned())
            }),
            Err(error) => Err(error.to_string()),
        },
    };
    let problem = match actual {
        Ok(actual) if release.is_met_by(&actual) => {
            info!(release = actual, "this is the release that is expected");
            return None;
        }
        Ok(actual) => format!("this is release {actual}, and {} is expected: a stale tag?", release.expect),
        Err(reason) => format!("whether this is release {} cannot be told: {reason}", release.expect),
    };
    if release.on_mismatch == OnMismatch::Stop {
        return Some(problem);
    }
    warn!("{problem}");
    None
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

/// All addresses at once, each until it answers or the timeout is over.
async fn remote(needs: &Preflight) -> Vec<String> {
    let timeout = needs.timeout;
    let mut waiting = JoinSet::new();
    for need in needs.reachable.clone() {
        waiting.spawn(wait_for(need, timeout));
    }
    waiting.join_all().await.into_iter().flatten().collect()
}

async fn wait_for(need: Reachable, timeout: Duration) -> Option<String> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let reason = probe::connect(&need.host, need.port, left.min(ATTEMPT)).await.err()?;
        if Instant::now() + PAUSE >= deadline {
            return Some(format!("{need} was not reachable within {}: {reason}", format_duration(timeout)));
        }
        sleep(PAUSE).await;
    }
}
