//! `bookend check`: the same errors as at start, or what is in force and why.

use super::arguments::Check;
use super::output;
use super::run::refusal;
use crate::config::{self, Capture, Inputs, Place};
use crate::exit;
use crate::facts::Facts;
use crate::plan::{self, Plan, RulePlan};
use crate::units::format_duration;
use std::ffi::OsString;

pub(super) fn check(environment: Vec<(OsString, OsString)>, check: &Check) -> u8 {
    let inputs = Inputs {
        file: check.file.clone().or_else(|| check.source.config.clone()),
        environment: environment.clone(),
        overrides: check.source.set.clone(),
        explain: true,
    };
    let (config, journal, mut diagnostics) = config::load(&inputs);
    let facts = Facts { is_elsewhere: check.elsewhere, ..Facts::gather(environment) };
    // A file without a command is good: the image's CMD gives it.
    let command = if config.main.command.is_none() { vec!["COMMAND".into()] } else { Vec::new() };
    let plan = plan::make(&config, &facts, &command, &mut diagnostics);
    if !diagnostics.is_empty() {
        output::complain(&refusal(&diagnostics).replace("; nothing was started", ""));
        return exit::CONFIGURATION;
    }
    let mut rows: Vec<(String, String, String)> = journal
        .into_iter()
        .map(|entry| {
            let source = match &entry.place {
                Place::Default(_) => "default".to_owned(),
                place @ Place::Written { .. } => diagnostics.describe(place),
            };
            (entry.path, entry.value, source)
        })
        .collect();
    if let Some(plan) = &plan {
        rows.extend(resolved(plan, &rows));
    }
    output::say(&table(&rows));
    if let Some(plan) = plan.as_ref().filter(|plan| !plan.jvm_options.is_empty()) {
        output::say(&format!("# [jvm] adds to JDK_JAVA_OPTIONS: {}\n", plan.jvm_options.join(" ")));
    }
    if config.rules.is_empty() {
        for rule in plan.iter().filter_map(|plan| plan.evidence.as_ref()).flat_map(|evidence| &evidence.rules)
        {
            output::say(&default_rule(rule));
        }
    }
    exit::SUCCESS
}

/// `# default rule unhealthy: on unhealthy, captures os, vm, threads`.
fn default_rule(rule: &RulePlan) -> String {
    let captures: Vec<&str> = rule.capture.iter().map(Capture::name).collect();
    let condition = if rule.when.is_some() { " of a service that is unhealthy" } else { "" };
    format!(
        "# default rule {}: on {}{condition}, captures {}\n",
        rule.name,
        rule.on.name(),
        captures.join(", ")
    )
}

/// What nobody wrote and the plan decided.
fn resolved(plan: &Plan, written: &[(String, String, String)]) -> Vec<(String, String, String)> {
    let duration = |span| format!("\"{}\"", format_duration(span));
    let source = |text: &str| text.to_owned();
    let all = [
        ("service.name", format!("\"{}\"", plan.service), source("default: the host name")),
        ("stop.grace", duration(plan.stop.grace), plan.stop.grace_source.clone()),
        ("stop.margin", duration(plan.stop.margin), source("default: 1s, at most a tenth of the grace")),
        ("main.reserve", duration(plan.stop.reserve), source("default: a third of the grace")),
        (
            "main.user",
            format!("\"{}\"", nix::unistd::geteuid()),
            source("default: the user that bookend runs as"),
        ),
        ("main.command", "what follows --".to_owned(), source("default")),
        ("main.stop_signal", "the signal received".to_owned(), source("default")),
    ];
    all.into_iter()
        .filter(|(path, ..)| !written.iter().any(|(known, ..)| known == path))
        .map(|(path, value, source)| (path.to_owned(), value, source))
        .collect()
}

fn table(rows: &[(String, String, String)]) -> String {
    let width = |column: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| column(row).chars().count()).filter(|width| *width <= 48).max().unwrap_or(0)
    };
    let (paths, values) = (width(|row| &row.0), width(|row| &row.1));
    let mut text = String::new();
    for (path, value, source) in rows {
        text.push_str(&format!("{path:paths$} = {value:values$}  # {source}\n"));
    }
    text
}
