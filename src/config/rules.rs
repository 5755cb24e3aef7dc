//! `[[rule]]`: what sets it off, what it captures, how often.

use super::diagnostics::Diagnostic;
use super::document::{Node, Value};
use super::reader::{Context, FromNode, Reader, suggestion};
use super::values::{Setting, braces, table};
use super::{Place, sections::Rule};
use crate::units::format_duration;
use std::time::Duration;

/// What sets a rule off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// A measured share or number stayed above a bound.
    Above(Measure, Bound),
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Unhealthy => "unhealthy",
            Self::Stop => "stop",
            Self::Exit => "exit",
            Self::OutOfMemory => "oom",
            Self::Above(measure, _) => measure.name(),
        }
    }

    /// It needs `[health]`.
    pub fn needs_health(self) -> bool {
        matches!(self, Self::Failing | Self::Unhealthy)
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

const WORDS: [(&str, Trigger); 5] = [
    ("failing", Trigger::Failing),
    ("unhealthy", Trigger::Unhealthy),
    ("stop", Trigger::Stop),
    ("exit", Trigger::Exit),
    ("oom", Trigger::OutOfMemory),
];

impl FromNode for Trigger {
    const EXPECTED: &'static str = "a trigger: \"failing\", \"unhealthy\", \"stop\", \"exit\", \"oom\", or a bound such as { heap = \"> 90%\", for = \"2m\" }";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let (Value::String(text) | Value::Text(text)) = value else {
            return Err(None);
        };
        if let Some((_, trigger)) = WORDS.iter().find(|(word, _)| word == text) {
            return Ok(*trigger);
        }
        if Measure::NAMES.iter().any(|(name, _)| name == text) {
            return Err(Some(format!("`{text}` needs a bound: {{ {text} = \"> 90\" }}")));
        }
        let words = WORDS.map(|(word, _)| word);
        Err(Some(match suggestion(text, &words) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("`{text}` is none of them"),
        }))
    }

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        if !matches!(node.value, Value::Table(_)) {
            return Self::from_value(&node.value).map_err(|reason| {
                let label = reason.unwrap_or_else(|| format!("this is {}", node.value.kind()));
                Diagnostic::error(format!("expected {}", Self::EXPECTED), &node.place, label)
            });
        }
        let wrong = |place: &Place, label: String| {
            Diagnostic::error(format!("expected {}", Self::EXPECTED), place, label)
        };
        let (mut measure, mut after_gc, mut lasting) = (None, None, Duration::ZERO);
        for (name, place, item) in table(node, Self::EXPECTED)? {
            match name.as_str() {
                "for" => lasting = Duration::from_node(&item)?,
                "after_gc" => after_gc = bool::from_node(&item)?.then_some(place),
                name => {
                    let Some((_, known)) = Measure::NAMES.iter().find(|(known, _)| *known == name) else {
                        let names: Vec<&str> =
                            Measure::NAMES.iter().map(|(name, _)| *name).chain(["for", "after_gc"]).collect();
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
            word => format!("\"{}\"", word.name()),
        }
    }
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

/// When a rule that was set off really acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The service is failing or unhealthy at that moment.
    Unhealthy,
    /// It was healthy before, at least once.
    HealthyOnce,
}

impl FromNode for When {
    const EXPECTED: &'static str = "a condition: \"unhealthy\" or \"healthy_once\"";
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
    fn show(&self) -> String {
        match self {
            Self::Unhealthy => "\"unhealthy\"".to_owned(),
            Self::HealthyOnce => "\"healthy_once\"".to_owned(),
        }
    }
}

/// One kind of evidence, in the order of the ladder: cheap and certain first,
/// since nothing else is answered while a heap dump runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Artifact {
    Os,
    Crash,
    Vm,
    Threads,
    Histogram,
    Jfr,
    Heap,
}

impl Artifact {
    const NAMES: [(&'static str, Self); 7] = [
        ("os", Self::Os),
        ("crash", Self::Crash),
        ("vm", Self::Vm),
        ("threads", Self::Threads),
        ("histogram", Self::Histogram),
        ("jfr", Self::Jfr),
        ("heap", Self::Heap),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, artifact)| *artifact == self).map_or("?", |(name, _)| name)
    }
}

