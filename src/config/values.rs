//! The types that single values are read as.

use super::diagnostics::{Diagnostic, Place};
use super::document::{Node, Value};
use super::reader::{FromNode, expected, resolve, resolve_node, suggestion};
use crate::units::{ByteSize, Compression, Recipient, Redaction, Signal, format_duration, parse_duration};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A value and where it came from.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub place: Place,
}

impl<T> Setting<T> {
    /// Somebody wrote it.
    pub fn is_written(&self) -> bool {
        matches!(self.place, Place::Written { .. })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Human,
    Json,
    /// JSON unless standard error is a terminal.
    Auto,
}

/// The least important line that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// A closed list of words.
trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for Format {
    const WORDS: &'static [(&'static str, Self)] =
        &[("human", Self::Human), ("json", Self::Json), ("auto", Self::Auto)];
}
impl Words for Level {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug)];
}
impl Words for super::sections::Stage {
    const WORDS: &'static [(&'static str, Self)] =
        &[("pre-start", Self::PreStart), ("post-stop", Self::PostStop)];
}
impl Words for super::sections::OnFailure {
    const WORDS: &'static [(&'static str, Self)] = &[("abort", Self::Abort), ("continue", Self::Continue)];
}

impl Words for super::sections::OnStop {
    const WORDS: &'static [(&'static str, Self)] = &[("signal", Self::Signal), ("finish", Self::Finish)];
}

impl Words for Redaction {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("strings", Self::Strings), ("primitives", Self::Primitives)];
}
impl Words for Compression {
    const WORDS: &'static [(&'static str, Self)] =
        &[("zstd", Self::Zstd), ("auto", Self::Auto), ("gzip", Self::Gzip), ("none", Self::None)];
}
impl Words for super::store::ServerEncryption {
    const WORDS: &'static [(&'static str, Self)] = &[
        (Self::Aes256.word(), Self::Aes256),
        (Self::Kms.word(), Self::Kms),
        (Self::KmsTwice.word(), Self::KmsTwice),
    ];
}
impl Words for super::release::OnMismatch {
    const WORDS: &'static [(&'static str, Self)] = &[("stop", Self::Stop), ("warn", Self::Warn)];
}
impl Words for super::process::Start {
    const WORDS: &'static [(&'static str, Self)] =
        &[("before", Self::Before), ("after", Self::After), ("healthy", Self::Healthy)];
}
impl Words for super::process::Restart {
    const WORDS: &'static [(&'static str, Self)] =
        &[("never", Self::Never), ("on-failure", Self::OnFailure), ("always", Self::Always)];
}
impl Words for super::process::MainRestart {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("never", Self::Never),
        ("on-unhealthy", Self::OnUnhealthy),
        ("on-failure", Self::OnFailure),
        ("always", Self::Always),
    ];
}
impl Words for super::sections::Partial {
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("discard", Self::Discard)];
}
impl Words for super::rules::LastResort {
    const WORDS: &'static [(&'static str, Self)] =
        &[("crash-report", Self::CrashReport), ("none", Self::Nothing)];
}

fn from_words<T: Words>(value: &Value) -> Result<T, Option<String>> {
    let (Value::String(text) | Value::Text(text)) = value else {
        return Err(None);
    };
    if let Some((_, found)) = T::WORDS.iter().find(|(word, _)| word == text) {
        return Ok(*found);
    }
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    Err(Some(match suggestion(text, &words) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("`{text}` is none of them"),
    }))
}

fn word<T: Words>(wanted: T) -> String {
    T::WORDS
        .iter()
        .find(|(_, value)| *value == wanted)
        .map_or_else(String::new, |(word, _)| format!("\"{word}\""))
}

macro_rules! read_as_words {
    ($($type:ty => $expected:literal),* $(,)?) => {$(
        impl FromNode for $type {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &Value) -> Result<Self, Option<String>> {
                from_words(value)
            }
            fn show(&self) -> String {
                word(*self)
            }
        }
    )*};
}

