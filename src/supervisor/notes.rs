//! The supervisor's log lines: every word that it says.

use super::state::{Child, EvidenceEnd, Note, Reason};
use crate::plan::{Plan, Program};
use crate::sys::clock;
use crate::sys::process::Status;
use crate::sys::spawn::{self, Stage};
use crate::units::{ByteSize, Moment, format_duration};
use nix::errno::Errno;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// The child's name, as the configuration calls it.
pub(super) fn name(plan: &Plan, child: Child) -> String {
    let hook = |hooks: &[crate::plan::HookPlan], index: usize| {
        hooks.get(index).map_or_else(|| "hook".to_owned(), |hook| format!("hook `{}`", hook.name))
    };
    match child {
        Child::Preflight => "preflight".to_owned(),
        Child::Hook(index) => hook(&plan.hooks, index),
        Child::PostStop(index) => hook(&plan.post_stop, index),
        Child::Main => "main process".to_owned(),
        Child::Helper(index) => helper(plan, index),
        Child::Gate(index) => format!("readiness check of {}", helper(plan, index)),
        Child::Agent => "agent".to_owned(),
        Child::Carrier => "carrier of the output".to_owned(),
    }
}

/// Why the kernel did not start it, and what to do.
pub(super) fn not_started(plan: &Plan, child: Child, program: &Program, failure: spawn::Failure) {
    let name = name(plan, child);
    let command = program.arguments.first().map_or("", |command| command.to_str().unwrap_or("?"));
    let reason = failure.error.desc();
    match failure.stage {
        Stage::Fork if failure.error == Errno::EAGAIN => error!(
            "cannot start the {name}: no more processes are allowed here (pids limit of the container, \
             or RLIMIT_NPROC)"
        ),
        Stage::Fork => error!("cannot start the {name}: the kernel gives no new process: {reason}"),
        Stage::Credentials => error!("cannot start the {name}: cannot become its user: {reason}"),
        Stage::Directory => {
            let directory =
                program.directory.as_ref().map_or_else(String::new, |path| path.display().to_string());
            error!("cannot start the {name}: cannot go to its workdir {directory}: {reason}");
        }
        Stage::Attribute(attribute) => {
            error!(
                "cannot start the {name}: cannot set its {}: {reason}{}",
                attribute.name(),
                attribute.need()
            );
        }
        Stage::Execute if failure.code() == crate::exit::NOT_FOUND && !command.contains('/') => {
            error!("cannot start the {name}: `{command}` is not in PATH");
        }
        Stage::Execute => error!("cannot start the {name}: cannot run `{command}`: {reason}"),
    }
}

fn helper(plan: &Plan, index: usize) -> String {
    plan.helpers
        .get(index)
        .map_or_else(|| "process".to_owned(), |helper| format!("process `{}`", helper.name))
}

/// The one line of facts at start.
pub(super) fn boot(plan: &Plan) {
    let user = plan.main.identity.as_ref().map_or_else(
        || nix::unistd::geteuid().to_string(),
        |identity| format!("{}:{}", identity.user, identity.group),
    );
    let memory =
        plan.memory_limit.map_or_else(|| "unlimited".to_owned(), |bytes| ByteSize(bytes).to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        service = plan.service,
        service_source = plan.service_source,
        task = plan.task,
        image = plan.identity.image_digest.as_deref().unwrap_or("unknown"),
        platform = plan.platform.name(),
        pid = std::process::id(),
        user,
        memory,
        grace = format_duration(plan.stop.grace),
        grace_source = plan.stop.grace_source,
        "starting"
    );
    if !plan.jvm_options.is_empty() {
        info!(options = plan.jvm_options.join(" "), "added to JDK_JAVA_OPTIONS");
    }
    if !plan.is_pid_one {
        info!("not PID 1: running as a subreaper, so that orphans come to us all the same");
    }
}

