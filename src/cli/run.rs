//! `bookend run`: read, plan, and become the supervisor.

use super::arguments::Run;
use super::output;
use crate::config::{self, Diagnostics, Inputs};
use crate::exit;
use crate::facts::Facts;
use crate::plan;
use crate::supervisor::{self, Roles};
use crate::sys::signals::Inherited;
use crate::sys::spawn::exit_now;
use crate::telemetry;
use std::ffi::OsString;

pub(super) fn run(inherited: &Inherited, environment: Vec<(OsString, OsString)>, run: &Run) -> u8 {
    let inputs = Inputs {
        file: run.source.config.clone(),
        environment: environment.clone(),
        overrides: run.source.set.clone(),
        explain: false,
    };
    let (config, _, mut diagnostics) = config::load(&inputs);
    let facts = Facts::gather(environment);
    let plan = plan::make(&config, &facts, &run.command, &mut diagnostics);
    if !diagnostics.is_empty() {
        output::complain(&refusal(&diagnostics));
        return exit::CONFIGURATION;
    }
    let Some(mut plan) = plan else {
        output::complain(
            "error: there is no command to run\n\
             \x20 help: bookend run -- COMMAND ARG..., or set main.command in the configuration\n",
        );
        return exit::CONFIGURATION;
    };
    plan.log.format = run.log_format.unwrap_or(plan.log.format);
    plan.log.level = run.log_level.unwrap_or(plan.log.level);
    telemetry::start(plan.log);
    let code = supervisor::run(&plan, inherited, ROLES);
    // Everything is said and written; the kernel frees faster than we would.
    exit_now(code)
}

/// All errors, and what follows from them.
pub(super) fn refusal(diagnostics: &Diagnostics) -> String {
    let count = diagnostics.len();
    let errors = if count == 1 { "error" } else { "errors" };
    format!("{}bookend: {count} {errors} in the configuration; nothing was started\n", diagnostics.render())
}

#[cfg(feature = "agent")]
const ROLES: Roles = Roles {
    preflight: crate::agent::preflight,
    prepare_agent: crate::agent::prepare,
    gate: crate::agent::gate,
    agent: crate::agent::run,
};

/// Without the agent there is nothing to fork for; the plan has refused
/// whatever would need it.
#[cfg(not(feature = "agent"))]
const ROLES: Roles = Roles {
    preflight: |_| exit::INTERNAL,
    prepare_agent: |_| {},
    gate: |_, _, _| exit::INTERNAL,
    agent: |_, _, _, _, _, _| exit::INTERNAL,
};
