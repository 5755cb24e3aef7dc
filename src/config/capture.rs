//! `capture = [...]`: which artifacts a rule takes, and how.

use super::Diagnostic;
use super::document::{Node, Value};
use super::reader::{FromNode, expected, is_table, scalar, suggestion};
use super::values::table;
use crate::units::{ByteSize, format_duration};
use std::time::Duration;

/// One artifact, and how it is taken. In the order of the ladder: what is cheap and
/// certain first, what needs the JVM's cooperation later, and the heap last, since
/// nothing else is answered while it is dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    Os,
    /// The last lines that the service has printed.
    Logs,
    /// What a JVM that died has written itself.
    Crash,
    Vm,
    Threads {
        times: u32,
        /// From the begin of one to the begin of the next.
        interval: Duration,
    },
    Histogram {
        /// Only what is reachable, which costs a full collection.
        live: bool,
    },
    GcLog {
        /// So much of its end. Bytes.
        last: ByteSize,
    },
    /// `jcmd`: any diagnostic command with its arguments.
    DiagnosticCommand(String),
    /// `file`: files by a pattern.
    Files {
        pattern: String,
        /// So much of the end of each. Bytes.
        last: ByteSize,
    },
    /// `exec`: what a program says.
    Program {
        command: Vec<String>,
        timeout: Duration,
    },
    Recording(Recording),
    Heap {
        live: bool,
    },
}

/// A flight recording: one that runs already, or one that is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Only the last part of what runs; all of it without.
    pub last: Option<Duration>,
    /// Where none runs: start one with these settings (`default`, `profile`, or a file), for so long.
    pub start: Option<(String, Duration)>,
}

/// Thread dumps one after the other: from the begin of one to the begin of the next.
const THREADS_INTERVAL: Duration = Duration::from_secs(2);
/// Of a log, where the rule does not say.
const LAST: ByteSize = ByteSize(1 << 20);
/// More of a log is not read: it is held in memory while it is masked.
const LAST_LIMIT: ByteSize = ByteSize(64 << 20);
/// For a program, where the rule does not say.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// For a recording that is started, where the rule does not say.
const RECORDING_TIME: Duration = Duration::from_secs(10);

/// Names, and what each means alone; none where it needs a value.
const NAMES: [(&str, Option<Capture>); 12] = [
    ("os", Some(Capture::Os)),
    ("logs", Some(Capture::Logs)),
    ("crash", Some(Capture::Crash)),
    ("vm", Some(Capture::Vm)),
    ("threads", Some(Capture::Threads { times: 1, interval: THREADS_INTERVAL })),
    ("histogram", Some(Capture::Histogram { live: false })),
    ("gc-log", Some(Capture::GcLog { last: LAST })),
    ("jcmd", None),
    ("file", None),
    ("exec", None),
    ("jfr", Some(Capture::Recording(Recording { last: None, start: None }))),
    ("heap", Some(Capture::Heap { live: false })),
];

impl Capture {
    /// Three thread dumps: what changes between them is what runs.
    pub fn three_thread_dumps() -> Self {
        Self::Threads { times: 3, interval: THREADS_INTERVAL }
    }

    pub fn name(&self) -> &'static str {
        NAMES.get(self.rung()).map_or("?", |(name, _)| name)
    }

    /// Its place on the ladder.
    pub fn rung(&self) -> usize {
        match self {
            Self::Os => 0,
            Self::Logs => 1,
            Self::Crash => 2,
            Self::Vm => 3,
            Self::Threads { .. } => 4,
            Self::Histogram { .. } => 5,
            Self::GcLog { .. } => 6,
            Self::DiagnosticCommand(_) => 7,
            Self::Files { .. } => 8,
            Self::Program { .. } => 9,
            Self::Recording(_) => 10,
            Self::Heap { .. } => 11,
        }
    }

    /// Two rules want this of the same event: the more demanding one; none if they are two different things.
    pub fn united(&self, other: &Self) -> Option<Self> {
        let more = |one: &ByteSize, two: &ByteSize| if one.0 > two.0 { *one } else { *two };
        Some(match (self, other) {
            (Self::Threads { times, interval }, Self::Threads { times: more, interval: other }) => {
                if times < more {
                    Self::Threads { times: *more, interval: *other }
                } else {
                    Self::Threads { times: *times, interval: *interval }
                }
            }
            // All objects are more than those that live.
            (Self::Histogram { live }, Self::Histogram { live: other }) => {
                Self::Histogram { live: *live && *other }
            }
            (Self::Heap { live }, Self::Heap { live: other }) => Self::Heap { live: *live && *other },
            (Self::GcLog { last }, Self::GcLog { last: other }) => Self::GcLog { last: more(last, other) },
            (Self::Recording(one), Self::Recording(other)) => Self::Recording(Recording {
                last: one.last.zip(other.last).map(|(one, other)| one.max(other)),
                start: one.start.clone().or_else(|| other.start.clone()),
            }),
            (Self::Files { pattern, last }, Self::Files { pattern: same, last: other })
                if pattern == same =>
            {
                Self::Files { pattern: pattern.clone(), last: more(last, other) }
            }
            (one, other) if one == other => one.clone(),
            _ => return None,
        })
    }
}

