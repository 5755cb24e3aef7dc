//! The programs that will be run: main process, hooks, preflight.

use super::unique_names;
use crate::config::{
    self, Condition, Config, Diagnostic, Diagnostics, OnFailure, OnStop, Reachable, Setting, Stage,
};
use crate::facts::users::Identity;
use crate::facts::{Facts, Users};
use crate::units::{Attributes, Signal};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One program: what, as whom, where, with what added to its environment.
#[derive(Clone, Debug)]
pub struct Program {
    pub arguments: Vec<OsString>,
    /// Somebody else than we are; `None` stays who we are.
    pub identity: Option<Identity>,
    pub directory: Option<PathBuf>,
    pub environment: Vec<(OsString, OsString)>,
    pub attributes: Attributes,
    /// What it is sent for a stop, whatever we got; `None` passes on what we got.
    pub stop_signal: Option<Signal>,
}

/// One hook.
#[derive(Clone, Debug)]
pub struct HookPlan {
    pub name: String,
    pub program: Program,
    pub timeout: Duration,
    /// From its stop signal to its SIGKILL.
    pub grace: Duration,
    pub retries: u32,
    pub backoff: Backoff,
    pub on_failure: OnFailure,
    pub on_stop: OnStop,
    pub when: Option<Condition>,
    pub exports: bool,
}

/// The wait between two attempts: doubles from `first` to [`Backoff::CEILING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
}

impl Backoff {
    /// No wait is longer: half a minute is as slow as a database restart.
    pub const CEILING: Duration = Duration::from_secs(30);

    /// The wait before attempt number `retry` (from 1); `jitter` is 0–255 and
    /// takes off up to a quarter, so that a hundred tasks do not knock together.
    pub fn wait(self, retry: u32, jitter: u8) -> Duration {
        let doubled = self.first.saturating_mul(1 << retry.saturating_sub(1).min(16));
        let full = doubled.min(Self::CEILING.max(self.first));
        full.saturating_sub(full / 4 * u32::from(jitter) / 255)
    }
}

/// What must be there before anything starts.
#[derive(Clone, Debug)]
pub struct Preflight {
    pub files: Vec<PathBuf>,
    pub variables: Vec<String>,
    pub writable: Vec<PathBuf>,
    pub reachable: Vec<Reachable>,
    pub timeout: Duration,
}

pub(super) fn main(
    config: &Config,
    facts: &Facts,
    command: &[OsString],
    diagnostics: &mut Diagnostics,
) -> Option<Program> {
    let main = &config.main;
    let identity = identity(main.user.as_ref(), facts, diagnostics);
    let arguments: Vec<OsString> = if command.is_empty() {
        let written = main.command.as_ref()?;
        check_command(written, diagnostics);
        written.value.iter().map(OsString::from).collect()
    } else {
        command.to_vec()
    };
    Some(Program {
        arguments,
        identity,
        directory: main.workdir.as_ref().map(|path| path.value.clone()),
        environment: variables(&main.env.value),
        attributes: main.attributes.over(&Attributes::default()),
        stop_signal: main.stop_signal.as_ref().map(|signal| signal.value),
    })
}

pub(super) fn hooks(
    config: &Config,
    facts: &Facts,
    main: Option<&Program>,
    diagnostics: &mut Diagnostics,
) -> (Vec<HookPlan>, Vec<HookPlan>) {
    unique_names(config.hooks.iter().map(|hook| &hook.name), "hooks", diagnostics);
    let mut planned = (Vec::new(), Vec::new());
    for hook in &config.hooks {
        let plan = plan_hook(hook, facts, main, diagnostics);
        if hook.on_stop.value == OnStop::Finish && hook.stage.value == Stage::PreStart {
            check_time_to_finish(config, hook, diagnostics);
        }
        match hook.stage.value {
            Stage::PreStart => planned.0.push(plan),
            Stage::PostStop => planned.1.push(plan),
        }
    }
    planned
}

fn plan_hook(
    hook: &config::Hook,
    facts: &Facts,
    main: Option<&Program>,
    diagnostics: &mut Diagnostics,
) -> HookPlan {
    check_command(&hook.command, diagnostics);
    if hook.timeout.value.is_zero() {
        let message = format!("the hook `{}` has no time to run", hook.name.value);
        diagnostics.push(
            Diagnostic::error(message, &hook.timeout.place, "zero is not \"for ever\"")
                .help("write the longest time that it may take, such as \"30m\""),
        );
    }
    if hook.exports.value && hook.stage.value == Stage::PostStop {
        let message = format!("the hook `{}` has nobody to export to", hook.name.value);
        diagnostics.push(Diagnostic::error(
            message,
            &hook.exports.place,
            "nothing starts after a post-stop hook",
        ));
    }
    if hook.on_stop.value == OnStop::Finish && hook.stage.value == Stage::PostStop {
        let message = format!("the hook `{}` runs in a stop", hook.name.value);
        diagnostics.push(Diagnostic::error(
            message,
            &hook.on_stop.place,
            "a post-stop hook is left to finish anyway, within its timeout",
        ));
    }
    // A hook works where and as whom the main process does, unless it says otherwise.
    let identity = match &hook.user {
        Some(user) => identity(Some(user), facts, diagnostics),
        None => main.and_then(|main| main.identity.clone()),
    };
    let directory = match &hook.workdir {
        Some(path) => Some(path.value.clone()),
        None => main.and_then(|main| main.directory.clone()),
    };
    HookPlan {
        name: hook.name.value.clone(),
        program: Program {
            arguments: hook.command.value.iter().map(OsString::from).collect(),
            identity,
            directory,
            environment: variables(&hook.env.value),
            attributes: hook.attributes.over(main.map_or(&Attributes::default(), |main| &main.attributes)),
            stop_signal: None,
        },
        timeout: hook.timeout.value,
        grace: hook.grace.value,
        retries: hook.retries.value,
        backoff: Backoff { first: hook.backoff.value },
        on_failure: hook.on_failure.value,
        on_stop: hook.on_stop.value,
        when: hook.when.as_ref().map(|condition| condition.value.clone()),
        exports: hook.exports.value,
    }
}

