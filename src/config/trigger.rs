//! `on = ...`: what sets a rule off.

use super::document::{Node, Value};
use super::reader::{FromNode, expected, is_table, scalar, suggestion};
use super::values::table;
use super::{Diagnostic, Place};
use crate::units::{Schedule, format_duration};
use std::time::Duration;

/// What sets a rule off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The first failed probe, once the service was ready.
    Failing,
    /// So many failed probes in a row that the service counts as unhealthy.
    Unhealthy,
    /// A stop signal arrived.
    Stop,
    /// The main process ended by itself, with a code other than 0 or by a signal.
    Exit,
    /// The main process ended for want of memory: the kernel killed it, or an
    /// OutOfMemoryError did; or the JVM dumped its heap for one.
    OutOfMemory,
    /// Java threads wait for each other's locks. Looked for by a thread dump that often.
    Deadlock { every: Duration },
    /// The operator asked (`bookend dump all`).
    Manual,
    /// A measured share or number stayed above a bound.
    Above(Measure, Bound),
    /// A line that the service printed matches a regular expression.
    Log(String),
    /// The clock.
    Schedule(Schedule),
}

/// What can be measured from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Java heap in use, in percent of its maximum.
    Heap,
    /// The same for the old generation after its last collection.
    HeapAfterGc,
    /// Time in stop-the-world collections, in percent.
    Gc,
    /// Live Java threads.
    Threads,
    /// The container's memory, in percent of its limit.
    Memory,
    /// Open descriptors of the JVM, in percent of its limit.
    FileDescriptors,
}

/// Above what, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Percent, or a number of threads.
    pub above: u32,
    pub lasting: Duration,
}

impl Trigger {
    /// As logs and manifests call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Unhealthy => "unhealthy",
            Self::Stop => "stop",
            Self::Exit => "exit",
            Self::OutOfMemory => "oom",
            Self::Deadlock { .. } => "deadlock",
            Self::Manual => "manual",
            Self::Above(measure, _) => measure.name(),
            Self::Log(_) => "log",
            Self::Schedule(_) => "schedule",
        }
    }

    /// It needs `[health]`.
    pub fn needs_health(&self) -> bool {
        matches!(self, Self::Failing | Self::Unhealthy)
    }

    /// No limit applies: the service's last words are never one too many, and an
    /// operator and a clock know what they do.
    pub fn is_unlimited(&self) -> bool {
        matches!(self, Self::Stop | Self::Exit | Self::OutOfMemory | Self::Manual | Self::Schedule(_))
    }
}

impl Measure {
    const NAMES: [(&'static str, Self); 5] = [
        ("heap", Self::Heap),
        ("gc", Self::Gc),
        ("threads", Self::Threads),
        ("memory", Self::Memory),
        ("fds", Self::FileDescriptors),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::HeapAfterGc => "heap",
            measure => Self::NAMES.iter().find(|(_, known)| *known == measure).map_or("?", |(name, _)| name),
        }
    }
}

/// A thread dump stops the world, if for milliseconds: no more often than needed.
const DEADLOCK_INTERVAL: Duration = Duration::from_mins(1);

const WORDS: [(&str, Trigger); 7] = [
    ("failing", Trigger::Failing),
    ("unhealthy", Trigger::Unhealthy),
    ("stop", Trigger::Stop),
    ("exit", Trigger::Exit),
    ("oom", Trigger::OutOfMemory),
    ("deadlock", Trigger::Deadlock { every: DEADLOCK_INTERVAL }),
    ("manual", Trigger::Manual),
];