impl FromNode for Capture {
    const EXPECTED: &'static str = "an artifact: \"os\", \"logs\", \"crash\", \"vm\", \"threads\", \"histogram\", \"gc-log\", \"jfr\", \"heap\", with options such as { threads = { times = 3, interval = \"2s\" } }, or { jcmd = \"...\" }, { file = \"...\" }, { exec = [\"...\"] }";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let (Value::String(text) | Value::Text(text)) = value else {
            return Err(None);
        };
        plain(text).map_err(Some)
    }

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        if !is_table(node) {
            return scalar(node);
        }
        let mut entries = table(node, Self::EXPECTED)?.into_iter();
        let (Some((name, place, options)), None) = (entries.next(), entries.next()) else {
            return Err(expected::<Capture>(&node.place, "one artifact in each { }".to_owned()));
        };
        let capture = match name.as_str() {
            "jcmd" => Self::DiagnosticCommand(String::from_node(&options)?),
            "file" => files(&options)?,
            "exec" => program(&options)?,
            name => with_options(plain(name).map_err(|label| expected::<Capture>(&place, label))?, &options)?,
        };
        capture.check().map_err(|label| expected::<Capture>(&options.place, label))?;
        Ok(capture)
    }

    fn show(&self) -> String {
        let name = self.name();
        let with = |options: String| format!("{{ {name} = {{ {options} }} }}");
        match self {
            Self::Threads { times, interval } if *times != 1 => {
                with(format!("times = {times}, interval = \"{}\"", format_duration(*interval)))
            }
            Self::Heap { live: true } | Self::Histogram { live: true } => with("live = true".to_owned()),
            Self::GcLog { last } if *last != LAST => with(format!("last = \"{last}\"")),
            Self::DiagnosticCommand(line) => format!("{{ {name} = {line:?} }}"),
            Self::Files { pattern, last } => with(format!("path = {pattern:?}, last = \"{last}\"")),
            Self::Program { command, timeout } => {
                with(format!("command = {command:?}, timeout = \"{}\"", format_duration(*timeout)))
            }
            Self::Recording(recording) => match (&recording.last, &recording.start) {
                (_, Some((settings, time))) => {
                    with(format!("start = {settings:?}, for = \"{}\"", format_duration(*time)))
                }
                (Some(last), None) => with(format!("last = \"{}\"", format_duration(*last))),
                (None, None) => format!("\"{name}\""),
            },
            _ => format!("\"{name}\""),
        }
    }
}

impl Capture {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Threads { times, .. } if !(1..=100).contains(times) => {
                Err("take 1 to 100 of them".to_owned())
            }
            Self::Program { command, .. } if command.is_empty() => Err("there is no command".to_owned()),
            Self::DiagnosticCommand(line) if line.trim().is_empty() || line.contains(['\n', '\r']) => {
                Err("one command on one line".to_owned())
            }
            Self::Files { last, .. } | Self::GcLog { last } if last.0 > LAST_LIMIT.0 => {
                Err(format!("at most {LAST_LIMIT} of each"))
            }
            Self::Files { pattern, .. } if !pattern.starts_with('/') => {
                Err("write an absolute path".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// As its name alone means it.
fn plain(name: &str) -> Result<Capture, String> {
    match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, Some(capture))) => Ok(capture.clone()),
        Some((name, None)) => Err(format!("`{name}` needs to know what: {{ {name} = ... }}")),
        None => {
            let names = NAMES.each_ref().map(|(name, _)| *name);
            Err(match suggestion(name, &names) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("`{name}` is none of them"),
            })
        }
    }
}