pub(super) fn note(plan: &Plan, note: Note) {
    let remaining = |moment: Moment| format_duration(round(clock::now().until(moment)));
    let name = |child| name(plan, child);
    match note {
        Note::Stop { signal, deadline } if plan.stop.grace_is_known => {
            info!(%signal, deadline = remaining(deadline), "stop requested");
        }
        Note::Stop { signal, .. } => info!(%signal, "stop requested"),
        Note::StopRepeated { signal } => debug!(%signal, "stop requested again"),
        Note::Hurry => info!("asked again from the terminal: hurrying"),
        Note::Forwarding { signal } => info!(%signal, "stop signal passed on"),
        Note::NotForwarded { signal } => debug!(%signal, "no main process to pass the signal on to"),
        Note::Dropped { signal } => debug!(%signal, "signal dropped, as configured"),
        Note::EvidenceBegins { until } => info!(budget = remaining(until), "evidence begins"),
        Note::EvidenceEnds(EvidenceEnd::Captured) => info!("evidence captured"),
        Note::EvidenceEnds(EvidenceEnd::OutOfTime) => {
            warn!(
                "evidence ran out of time; what was not captured is in the manifest, if one could be written"
            );
        }
        Note::EvidenceEnds(EvidenceEnd::AgentLost) => warn!("no evidence: the agent is not there"),
        Note::EvidenceEnds(EvidenceEnd::Nothing) => warn!("no evidence"),
        Note::EvidenceEnds(EvidenceEnd::Skipped) => warn!("evidence skipped: asked to hurry"),
        Note::HookRetries { child, attempt, wait } => {
            info!(attempt, wait = format_duration(wait), "{} is tried again", name(child));
        }
        Note::HookFinishes { child, until } => {
            info!(at_most = remaining(until), "{} is left to finish: a stop waits for it", name(child));
        }
        Note::HookTimedOut { child } => warn!("{} did not end within its timeout: stopping it", name(child)),
        Note::HookFailed { child, code, aborts: true } => {
            error!(code, "{} failed: the main process is not started", name(child));
        }
        Note::HookFailed { child, code, aborts: false } => warn!(code, "{} failed: going on", name(child)),
        Note::Killing(child) => warn!("{} did not end in time: SIGKILL", name(child)),
        Note::KillingLeftovers => warn!("processes left in the container did not end in time: SIGKILL"),
        Note::NoTimeFor { child } => warn!("{} not run: no time left", name(child)),
        Note::AgentSilent => warn!("the agent has said nothing for a minute and a half: SIGKILL"),
        Note::Hold { until } => info!(at_most = remaining(until), "hold: the container will be kept"),
        Note::Holding { until } => {
            warn!(
                at_most = remaining(until),
                "held: the container stays as it is; `bookend release` ends it with the true exit code"
            );
        }
        Note::Released => info!("released"),
        Note::AgentRestarts { wait } => {
            warn!(
                wait = format_duration(wait),
                "the agent ended; the service is untouched; starting it again"
            );
        }
        Note::CarrierRestarts { wait } => {
            warn!(
                wait = format_duration(wait),
                "the carrier of the output ended; what was printed meanwhile waits in the pipe; starting it again"
            );
        }
        Note::HelperReady(index) => info!("{} is ready", helper(plan, index)),
        Note::HelperEnded(index) => info!("{} is not started again", helper(plan, index)),
        Note::HelperRestarts { index, wait } => {
            warn!(wait = format_duration(wait), "{} ended; starting it again", helper(plan, index));
        }
        Note::HelperFailed(index) => {
            error!(
                "{} did not become ready, or ended more often than its limit: the container ends",
                helper(plan, index)
            );
        }
        Note::HelperStays(index) => info!("{}: nothing is to be done", helper(plan, index)),
        Note::HelperStops { index, signal } => info!(%signal, "{} is stopped", helper(plan, index)),
        Note::MainIsRestarted { signal } => {
            warn!(%signal, "the main process is unhealthy and its evidence captured: restarting it");
        }
        Note::MainRestarts { wait } => {
            warn!(wait = format_duration(wait), "the main process ended; starting it again");
        }
        Note::MainRestartsTooOften => {
            error!("the main process was started again more often than restart_limit: the container ends");
        }
        Note::Lingers { until } => {
            info!(linger = remaining(until), "the service goes on for requests that still come");
        }
        Note::OutputCutOff => warn!("what the main process printed last is cut off: nobody reads it"),
        Note::Ends { code, reason } => ends(plan, code, reason),
    }
}

fn ends(plan: &Plan, code: u8, reason: Reason) {
    match reason {
        Reason::MainEnded => info!(code, "exit: the main process ended by itself"),
        Reason::Stopped => info!(code, "exit: stopped"),
        Reason::MainNotStarted => info!(code, "exit: the main process could not be started"),
        Reason::PreflightFailed => info!(code, "exit: preflight failed"),
        Reason::HelperFailed(index) => info!(code, "exit: {} could not be kept", helper(plan, index)),
        Reason::HookFailed(index) => info!(code, "exit: {} failed", name(plan, Child::Hook(index))),
    }
}

/// A child ended; `took` is its whole life.
pub(super) fn ended(plan: &Plan, child: Child, status: Status, took: Duration) {
    let took = format_duration(round(took));
    let name = name(plan, child);
    match child {
        Child::Agent | Child::Carrier | Child::Gate(_) => debug!(%status, took, "{name} ended"),
        Child::Preflight if status.is_success() => info!(took, "{name} passed"),
        Child::Main if status.is_success() => info!(%status, took, "{name} ended"),
        _ => info!(%status, took, "{name} ended"),
    }
}

/// To what a person wants to know.
fn round(span: Duration) -> Duration {
    let step = if span < Duration::from_secs(10) { 1 } else { 100 };
    let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(milliseconds / step * step)
}