impl FromNode for Trigger {
    const EXPECTED: &'static str = "a trigger: \"failing\", \"unhealthy\", \"stop\", \"exit\", \"oom\", \"deadlock\", \"manual\", a bound such as { heap = \"> 90%\", for = \"2m\" }, { log = \"regular expression\" }, or { schedule = \"0 3 * * *\" }";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let (Value::String(text) | Value::Text(text)) = value else {
            return Err(None);
        };
        if let Some((_, trigger)) = WORDS.iter().find(|(word, _)| word == text) {
            return Ok(trigger.clone());
        }
        if Measure::NAMES.iter().any(|(name, _)| name == text) {
            return Err(Some(format!("`{text}` needs a bound: {{ {text} = \"> 90\" }}")));
        }
        let words = WORDS.each_ref().map(|(word, _)| *word);
        Err(Some(match suggestion(text, &words) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("`{text}` is none of them"),
        }))
    }

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        if !is_table(node) {
            return scalar(node);
        }
        let wrong = expected::<Self>;
        let entries = table(node, Self::EXPECTED)?;
        if entries.iter().any(|(name, ..)| name == "deadlock") {
            return deadlock(&entries);
        }
        if let [(name, _, item)] = entries.as_slice()
            && let Some(trigger) = of_text(name, item)
        {
            return trigger;
        }
        let (mut measure, mut after_gc, mut lasting) = (None, None, Duration::ZERO);
        for (name, place, item) in entries {
            match name.as_str() {
                "for" => lasting = Duration::from_node(&item)?,
                "after_gc" => after_gc = bool::from_node(&item)?.then_some(place),
                name => {
                    let Some((_, known)) = Measure::NAMES.iter().find(|(known, _)| *known == name) else {
                        let names: Vec<&str> = Measure::NAMES
                            .iter()
                            .map(|(name, _)| *name)
                            .chain(["for", "after_gc", "log", "schedule"])
                            .collect();
                        return Err(wrong(
                            &place,
                            match suggestion(name, &names) {
                                Some(known) => format!("did you mean `{known}`?"),
                                None => format!("known: {}", names.join(", ")),
                            },
                        ));
                    };
                    if measure.is_some() {
                        return Err(wrong(&place, "one bound a rule; write a second rule".to_owned()));
                    }
                    measure =
                        Some((*known, above(*known, &item).map_err(|label| wrong(&item.place, label))?));
                }
            }
        }
        let Some((measure, above)) = measure else {
            return Err(wrong(&node.place, "what is to be measured?".to_owned()));
        };
        let measure = match (measure, after_gc) {
            (Measure::Heap, Some(_)) => Measure::HeapAfterGc,
            (measure, None) => measure,
            (_, Some(place)) => return Err(wrong(&place, "only a heap is measured after a GC".to_owned())),
        };
        Ok(Self::Above(measure, Bound { above, lasting }))
    }

    fn show(&self) -> String {
        match self {
            Self::Above(measure, bound) => {
                let unit = if *measure == Measure::Threads { "" } else { "%" };
                let after = if *measure == Measure::HeapAfterGc { ", after_gc = true" } else { "" };
                format!(
                    "{{ {} = \"> {}{unit}\"{after}, for = \"{}\" }}",
                    measure.name(),
                    bound.above,
                    format_duration(bound.lasting)
                )
            }
            Self::Deadlock { every } if *every != DEADLOCK_INTERVAL => {
                format!("{{ deadlock = true, every = \"{}\" }}", format_duration(*every))
            }
            Self::Log(pattern) => format!("{{ log = {pattern:?} }}"),
            Self::Schedule(schedule) => format!("{{ schedule = \"{schedule}\" }}"),
            word => format!("\"{}\"", word.name()),
        }
    }
}

/// `{ deadlock = true, every = "30s" }`
fn deadlock(entries: &[(String, Place, Node)]) -> Result<Trigger, Diagnostic> {
    let mut every = DEADLOCK_INTERVAL;
    for (name, place, item) in entries {
        let wrong = |label: &str| Diagnostic::error("cannot read this trigger", place, label);
        match name.as_str() {
            "deadlock" if bool::from_node(item)? => {}
            "deadlock" => return Err(wrong("leave the rule out instead")),
            "every" => every = Duration::from_node(item)?,
            _ => return Err(wrong("it stands with `deadlock`, which has `every` alone")),
        }
        if every < Duration::from_secs(1) {
            return Err(wrong("a thread dump stops the world: at most one a second"));
        }
    }
    Ok(Trigger::Deadlock { every })
}

/// `log` and `schedule`: a text that is read whole.
fn of_text(name: &str, item: &Node) -> Option<Result<Trigger, Diagnostic>> {
    let text = || String::from_node(item);
    let wrong = |reason: String| Diagnostic::error("cannot read this trigger", &item.place, reason);
    Some(match name {
        "log" => text().and_then(|pattern| match regex_lite::Regex::new(&pattern) {
            Ok(_) => Ok(Trigger::Log(pattern)),
            Err(error) => Err(wrong(error.to_string())),
        }),
        "schedule" => text().and_then(|text| Schedule::parse(&text).map(Trigger::Schedule).map_err(wrong)),
        _ => return None,
    })
}

/// `"> 90%"`, for threads `"> 500"`.
fn above(measure: Measure, item: &Node) -> Result<u32, String> {
    let (Value::String(text) | Value::Text(text)) = &item.value else {
        return Err(format!("this is {}; write \"> 90%\"", item.value.kind()));
    };
    let number = text.trim().strip_prefix('>').ok_or("write it as \"> 90%\"")?.trim();
    if measure == Measure::Threads {
        return number.parse().map_err(|_| format!("`{number}` is no number of threads"));
    }
    let number = number.strip_suffix('%').ok_or("it is a share: write it in percent, \"> 90%\"")?.trim();
    match number.parse() {
        Ok(percent) if (1..100).contains(&percent) => Ok(percent),
        _ => Err(format!("`{number}` is not between 1% and 99%")),
    }
}