fn with_options(mut capture: Capture, options: &Node) -> Result<Capture, Diagnostic> {
    let name = capture.name();
    let mut recording_time = None;
    for (option, place, item) in table(options, "its options, such as { times = 3 }")? {
        match (&mut capture, option.as_str()) {
            (Capture::Threads { times, .. }, "times") => *times = u32::from_node(&item)?,
            (Capture::Threads { interval, .. }, "interval") => *interval = Duration::from_node(&item)?,
            (Capture::Heap { live } | Capture::Histogram { live }, "live") => {
                *live = bool::from_node(&item)?;
            }
            (Capture::GcLog { last }, "last") => *last = ByteSize::from_node(&item)?,
            (Capture::Recording(recording), "last") => recording.last = Some(Duration::from_node(&item)?),
            (Capture::Recording(recording), "start") => {
                recording.start = Some((String::from_node(&item)?, RECORDING_TIME));
            }
            (Capture::Recording(_), "for") => {
                recording_time = Some((Duration::from_node(&item)?, place));
            }
            _ => return Err(expected::<Capture>(&place, format!("`{name}` has no option `{option}`"))),
        }
    }
    match (&mut capture, recording_time) {
        (Capture::Recording(Recording { start: Some((_, time)), .. }), Some((asked, _))) => *time = asked,
        (_, Some((_, place))) => {
            return Err(expected::<Capture>(
                &place,
                "a recording that is started: add start = \"profile\"".to_owned(),
            ));
        }
        _ => {}
    }
    Ok(capture)
}

/// `"/app/logs/*.log"`, or `{ path = ..., last = "1MiB" }`.
fn files(options: &Node) -> Result<Capture, Diagnostic> {
    if !is_table(options) {
        return Ok(Capture::Files { pattern: String::from_node(options)?, last: LAST });
    }
    let (mut pattern, mut last) = (None, LAST);
    for (option, place, item) in table(options, "a path and its options")? {
        match option.as_str() {
            "path" => pattern = Some(String::from_node(&item)?),
            "last" => last = ByteSize::from_node(&item)?,
            _ => return Err(expected::<Capture>(&place, format!("`file` has no option `{option}`"))),
        }
    }
    let pattern = pattern.ok_or_else(|| expected::<Capture>(&options.place, "which path?".to_owned()))?;
    Ok(Capture::Files { pattern, last })
}

/// `["/app/diagnose"]`, or `{ command = [...], timeout = "10s" }`.
fn program(options: &Node) -> Result<Capture, Diagnostic> {
    if !is_table(options) {
        return Ok(Capture::Program { command: Vec::from_node(options)?, timeout: PROGRAM_TIMEOUT });
    }
    let (mut command, mut timeout) = (Vec::new(), PROGRAM_TIMEOUT);
    for (option, place, item) in table(options, "a command and its options")? {
        match option.as_str() {
            "command" => command = Vec::from_node(&item)?,
            "timeout" => timeout = Duration::from_node(&item)?,
            _ => return Err(expected::<Capture>(&place, format!("`exec` has no option `{option}`"))),
        }
    }
    Ok(Capture::Program { command, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rungs_agree() {
        for (rung, (name, capture)) in NAMES.iter().enumerate() {
            if let Some(capture) = capture {
                assert_eq!((capture.rung(), capture.name()), (rung, *name));
            }
        }
        for (capture, name) in [
            (Capture::DiagnosticCommand(String::new()), "jcmd"),
            (Capture::Files { pattern: String::new(), last: LAST }, "file"),
            (Capture::Program { command: Vec::new(), timeout: PROGRAM_TIMEOUT }, "exec"),
        ] {
            assert_eq!(capture.name(), name);
        }
    }

    #[test]
    fn the_more_demanding_wins() {
        let one = Capture::Threads { times: 1, interval: THREADS_INTERVAL };
        assert_eq!(one.united(&Capture::three_thread_dumps()), Some(Capture::three_thread_dumps()));
        let (live, all) = (Capture::Heap { live: true }, Capture::Heap { live: false });
        assert_eq!(live.united(&all), Some(all.clone()));
        assert_eq!(Capture::Os.united(&all), None);
        let command = |line: &str| Capture::DiagnosticCommand(line.to_owned());
        assert_eq!(command("VM.uptime").united(&command("GC.run")), None);
    }
}
