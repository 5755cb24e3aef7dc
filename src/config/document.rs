//! A tree of values in which every key and value knows its place.

use super::diagnostics::{Diagnostic, Diagnostics, Place, SourceId};
use toml::de::{DeTable, DeValue};

/// One value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// From an environment variable or a flag: text until a reader says what
    /// type it wants.
    Text(String),
    /// A float or a date: no key takes one.
    Other(&'static str),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Keys in the order written, each with its own place.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<(String, Place, Node)>,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<(&Place, &Node)> {
        self.entries.iter().find(|(name, ..)| name == key).map(|(_, place, node)| (place, node))
    }

    /// The node under `key`, made with `make` where there is none.
    pub(super) fn entry(&mut self, key: &str, place: &Place, make: impl FnOnce() -> Value) -> &mut Node {
        let index = self.entries.iter().position(|(name, ..)| name == key).unwrap_or_else(|| {
            self.entries.push((key.to_owned(), place.clone(), Node { value: make(), place: place.clone() }));
            self.entries.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or pushed one line above")]
        let (_, _, node) = &mut self.entries[index];
        node
    }
}

/// Parses a whole document; syntax errors become findings and what could be
/// read is returned all the same.
pub(super) fn parse(text: &str, source: SourceId, diagnostics: &mut Diagnostics) -> Table {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let place = Place::Written { source, span };
        diagnostics.push_broken(Diagnostic::error(
            format!("cannot read the TOML: {}", error.message()),
            &place,
            "",
        ));
    }
    table(document.get_ref(), source)
}

/// Parses one TOML value, as an environment variable holds it.
pub(super) fn parse_value(text: &str, place: &Place) -> Result<Node, String> {
    let parsed = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    let mut node = Node { value: value(parsed.get_ref(), SourceId::default()), place: place.clone() };
    place_all(&mut node, place);
    Ok(node)
}

fn place_all(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Array(items) => items.iter_mut().for_each(|item| place_all(item, place)),
        Value::Table(table) => {
            for (_, key_place, item) in &mut table.entries {
                *key_place = place.clone();
                place_all(item, place);
            }
        }
        _ => {}
    }
}

fn table(parsed: &DeTable<'_>, source: SourceId) -> Table {
    let mut entries: Vec<(String, Place, Node)> = parsed
        .iter()
        .map(|(key, item)| {
            let place = Place::Written { source, span: key.span() };
            let node = Node {
                value: value(item.get_ref(), source),
                place: Place::Written { source, span: item.span() },
            };
            (key.get_ref().to_string(), place, node)
        })
        .collect();
    entries.sort_by_key(|(_, place, _)| match place {
        Place::Written { span, .. } => span.start,
        Place::Default(_) => 0,
    });
    Table { entries }
}

fn value(parsed: &DeValue<'_>, source: SourceId) -> Value {
    match parsed {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an integer that is too large"), Value::Integer),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node {
                    value: value(item.get_ref(), source),
                    place: Place::Written { source, span: item.span() },
                })
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(table(inner, source)),
    }
}
