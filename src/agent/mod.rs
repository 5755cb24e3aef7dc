//! The second process: evidence.
//!
//! Runs as the main process's user (the attach protocol asks for the same uid
//! and gid), started by the supervisor as a fork of itself, so that it shares
//! the plan and needs neither a file to exec nor a configuration to read
//! again. It may crash, hang or be killed: nothing of the service depends on
//! it. Owns the order of capture; knows the JVM, bundles and the store.

mod artifact;
mod budget;
mod control;
mod elsewhere;
mod event;
mod gate;
mod health;
mod journal;
mod ladder;
mod last_resort;
mod notifying;
mod outlook;
mod platform;
mod preflight;
mod prober;
mod protection;
mod rules;
mod sampler;
mod service;
mod shipping;
mod status;
mod storing;
mod task;
mod warm;
mod who;

pub use artifact::{
    HEAP_SUMMARY, HeapDump, Origin, capture_heap, capture_histogram, capture_recording, capture_threads,
};
pub use budget::Rates;
pub use control::{ERROR, NOTHING, Request, sockets, sockets_above};
pub use gate::gate;
pub use journal::{Line, What};
pub use preflight::preflight;
pub use prober::Prober;
pub use status::{HeapStatus, Status};

use crate::output::Ring;
use crate::plan::{Plan, StorePlan, Variables, environment_of};
use crate::store::make_for;
use crate::sys::signals::Inherited;
use std::os::fd::OwnedFd;
use tracing::{error, info};

/// Makes the control socket's folder, and the store's directory, for the main process's user, if it is not
/// there. Called with bookend's own rights, before they are given up; what does
/// not work out is told by the agent's own look at the store.
pub fn prepare(plan: &Plan) {
    control::prepare(plan);
    let (Some(evidence), Some(identity)) = (&plan.evidence, &plan.main.identity) else { return };
    // A bucket is nobody's to make; the spool is.
    let folder = match &evidence.store {
        StorePlan::Directory(root) => root,
        StorePlan::Bucket(_) | StorePlan::Web { .. } => &evidence.spool,
    };
    if let Ok(true) = make_for(folder, identity.user, identity.group) {
        info!(user = identity.name, folder = %folder.display(), "a directory was not there: made it");
    }
}

/// Runs until the supervisor says so, or is gone. The role's exit code.
pub fn run(
    plan: &Plan,
    exported: &Variables,
    link: OwnedFd,
    ring: Option<Ring>,
    farewell: Option<OwnedFd>,
    for_children: Inherited,
) -> u8 {
    let variables = environment_of(&plan.environment, exported, &plan.main);
    crate::evidence::remember_secrets(
        variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?))),
    );
    crate::sys::memory::give_back_what_is_freed();
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(service::serve(plan, exported, link, ring, farewell, for_children));
            // A probe that hangs must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            error!("the agent cannot start: {error}");
            crate::exit::KERNEL
        }
    }
}

/// One thread, as for every role and verb that waits for the network or a JVM.
///
/// # Errors
/// The kernel gives no epoll descriptor.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().thread_keep_alive(WORKER_LIFE).build()?;
    // Where no thread more is allowed (the very trouble that is to be captured) work waits for
    // a worker that is there; without any there would be a panic.
    if elsewhere::has_threads() {
        runtime.spawn_blocking(|| {});
    }
    Ok(runtime)
}

/// A worker that is not needed stays: longer than any container.
const WORKER_LIFE: std::time::Duration = std::time::Duration::from_hours(24 * 3650);
