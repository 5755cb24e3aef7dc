//! `[jvm]`: options that bookend adds for the JVM.

use super::Diagnostic;
use super::document::{Node, Value};
use super::reader::{Context, FromNode, Reader, expected, resolve, resolve_node, suggestion};
use super::values::Setting;
use std::path::PathBuf;

/// The section.
#[derive(Clone, Debug)]
pub struct Jvm {
    pub diagnostics: Setting<DiagnosticOptions>,
    pub memory: Option<Setting<Percent>>,
    pub folder: Setting<PathBuf>,
}

impl Jvm {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            diagnostics: reader.or("diagnostics", DiagnosticOptions(Vec::new()), context),
            memory: reader.optional("memory", context),
            folder: reader.or("folder", PathBuf::from("/tmp"), context),
        };
        reader.finish(context);
        section
    }
}

/// One thing that makes evidence possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagnosticOption {
    HeapDumpOnOutOfMemory,
    ExitOnOutOfMemory,
    ErrorFile,
    NativeMemory,
    Recording,
    GcLog,
}

const NAMES: [(&str, DiagnosticOption); 6] = [
    ("heap-dump", DiagnosticOption::HeapDumpOnOutOfMemory),
    ("exit-on-oom", DiagnosticOption::ExitOnOutOfMemory),
    ("error-file", DiagnosticOption::ErrorFile),
    ("native-memory", DiagnosticOption::NativeMemory),
    ("recording", DiagnosticOption::Recording),
    ("gc-log", DiagnosticOption::GcLog),
];

/// `true` is all of them, `false` none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiagnosticOptions(pub Vec<DiagnosticOption>);

impl FromNode for DiagnosticOptions {
    const EXPECTED: &'static str = "true, false, or some of [\"heap-dump\", \"exit-on-oom\", \"error-file\", \"native-memory\", \"recording\", \"gc-log\"]";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match resolve(value)? {
            Value::Boolean(true) => Ok(Self(NAMES.iter().map(|(_, option)| *option).collect())),
            Value::Boolean(false) => Ok(Self(Vec::new())),
            _ => Err(None),
        }
    }

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let wrong = expected::<Self>;
        let kind = format!("this is {}", node.value.kind());
        let value = resolve_node(node)
            .map_err(|reason| wrong(&node.place, reason.unwrap_or_else(|| kind.clone())))?;
        let Value::Array(items) = value else {
            return Self::from_value(&value).map_err(|reason| wrong(&node.place, reason.unwrap_or(kind)));
        };
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let mut options = Vec::new();
        for item in items {
            let name = String::from_node(&item)?;
            let Some((_, option)) = NAMES.iter().find(|(known, _)| *known == name) else {
                let label = match suggestion(&name, &names) {
                    Some(known) => format!("did you mean \"{known}\"?"),
                    None => format!("`{name}` is none of them"),
                };
                return Err(wrong(&item.place, label));
            };
            options.push(*option);
        }
        Ok(Self(options))
    }

    fn show(&self) -> String {
        let names = NAMES.iter().filter(|(_, option)| self.0.contains(option));
        let names: Vec<String> = names.map(|(name, _)| format!("\"{name}\"")).collect();
        if names.is_empty() { "false".to_owned() } else { format!("[{}]", names.join(", ")) }
    }
}

/// `"75%"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl FromNode for Percent {
    const EXPECTED: &'static str = "a share such as \"75%\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        match number {
            Some(percent) if (1..=100).contains(&percent) => Ok(Self(percent)),
            _ => Err(Some(format!("`{text}` is not between 1% and 100%"))),
        }
    }
    fn show(&self) -> String {
        format!("\"{}%\"", self.0)
    }
}