/// Whoever leaves a hook its time must know how long that is: else it is killed without a word.
fn check_time_to_finish(config: &Config, hook: &config::Hook, diagnostics: &mut Diagnostics) {
    let name = &hook.name.value;
    match &config.stop.grace {
        None => diagnostics.push(
            Diagnostic::error(
                format!("nobody says how long the hook `{name}` may go on in a stop"),
                &hook.on_stop.place,
                "the platform's default may be less than it needs, or more than there is",
            )
            .help("add grace = \"...\" to [stop]: what the orchestrator gives"),
        ),
        Some(grace) if hook.grace.value >= grace.value => diagnostics.push(
            Diagnostic::error(
                format!("a stop leaves the hook `{name}` no time to finish"),
                &hook.grace.place,
                "its own grace comes off the end",
            )
            .and(&grace.place, "the whole of it"),
        ),
        Some(_) => {}
    }
}

pub(super) fn preflight(config: &Config, diagnostics: &mut Diagnostics) -> Option<Preflight> {
    let section = &config.preflight;
    if section.timeout.value.is_zero() {
        let place = &section.timeout.place;
        diagnostics.push(Diagnostic::error("the preflight has no time", place, "zero is not \"for ever\""));
    }
    if !cfg!(feature = "agent") && !section.reachable.value.is_empty() {
        let message = "this bookend was built without the agent: it opens no connections";
        diagnostics.push(
            Diagnostic::error(message, &section.reachable.place, "")
                .help("use the full build, or a hook that waits"),
        );
    }
    let preflight = Preflight {
        files: section.files.value.clone(),
        variables: section.env.value.clone(),
        writable: section.writable.value.clone(),
        reachable: section.reachable.value.clone(),
        timeout: section.timeout.value,
    };
    let is_empty = config.release.expect.as_ref().is_none_or(|expect| expect.value.is_empty())
        && preflight.files.is_empty()
        && preflight.variables.is_empty()
        && preflight.writable.is_empty()
        && preflight.reachable.is_empty();
    (!is_empty).then_some(preflight)
}

pub(super) fn check_command(command: &Setting<Vec<String>>, diagnostics: &mut Diagnostics) {
    let is_empty = command.value.first().is_none_or(String::is_empty);
    if is_empty {
        diagnostics.push(Diagnostic::error(
            "the command is empty",
            &command.place,
            "write [\"program\", \"argument\"]",
        ));
    }
}

/// Who `user` is; `None` if nobody was named, or we are that user already.
pub(super) fn identity(
    user: Option<&Setting<String>>,
    facts: &Facts,
    diagnostics: &mut Diagnostics,
) -> Option<Identity> {
    let user = user?;
    match facts.users.resolve(&user.value) {
        // Who is there, and who may become whom, is another image's.
        _ if facts.is_elsewhere && Users::is_well_formed(&user.value) => None,
        Err(reason) => {
            let message = format!("cannot run as `{}`", user.value);
            diagnostics.push(Diagnostic::error(message, &user.place, reason));
            None
        }
        Ok(identity) if facts.user == 0 => Some(identity),
        Ok(identity) if identity.user == facts.user && identity.group == facts.group => None,
        Ok(_) => {
            let message = format!("cannot become `{}`", user.value);
            let label = format!("bookend runs as user {}, and only root may change", facts.user);
            diagnostics
                .push(Diagnostic::error(message, &user.place, label).help(
                    "start the container as root (leave out USER in the Dockerfile), or remove `user`",
                ));
            None
        }
    }
}

pub(super) fn variables(table: &BTreeMap<String, String>) -> Vec<(OsString, OsString)> {
    table.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_ceiling() {
        let backoff = Backoff { first: Duration::from_secs(1) };
        let waits: Vec<u64> = (1..=8).map(|retry| backoff.wait(retry, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.wait(u32::MAX, 0), Backoff::CEILING);
        assert_eq!(backoff.wait(1, 255), Duration::from_millis(750));
        let slow = Backoff { first: Duration::from_secs(90) };
        assert_eq!(slow.wait(3, 0), Duration::from_secs(90));
    }
}