/// One artifact, and how it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    pub artifact: Artifact,
    /// Thread dumps: so many.
    pub times: u32,
    /// Thread dumps: from the begin of one to the begin of the next.
    pub interval: Duration,
    /// Heap dumps and histograms: only what is reachable, which costs a full collection.
    pub live: bool,
    /// Flight recordings: only the last part; all of it without.
    pub last: Option<Duration>,
}

impl Capture {
    /// As its name alone means it.
    pub fn plain(artifact: Artifact) -> Self {
        Self { artifact, times: 1, interval: Duration::from_secs(2), live: false, last: None }
    }
}

impl FromNode for Capture {
    const EXPECTED: &'static str = "an artifact: \"threads\", \"histogram\", \"vm\", \"os\", \"crash\", \"jfr\", \"heap\", or with options such as { threads = { times = 3, interval = \"2s\" } }";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let (Value::String(text) | Value::Text(text)) = value else {
            return Err(None);
        };
        artifact(text).map(Self::plain).map_err(Some)
    }

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let wrong = |place: &Place, label: String| {
            Diagnostic::error(format!("expected {}", Self::EXPECTED), place, label)
        };
        if !matches!(node.value, Value::Table(_)) {
            return Self::from_value(&node.value).map_err(|reason| {
                let label = reason.unwrap_or_else(|| format!("this is {}", node.value.kind()));
                wrong(&node.place, label)
            });
        }
        let mut entries = table(node, Self::EXPECTED)?.into_iter();
        let (Some((name, place, options)), None) = (entries.next(), entries.next()) else {
            return Err(wrong(&node.place, "one artifact in each { }".to_owned()));
        };
        let mut capture = artifact(&name).map(Self::plain).map_err(|label| wrong(&place, label))?;
        for (option, place, item) in table(&options, "its options, such as { times = 3 }")? {
            match (capture.artifact, option.as_str()) {
                (Artifact::Threads, "times") => capture.times = u32::from_node(&item)?,
                (Artifact::Threads, "interval") => capture.interval = Duration::from_node(&item)?,
                (Artifact::Heap | Artifact::Histogram, "live") => capture.live = bool::from_node(&item)?,
                (Artifact::Jfr, "last") => capture.last = Some(Duration::from_node(&item)?),
                _ => return Err(wrong(&place, format!("`{name}` has no option `{option}`"))),
            }
        }
        if !(1..=100).contains(&capture.times) {
            return Err(wrong(&options.place, "take 1 to 100 of them".to_owned()));
        }
        Ok(capture)
    }

    fn show(&self) -> String {
        let name = self.artifact.name();
        match self.artifact {
            Artifact::Threads if self.times != 1 => format!(
                "{{ {name} = {{ times = {}, interval = \"{}\" }} }}",
                self.times,
                format_duration(self.interval)
            ),
            Artifact::Jfr => match self.last {
                Some(last) => format!("{{ {name} = {{ last = \"{}\" }} }}", format_duration(last)),
                None => format!("\"{name}\""),
            },
            Artifact::Heap | Artifact::Histogram if self.live => format!("{{ {name} = {{ live = true }} }}"),
            _ => format!("\"{name}\""),
        }
    }
}

fn artifact(name: &str) -> Result<Artifact, String> {
    if let Some((_, artifact)) = Artifact::NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*artifact);
    }
    let names = Artifact::NAMES.map(|(name, _)| name);
    Err(match suggestion(name, &names) {
        Some(known) => format!("did you mean \"{known}\"?"),
        None => format!("`{name}` is none of them"),
    })
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
                    let message = format!("expected {}", Self::EXPECTED);
                    return Err(Diagnostic::error(message, &place, format!("a limit has no `{name}`")));
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
        reader.finish(context);
        Some(Self { place, name: name?, on: on?, when, capture: capture?, limit, deadline, hold })
    }
}

fn value<T>(value: T, place: Place) -> Setting<T> {
    Setting { value, place }
}

/// Where `[[rule]]` says nothing: what everybody who has a store would want.
pub fn default_rules(has_health: bool) -> Vec<Rule> {
    let setting = |text: &str| Place::Default(text.to_owned());
    let place = || setting("there is a store and no rule");
    let everything = || {
        vec![
            Capture::plain(Artifact::Os),
            Capture::plain(Artifact::Vm),
            Capture { times: 3, ..Capture::plain(Artifact::Threads) },
            Capture::plain(Artifact::Histogram),
            Capture::plain(Artifact::Heap),
        ]
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
    };
    let left_behind = || vec![Capture::plain(Artifact::Os), Capture::plain(Artifact::Crash)];
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
