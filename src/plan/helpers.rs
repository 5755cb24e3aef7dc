//! The helper processes: what is started beside the main one, and how it is kept.

use super::programs::{Backoff, Program, check_command, identity, variables};
use super::unique_names;
use crate::config::{Config, Diagnostic, Diagnostics, Limit, MainRestart, Process, Ready, Restart, Start};
use crate::facts::Facts;
use crate::units::{Attributes, Signal};
use std::ffi::OsString;
use std::time::Duration;

/// One helper process.
#[derive(Clone, Debug)]
pub struct HelperPlan {
    pub name: String,
    pub program: Program,
    pub start: Start,
    /// It is ready at once where nothing is said.
    pub ready: Option<Ready>,
    pub ready_timeout: Duration,
    pub restart: Restart,
    pub backoff: Backoff,
    /// More restarts than that end the container.
    pub limit: Limit,
    pub stop_signal: Signal,
    /// Those that it gets instead of the main process.
    pub signals: Vec<Signal>,
    /// From its stop signal to its SIGKILL.
    pub grace: Duration,
    /// Its lines carry its name.
    pub has_label: bool,
}

/// Whether and how often the main process is started again.
#[derive(Clone, Copy, Debug)]
pub struct MainRestartPlan {
    pub when: MainRestart,
    pub limit: Limit,
    pub backoff: Backoff,
}

impl MainRestartPlan {
    /// After an end of its own.
    pub fn after_end(&self, is_success: bool) -> bool {
        match self.when {
            MainRestart::Never | MainRestart::OnUnhealthy => false,
            MainRestart::OnFailure => !is_success,
            MainRestart::Always => true,
        }
    }

    pub fn is_ever(&self) -> bool {
        self.when != MainRestart::Never
    }
}

/// As a helper's: a service that fails at once is not started in a busy loop.
const MAIN_BACKOFF: Backoff = Backoff { first: Duration::from_millis(500) };

pub(super) fn main_restart(
    config: &Config,
    has_health: bool,
    diagnostics: &mut Diagnostics,
) -> MainRestartPlan {
    let restart = &config.main.restart;
    if restart.value == MainRestart::OnUnhealthy && !has_health {
        diagnostics.push(
            Diagnostic::error(
                "nobody knows whether the service is healthy",
                &restart.place,
                "it is not probed",
            )
            .help("add [health] with http, tcp or exec"),
        );
    }
    MainRestartPlan { when: restart.value, limit: config.main.restart_limit.value, backoff: MAIN_BACKOFF }
}

pub(super) fn plan(
    config: &Config,
    facts: &Facts,
    has_health: bool,
    diagnostics: &mut Diagnostics,
) -> Vec<HelperPlan> {
    unique_names(config.processes.iter().map(|process| &process.name), "processes", diagnostics);
    config.processes.iter().map(|process| plan_one(process, facts, has_health, diagnostics)).collect()
}

fn plan_one(process: &Process, facts: &Facts, has_health: bool, diagnostics: &mut Diagnostics) -> HelperPlan {
    check_command(&process.command, diagnostics);
    if let Some(ready) = process.ready.as_ref().filter(|ready| ready.value != Ready::Notify)
        && !cfg!(feature = "agent")
    {
        let message = "this bookend was built without the agent: it opens no connections";
        diagnostics.push(
            Diagnostic::error(message, &ready.place, "").help("use the full build, or ready = \"notify\""),
        );
    }
    if process.start.value == Start::Healthy && !has_health {
        let message = format!("the process `{}` waits for a health that nobody looks at", process.name.value);
        diagnostics.push(
            Diagnostic::error(message, &process.start.place, "it would never be started")
                .help("add [health] with http, tcp or exec"),
        );
    }
    HelperPlan {
        name: process.name.value.clone(),
        program: Program {
            arguments: process.command.value.iter().map(OsString::from).collect(),
            identity: identity(process.user.as_ref(), facts, diagnostics),
            directory: process.workdir.as_ref().map(|path| path.value.clone()),
            environment: variables(&process.env.value),
            attributes: process.attributes.over(&Attributes::default()),
            stop_signal: Some(process.stop_signal.value),
        },
        start: process.start.value,
        ready: process.ready.as_ref().map(|ready| ready.value.clone()),
        ready_timeout: process.ready_timeout.value,
        restart: process.restart.value,
        backoff: Backoff { first: process.backoff.value },
        limit: process.limit.value,
        stop_signal: process.stop_signal.value,
        signals: process.signals.value.clone(),
        grace: process.grace.value,
        has_label: process.label.value,
    }
}