read_as_words! {
    Format => "a log format: \"human\", \"json\" or \"auto\"",
    Level => "a log level: \"error\", \"warn\", \"info\" or \"debug\"",
    super::sections::Stage => "a stage: \"pre-start\" or \"post-stop\"",
    super::sections::OnFailure => "\"abort\" or \"continue\"",
    super::sections::OnStop => "\"signal\" or \"finish\"",
    Redaction => "what to take out of a heap dump: \"none\", \"strings\" or \"primitives\"",
    Compression => "\"zstd\", \"auto\", \"gzip\" or \"none\"",
    super::store::ServerEncryption => "\"AES256\", \"aws:kms\" or \"aws:kms:dsse\"",
    super::release::OnMismatch => "\"stop\" or \"warn\"",
    super::process::Start => "\"before\" or \"after\" the main process, or once it is \"healthy\"",
    super::process::Restart => "\"never\", \"on-failure\" or \"always\"",
    super::process::MainRestart => "\"never\", \"on-unhealthy\", \"on-failure\" or \"always\"",
    super::sections::Partial => "\"keep\" or \"discard\"",
    super::rules::LastResort => "\"crash-report\" or \"none\"",
}

impl FromNode for Recipient {
    const EXPECTED: &'static str = "an age recipient such as \"age1...\", as `age-keygen` prints it";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        Self::parse(&String::from_value(value)?).map_err(Some)
    }
    fn show(&self) -> String {
        format!("{:?}", self.as_str())
    }
}

impl FromNode for String {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) if text.contains('\0') => {
                Err(Some("a NUL byte cannot be part of it".to_owned()))
            }
            Value::String(text) | Value::Text(text) => Ok(text.clone()),
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl FromNode for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match resolve(value)? {
            Value::Boolean(flag) => Ok(flag),
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromNode for u32 {
    const EXPECTED: &'static str = "a whole number, 0 or more";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match resolve(value)? {
            Value::Integer(number) => {
                Self::try_from(number).map_err(|_| Some(format!("{number} is out of range")))
            }
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromNode for Duration {
    const EXPECTED: &'static str = "a duration such as \"500ms\", \"30s\" or \"5m\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => parse_duration(text).map_err(Some),
            Value::Integer(number) => Err(Some(format!("has no unit; write \"{number}s\""))),
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        format!("\"{}\"", format_duration(*self))
    }
}

impl FromNode for ByteSize {
    const EXPECTED: &'static str = "a size such as \"256KiB\" or \"1GiB\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => Self::parse(text).map_err(Some),
            Value::Integer(number) => Err(Some(format!("has no unit; write \"{number}KiB\", say"))),
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl FromNode for Signal {
    const EXPECTED: &'static str = "a signal such as \"SIGTERM\", \"INT\" or \"SIGRTMIN+3\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => match Self::parse(text).map_err(Some)? {
                Self::KILL | Self::STOP => {
                    Err(Some(format!("{text} cannot be caught: no process could end cleanly on it")))
                }
                signal => Ok(signal),
            },
            _ => Err(None),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// An absolute path.
impl FromNode for PathBuf {
    const EXPECTED: &'static str = "an absolute path";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        if text.starts_with('/') {
            Ok(Self::from(text))
        } else {
            Err(Some(format!("\"{text}\" is relative; write it from the root, with a leading /")))
        }
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.display())
    }
}

/// Lists name the element that is wrong, not the whole list.
impl<T: FromNode> FromNode for Vec<T> {
    const EXPECTED: &'static str = "an array";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let wrong = |label: String| {
            Diagnostic::error(format!("expected an array, each element {}", T::EXPECTED), &node.place, label)
        };
        let value = resolve_node(node).map_err(|reason| wrong(reason.unwrap_or_default()))?;
        let Value::Array(items) = &value else {
            return Err(wrong(format!("this is {}; write it in [ ]", node.value.kind())));
        };
        let mut values = Self::new();
        let mut wrong = Vec::new();
        for item in items {
            match T::from_node(item) {
                Ok(value) => values.push(value),
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        Diagnostic::all(wrong).map_or(Ok(values), Err)
    }
    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(FromNode::show).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Variables for a child: names that a shell can say, values as text.
impl FromNode for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a table of variables such as { NAME = \"value\" }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let mut variables = Self::new();
        for (name, key_place, item) in table(node, Self::EXPECTED)? {
            if name.is_empty() || name.contains(['=', '\0']) {
                let label = "a variable's name is not empty and holds no `=`";
                return Err(expected::<Self>(&key_place, label));
            }
            variables.insert(name, String::from_node(&item)?);
        }
        Ok(variables)
    }
    fn show(&self) -> String {
        // Names only: values are where passwords are.
        braces(&self.keys().map(|name| format!("{name} = …")).collect::<Vec<_>>())
    }
}

