//! `[[rule]]`: under which condition it acts, how often, and the rules that are
//! there where nobody wrote any.

use super::capture::{Capture, Recording};
use super::diagnostics::Diagnostic;
use super::document::{Node, Value};
use super::reader::{Context, FromNode, Reader, expected, is_table, scalar};
use super::trigger::Trigger;
use super::values::{Setting, braces, table};
use super::{Place, sections::Rule};
use crate::units::format_duration;
use std::time::Duration;

/// When a rule that was set off really acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The service is failing or unhealthy at that moment.
    Unhealthy,
    /// It was healthy before, at least once.
    HealthyOnce,
    /// The main process ended with one of these codes.
    ExitCode(Vec<u8>),
}

impl When {
    /// It needs `[health]`.
    pub fn needs_health(&self) -> bool {
        !matches!(self, Self::ExitCode(_))
    }
}

impl FromNode for When {
    const EXPECTED: &'static str =
        "a condition: \"unhealthy\", \"healthy_once\", or { exit_code = [3, 137] }";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => match text.as_str() {
                "unhealthy" => Ok(Self::Unhealthy),
                "healthy_once" => Ok(Self::HealthyOnce),
                _ => Err(Some(format!("`{text}` is none of them"))),
            },
            _ => Err(None),
        }
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        if !is_table(node) {
            return scalar(node);
        }
        let wrong = expected::<Self>;
        let mut codes = Vec::new();
        for (name, place, item) in table(node, Self::EXPECTED)? {
            if name != "exit_code" {
                return Err(wrong(&place, format!("a condition has no `{name}`")));
            }
            for code in Vec::<u32>::from_node(&item)? {
                let code =
                    u8::try_from(code).map_err(|_| wrong(&item.place, format!("{code} is no exit code")))?;
                codes.push(code);
            }
        }
        if codes.is_empty() {
            return Err(wrong(&node.place, "name at least one code".to_owned()));
        }
        Ok(Self::ExitCode(codes))
    }
    fn show(&self) -> String {
        match self {
            Self::ExitCode(codes) => format!("{{ exit_code = {codes:?} }}"),
            Self::Unhealthy => "\"unhealthy\"".to_owned(),
            Self::HealthyOnce => "\"healthy_once\"".to_owned(),
        }
    }
}

/// What is done to a JVM that answers nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// It is made to write its crash report (`hs_err`), of which it dies.
    CrashReport,
    /// It is left alone.
    Nothing,
}

/// How often a rule may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub times: u32,
    pub per: Duration,
}

impl FromNode for Limit {
    const EXPECTED: &'static str = "a limit such as { times = 2, per = \"1h\" }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let (mut times, mut per) = (1, Duration::from_hours(1));
        for (name, place, item) in table(node, Self::EXPECTED)? {
            match name.as_str() {
                "times" => times = u32::from_node(&item)?,
                "per" => per = Duration::from_node(&item)?,
                _ => {
                    return Err(expected::<Self>(&place, format!("a limit has no `{name}`")));
                }
            }
        }
        Ok(Self { times, per })
    }
    fn show(&self) -> String {
        braces(&[format!("times = {}", self.times), format!("per = \"{}\"", format_duration(self.per))])
    }
}

impl Rule {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Option<Self> {
        let place = reader.place().clone();
        let name = reader.required("name", context);
        let on = reader.required("on", context);
        let when = reader.optional("if", context);
        let capture = reader.required("capture", context);
        // A service that flaps must not fill its store.
        let limit = reader.or("limit", Limit { times: 3, per: Duration::from_hours(1) }, context);
        let deadline = reader.or("deadline", Duration::from_mins(2), context);
        let hold = reader.optional("hold", context);
        let last_resort = reader.optional("last_resort", context);
        reader.finish(context);
        Some(Self {
            place,
            name: name?,
            on: on?,
            when,
            capture: capture?,
            limit,
            deadline,
            hold,
            last_resort,
        })
    }
}

fn value<T>(value: T, place: Place) -> Setting<T> {
    Setting { value, place }
}

/// Where `[[rule]]` says nothing: what everybody who has a store would want.
pub fn default_rules(has_health: bool, keeps_output: bool) -> Vec<Rule> {
    let setting = |text: &str| Place::Default(text.to_owned());
    let place = || setting("there is a store and no rule");
    let everything = || {
        let mut captures = vec![
            Capture::Os,
            Capture::Vm,
            Capture::three_thread_dumps(),
            Capture::Histogram { live: false },
            Capture::Recording(Recording::default()),
            Capture::Heap { live: false },
        ];
        if keeps_output {
            captures.push(Capture::Logs);
        }
        captures
    };
    let rule = |name: &str, on, when: Option<When>| Rule {
        place: place(),
        name: value(name.to_owned(), place()),
        on: value(on, place()),
        when: when.map(|when| value(when, place())),
        capture: value(everything(), place()),
        limit: value(Limit { times: 3, per: Duration::from_hours(1) }, place()),
        deadline: value(Duration::from_mins(2), place()),
        hold: None,
        last_resort: None,
    };
    let left_behind = || {
        let mut captures = vec![Capture::Os, Capture::Crash];
        if keeps_output {
            captures.push(Capture::Logs);
        }
        captures
    };
    let mut rules =
        vec![rule("abnormal-exit", Trigger::Exit, None), rule("out-of-memory", Trigger::OutOfMemory, None)];
    for rule in &mut rules {
        rule.capture.value = left_behind();
    }
    if has_health {
        rules.push(rule("unhealthy", Trigger::Unhealthy, None));
        rules.push(rule("stop-while-unhealthy", Trigger::Stop, Some(When::Unhealthy)));
    }
    rules
}
