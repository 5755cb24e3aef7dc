//! `bookend healthcheck`: one line on standard output (ECS once counted any
//! output on standard error as a failure), exit code 0 or 1.
//!
//! The agent knows best; without one, the probe of the configuration is asked here.

use super::arguments::Healthcheck;
use super::{operator, output};
use crate::agent::{Prober, Status};
use crate::config::{self, Inputs};
use crate::exit;
use crate::facts::Facts;
use crate::plan::{self, Variables};
use crate::probe;
use crate::sys::signals::Inherited;
use crate::units::format_duration;
use std::ffi::OsString;
use std::time::{Duration, Instant};

pub(super) fn healthcheck(
    environment: Vec<(OsString, OsString)>,
    inherited: &Inherited,
    arguments: &Healthcheck,
) -> u8 {
    let verdict = match &arguments.address {
        Some(address) => by_connection(address, arguments.timeout),
        None => match operator::fetch() {
            Ok(status) if status.health.is_some() => judge(&status, arguments.hold_while_capturing),
            _ => by_probe(environment, inherited, arguments),
        },
    };
    match verdict {
        Ok(text) => {
            output::say(&format!("{text}\n"));
            exit::SUCCESS
        }
        Err(text) => {
            output::say(&format!("{text}\n"));
            exit::FAILURE
        }
    }
}

/// By what the agent has seen.
fn judge(status: &Status, hold: Option<Duration>) -> Result<String, String> {
    let Some(health) = &status.health else {
        return Err("unhealthy: nothing is known".to_owned());
    };
    let mut text =
        format!("{} for {}", health.state, format_duration(Duration::from_secs(health.for_seconds)));
    if let Some(reason) = &health.last_failure {
        text.push_str("; last failure: ");
        text.push_str(reason);
    }
    let is_held = status.capturing.as_ref().is_some_and(|capturing| {
        ["unhealthy", "failing"].contains(&capturing.trigger.as_str())
            && hold.is_some_and(|hold| Duration::from_secs(capturing.for_seconds) < hold)
    });
    match health.state.as_str() {
        // Not yet often enough: the threshold is the configuration's.
        "healthy" | "failing" => Ok(text),
        "unhealthy" if is_held => Ok(format!("healthy for the moment, while evidence is captured: {text}")),
        _ => Err(text),
    }
}

fn by_connection(address: &config::Reachable, limit: Duration) -> Result<String, String> {
    let begun = Instant::now();
    let runtime = crate::agent::runtime().map_err(|error| format!("unhealthy: cannot probe: {error}"))?;
    match runtime.block_on(probe::connect(&address.host, address.port, limit)) {
        Ok(_) => Ok(format!("healthy: {address} answered in {}", format_duration(begun.elapsed()))),
        Err(reason) => Err(format!("unhealthy: {reason}")),
    }
}

/// The agent is down, or there is none: once, by ourselves.
fn by_probe(
    environment: Vec<(OsString, OsString)>,
    inherited: &Inherited,
    arguments: &Healthcheck,
) -> Result<String, String> {
    let inputs = Inputs {
        file: arguments.source.config.clone(),
        environment: environment.clone(),
        overrides: arguments.source.set.clone(),
        explain: false,
    };
    let (config, _, mut diagnostics) = config::load(&inputs);
    let facts = Facts::gather(environment);
    let plan = plan::make(&config, &facts, &["unknown".into()], &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err("unhealthy: the configuration is wrong; `bookend check` shows where".to_owned());
    }
    let Some((plan, health)) = plan.as_ref().and_then(|plan| Some((plan, plan.health.as_ref()?))) else {
        return Err(
            "unhealthy: there is nothing to ask: name tcp://HOST:PORT, or configure [health]".to_owned()
        );
    };
    let begun = Instant::now();
    let runtime = crate::agent::runtime().map_err(|error| format!("unhealthy: cannot probe: {error}"))?;
    let answer = runtime.block_on(async {
        Prober::new(plan, &Variables::new(), health, *inherited)?
            .ask(arguments.timeout.min(health.timeout))
            .await
    });
    match answer {
        Ok(()) => Ok(format!("healthy: answered in {}", format_duration(begun.elapsed()))),
        Err(reason) => Err(format!("unhealthy: {reason}")),
    }
}