/// What becomes of a signal on its way to the main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    Drop,
    As(Signal),
}

/// `{ HUP = "drop", USR1 = "QUIT" }`
impl FromNode for BTreeMap<Signal, Forwarding> {
    const EXPECTED: &'static str = "a table of signals such as { HUP = \"drop\", USR1 = \"QUIT\" }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let mut map = Self::new();
        for (name, key_place, item) in table(node, Self::EXPECTED)? {
            let wrong = expected::<Self>;
            let from = Signal::parse(&name).map_err(|reason| wrong(&key_place, reason))?;
            let to = match &item.value {
                Value::String(text) | Value::Text(text) if text == "drop" => Forwarding::Drop,
                _ => Forwarding::As(Signal::from_node(&item)?),
            };
            map.insert(from, to);
        }
        Ok(map)
    }
    fn show(&self) -> String {
        let items = self.iter().map(|(from, to)| match to {
            Forwarding::Drop => format!("{from} = \"drop\""),
            Forwarding::As(to) => format!("{from} = \"{to}\""),
        });
        braces(&items.collect::<Vec<_>>())
    }
}

/// `{ 143 = 0 }`
impl FromNode for BTreeMap<u8, u8> {
    const EXPECTED: &'static str = "a table of exit codes such as { 143 = 0 }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let mut map = Self::new();
        for (name, key_place, item) in table(node, Self::EXPECTED)? {
            let wrong = |place: &Place| expected::<Self>(place, "an exit code is 0 to 255");
            let from = name.parse().map_err(|_| wrong(&key_place))?;
            let to = u32::from_node(&item)?;
            map.insert(from, u8::try_from(to).map_err(|_| wrong(&item.place))?);
        }
        Ok(map)
    }
    fn show(&self) -> String {
        braces(&self.iter().map(|(from, to)| format!("{from} = {to}")).collect::<Vec<_>>())
    }
}

/// The entries of a table whose keys are the user's own.
pub(super) fn table(node: &Node, expected: &str) -> Result<Vec<(String, Place, Node)>, Diagnostic> {
    let wrong = |label: String| Diagnostic::error(format!("expected {expected}"), &node.place, label);
    match resolve_node(node).map_err(|reason| wrong(reason.unwrap_or_default()))? {
        Value::Table(table) => Ok(table.entries),
        _ => Err(wrong(format!("this is {}", node.value.kind()))),
    }
}

pub(super) fn braces(items: &[String]) -> String {
    if items.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", items.join(", ")) }
}

/// An address that must accept connections before anything starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    pub host: String,
    pub port: u16,
}

impl Reachable {
    /// Parses `tcp://host:port`, with an IPv6 address in brackets.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("tcp://").ok_or("write it as tcp://host:port")?;
        let (host, port) = rest.rsplit_once(':').ok_or("the port is missing: tcp://host:port")?;
        let port = port.parse().map_err(|_| format!("`{port}` is not a port (1-65535)"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(format!("`{host}` is not a host name or address"));
        }
        if port == 0 {
            return Err("`0` is not a port (1-65535)".to_owned());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Reachable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "tcp://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "tcp://{}:{}", self.host, self.port)
        }
    }
}

impl FromNode for Reachable {
    const EXPECTED: &'static str = "an address such as \"tcp://db:5432\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        Self::parse(&String::from_value(value)?).map_err(Some)
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}
