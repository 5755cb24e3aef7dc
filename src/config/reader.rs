//! Reading a table key by key: types, unknown keys, suggestions, and the
//! journal of what was decided.

use super::diagnostics::{Diagnostic, Diagnostics, Place};
use super::document::{Node, Table, Value, parse_value};
use super::journal::Entry;
use super::values::Setting;

/// What every reader writes to.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) diagnostics: Diagnostics,
    /// Only where somebody will read it.
    pub(super) journal: Option<Vec<Entry>>,
}

impl Context {
    fn note(&mut self, entry: impl FnOnce() -> Entry) {
        if let Some(journal) = &mut self.journal {
            journal.push(entry());
        }
    }
}

/// A type that one configuration value can be read as.
pub(super) trait FromNode: Sized {
    /// Completes "expected …", with an example.
    const EXPECTED: &'static str;

    /// # Errors
    /// What is wrong, where the kind of value is right; `None` where it is not.
    fn from_value(value: &Value) -> Result<Self, Option<String>>;

    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        scalar(node)
    }

    /// As `bookend check` shows it.
    fn show(&self) -> String;
}

/// What is at `place` is no `T`.
pub(super) fn expected<T: FromNode>(place: &Place, label: impl Into<String>) -> Diagnostic {
    Diagnostic::error(format!("expected {}", T::EXPECTED), place, label)
}

/// Reads what is one value, and no table or array.
pub(super) fn scalar<T: FromNode>(node: &Node) -> Result<T, Diagnostic> {
    T::from_value(&node.value).map_err(|reason| {
        expected::<T>(&node.place, reason.unwrap_or_else(|| format!("this is {}", node.value.kind())))
    })
}

/// One table being read. Every key that is asked for is a known key; `finish`
/// reports the others.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    path: String,
    table: Option<&'a Table>,
    place: Place,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn root(table: &'a Table) -> Self {
        Self {
            path: String::new(),
            table: Some(table),
            place: Place::Default(String::new()),
            known: Vec::new(),
        }
    }

    /// Where this table begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.table?.get(key).map(|(_, node)| node)
    }

    /// The value under `key`, if there is one and it can be read.
    pub(super) fn optional<T: FromNode>(
        &mut self,
        key: &'static str,
        context: &mut Context,
    ) -> Option<Setting<T>> {
        let node = self.node(key)?;
        match T::from_node(node) {
            Ok(value) => {
                context.note(|| Entry {
                    path: self.path_of(key),
                    value: value.show(),
                    place: node.place.clone(),
                });
                Some(Setting { value, place: node.place.clone() })
            }
            Err(diagnostic) => {
                context.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// The value under `key`, or `default`.
    pub(super) fn or<T: FromNode>(
        &mut self,
        key: &'static str,
        default: T,
        context: &mut Context,
    ) -> Setting<T> {
        let is_written = self.table.is_some_and(|table| table.get(key).is_some());
        if let Some(setting) = self.optional(key, context) {
            return setting;
        }
        let place = Place::Default(String::new());
        if !is_written {
            context.note(|| Entry { path: self.path_of(key), value: default.show(), place: place.clone() });
        }
        Setting { value: default, place }
    }

    /// The value under `key`, whose absence is an error.
    pub(super) fn required<T: FromNode>(
        &mut self,
        key: &'static str,
        context: &mut Context,
    ) -> Option<Setting<T>> {
        let is_written = self.table.is_some_and(|table| table.get(key).is_some());
        let setting = self.optional(key, context);
        if !is_written {
            let message = format!("`{}` is missing", self.path_of(key));
            context.diagnostics.push(Diagnostic::error(
                message,
                &self.place,
                format!("add `{key}`: {}", T::EXPECTED),
            ));
        }
        setting
    }

    /// The table under `key`; an empty one where there is none.
    pub(super) fn section(&mut self, key: &'static str, context: &mut Context) -> Reader<'a> {
        let path = self.path_of(key);
        let node = self.node(key);
        if let Some(node) = node {
            if let Value::Table(table) = &node.value {
                return Reader { path, table: Some(table), place: node.place.clone(), known: Vec::new() };
            }
            let label = format!("this is {}", node.value.kind());
            let diagnostic = Diagnostic::error(format!("expected the table [{path}]"), &node.place, label);
            context.diagnostics.push(diagnostic);
        }
        Reader { path, table: None, place: Place::Default(String::new()), known: Vec::new() }
    }

    /// The tables of the array under `key` (`[[hook]]`).
    pub(super) fn list(&mut self, key: &'static str, context: &mut Context) -> Vec<Reader<'a>> {
        let path = self.path_of(key);
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Value::Array(items) = &node.value else {
            let label = format!("this is {}", node.value.kind());
            let message = format!("expected an array of tables [[{path}]]");
            context.diagnostics.push(Diagnostic::error(message, &node.place, label));
            return Vec::new();
        };
        let mut readers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Value::Table(table) = &item.value {
                let path = format!("{path}.{index}");
                readers.push(Reader {
                    path,
                    table: Some(table),
                    place: item.place.clone(),
                    known: Vec::new(),
                });
            } else {
                let label = format!("this is {}", item.value.kind());
                let message = format!("expected a table [[{path}]]");
                context.diagnostics.push(Diagnostic::error(message, &item.place, label));
            }
        }
        readers
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, context: &mut Context) {
        let Some(table) = self.table else { return };
        for (key, place, node) in &table.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let place = if matches!(node.value, Value::Text(_)) { &node.place } else { place };
            let message = format!("unknown key `{}`", self.path_of(key));
            let label = match suggestion(key, &self.known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "this key does not exist".to_owned(),
            };
            let where_to = if self.path.is_empty() {
                "at the top level".to_owned()
            } else {
                format!("in `{}`", self.path)
            };
            let allowed = format!("allowed {where_to}: {}", self.known.join(", "));
            context.diagnostics.push(Diagnostic::error(message, place, label).help(allowed));
        }
    }
}

/// The closest of `known`, if it is close.
pub(super) fn suggestion<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Whether [`table`](super::values::table) can read it: also what was written into a variable or a flag.
pub(super) fn is_table(node: &Node) -> bool {
    match &node.value {
        Value::Table(_) => true,
        Value::Text(text) => {
            text.trim_start().starts_with('{') && matches!(resolve(&node.value), Ok(Value::Table(_)))
        }
        _ => false,
    }
}

/// Text from the environment, read as a TOML value where the wanted type is not a string.
pub(super) fn resolve(value: &Value) -> Result<Value, Option<String>> {
    resolve_at(value, &Place::Default(String::new()))
}

/// The same, and everything in it stands where the node does.
pub(super) fn resolve_node(node: &Node) -> Result<Value, Option<String>> {
    resolve_at(&node.value, &node.place)
}

fn resolve_at(value: &Value, place: &Place) -> Result<Value, Option<String>> {
    match value {
        Value::Text(text) => parse_value(text, place)
            .map(|node| node.value)
            .map_err(|error| Some(format!("cannot read the value as TOML: {error}"))),
        other => Ok(other.clone()),
    }
}
