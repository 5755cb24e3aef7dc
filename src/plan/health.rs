//! How the service is probed.

use super::programs::Program;
use crate::config::{Config, Diagnostic, Diagnostics, Reachable};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The probe, its pace, and what its answers mean.
#[derive(Clone, Debug)]
pub struct HealthPlan {
    pub probe: ProbePlan,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

/// One of the three ways to ask.
#[derive(Clone, Debug)]
pub enum ProbePlan {
    Http {
        url: String,
        headers: BTreeMap<String, String>,
        status: Vec<u16>,
        body: Option<String>,
        insecure: bool,
        ca_file: Option<PathBuf>,
    },
    Tcp(Reachable),
    /// As the main process's user, in its directory, with its environment.
    Exec(Program),
}

/// How many answers make a state. Without `[health]`, where the platform alone says it, its
/// own thresholds hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thresholds {
    /// Failures before readiness do not count so long.
    pub start_period: Duration,
    pub failing_after: u32,
    pub unhealthy_after: u32,
    pub healthy_after: u32,
}

pub(super) fn plan(
    config: &Config,
    main: Option<&Program>,
    diagnostics: &mut Diagnostics,
) -> Option<HealthPlan> {
    let health = &config.health;
    let places: Vec<_> = [
        health.http.as_ref().map(|setting| &setting.place),
        health.tcp.as_ref().map(|setting| &setting.place),
        health.exec.as_ref().map(|setting| &setting.place),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let [first, second, ..] = places[..] {
        diagnostics.push(
            Diagnostic::error("there is more than one probe", second, "the second")
                .and(first, "the first")
                .help("keep one of http, tcp and exec"),
        );
    }
    let first = places.first()?;
    if !cfg!(feature = "agent") {
        let message = "this bookend was built without the agent: it probes nothing";
        diagnostics.push(Diagnostic::error(message, first, "").help("use the full build"));
    }
    let thresholds = Thresholds {
        start_period: health.start_period.value,
        failing_after: health.failing_after.value,
        unhealthy_after: health.unhealthy_after.value,
        healthy_after: health.healthy_after.value,
    };
    for (what, setting) in [
        ("failing_after", &health.failing_after),
        ("unhealthy_after", &health.unhealthy_after),
        ("healthy_after", &health.healthy_after),
    ] {
        if setting.value == 0 {
            diagnostics.push(Diagnostic::error(format!("{what} is zero"), &setting.place, "at least 1"));
        }
    }
    if thresholds.failing_after > thresholds.unhealthy_after {
        diagnostics.push(
            Diagnostic::error(
                "unhealthy would come before failing",
                &health.failing_after.place,
                "more than unhealthy_after",
            )
            .help(format!("unhealthy_after is {}", thresholds.unhealthy_after)),
        );
    }
    for (what, setting) in [("interval", &health.interval), ("timeout", &health.timeout)] {
        if setting.value.is_zero() {
            diagnostics.push(Diagnostic::error(
                format!("the {what} is zero"),
                &setting.place,
                "write \"2s\"",
            ));
        }
    }
    Some(HealthPlan {
        probe: probe(config, main, diagnostics)?,
        interval: health.interval.value,
        timeout: health.timeout.value,
        thresholds,
    })
}

fn probe(config: &Config, main: Option<&Program>, diagnostics: &mut Diagnostics) -> Option<ProbePlan> {
    let health = &config.health;
    if let Some(url) = &health.http {
        let status: Vec<u16> =
            health.expect.status.value.iter().filter_map(|status| u16::try_from(*status).ok()).collect();
        if status.is_empty() || status.iter().any(|status| !(100..1000).contains(status)) {
            let place = &health.expect.status.place;
            diagnostics.push(Diagnostic::error("no such HTTP status", place, "100 to 999, at least one"));
        }
        return Some(ProbePlan::Http {
            url: url.value.0.clone(),
            headers: health.headers.value.clone(),
            status,
            body: health.expect.body.as_ref().map(|body| body.value.clone()),
            insecure: health.insecure.value,
            ca_file: health.ca_file.as_ref().map(|path| path.value.clone()),
        });
    }
    if let Some(address) = &health.tcp {
        return Some(ProbePlan::Tcp(address.value.0.clone()));
    }
    let command = health.exec.as_ref()?;
    super::programs::check_command(command, diagnostics);
    let arguments: Vec<OsString> = command.value.iter().map(OsString::from).collect();
    Some(ProbePlan::Exec(Program { arguments, stop_signal: None, ..main?.clone() }))
}
