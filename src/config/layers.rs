//! File, environment and flags, put on top of each other.

use super::diagnostics::{Diagnostic, Diagnostics, Place};
use super::document::{Node, Table, Value, parse};
use super::expand::expand;
use super::journal::Entry;
use super::reader::{Context, Reader};
use super::sections::Config;
use super::{DEFAULT_PATH, VARIABLE_PREFIX};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything that configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The whole environment; configuration is picked from it.
    pub environment: Vec<(OsString, OsString)>,
    /// `--set section.key=value`, in order.
    pub overrides: Vec<String>,
    /// Keep a journal of every key, for `bookend check`.
    pub explain: bool,
}

/// Reads all layers. Findings are in the returned [`Diagnostics`]; the
/// [`Config`] is only to be acted on if there are none.
pub fn load(inputs: &Inputs) -> (Config, Vec<Entry>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let mut root = Table::default();
    let file = chosen_file(inputs);
    let mut written = false;
    if let Some((path, asked)) = file {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let source = diagnostics.add_source(path.display().to_string(), text.clone());
                root = parse(&text, source, &mut diagnostics);
                expand(&mut root, &inputs.environment, &mut diagnostics);
                written = true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && asked == Asked::ByNobody => {}
            Err(error) => refuse_file(&path, asked, &error, &mut diagnostics),
        }
    }
    // In the order of the keys, not of the environment, which has none: ECS
    // hands it over as it lies in a map. `HOOK__0` comes before `HOOK__1`.
    let ours = |name: &OsString| name.as_bytes().starts_with(VARIABLE_PREFIX.as_bytes());
    let mut variables: Vec<&(OsString, OsString)> =
        inputs.environment.iter().filter(|(name, _)| ours(name)).collect();
    variables.sort_by_cached_key(|(name, _)| order(&name.to_string_lossy()));
    for (name, value) in variables {
        written |= apply_variable(&mut root, name, value, &mut diagnostics);
    }
    for text in &inputs.overrides {
        written = true;
        apply_override(&mut root, text, &mut diagnostics);
    }
    if diagnostics.is_broken() {
        root = Table::default();
    }
    let mut context = Context { diagnostics, journal: inputs.explain.then(Vec::new) };
    let config = Config::read(Reader::root(&root), written, &mut context);
    (config, context.journal.unwrap_or_default(), context.diagnostics)
}

/// Key by key, numbers as numbers, a table before what is in it.
fn order(name: &str) -> Vec<(u64, String)> {
    name.split("__").map(|key| (key.parse().unwrap_or(u64::MAX), key.to_owned())).collect()
}

/// What a value may be shown as in an error: not at all where secrets are.
fn shown<'v>(path: &str, value: &'v str) -> &'v str {
    let path = path.to_ascii_uppercase();
    let is_environment = path.split(['.', '_']).any(|key| key == "ENV");
    let words = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"];
    if is_environment || words.iter().any(|word| path.contains(word)) { "…" } else { value }
}

/// Who wants that file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    OnCommandLine,
    ByVariable,
    ByNobody,
}

fn refuse_file(path: &Path, asked: Asked, error: &std::io::Error, diagnostics: &mut Diagnostics) {
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let (who, help) = match (asked, is_missing) {
        (Asked::ByVariable, true) => {
            (", which BOOKEND_CONFIG names", "create it, or set BOOKEND_CONFIG= to run without one")
        }
        (_, true) => (", which the command line names", "create it, or name another"),
        (_, false) => ("", "make it readable for the user that bookend runs as, and UTF-8"),
    };
    let message = format!("cannot read the configuration {}{who}: {error}", path.display());
    diagnostics.push_broken(Diagnostic::general(message).help(help));
}

/// The file, and who named it: then it must exist.
fn chosen_file(inputs: &Inputs) -> Option<(PathBuf, Asked)> {
    if let Some(path) = &inputs.file {
        return Some((path.clone(), Asked::OnCommandLine));
    }
    let named = inputs.environment.iter().find(|(name, _)| name == "BOOKEND_CONFIG");
    match named {
        Some((_, path)) if path.is_empty() => None,
        Some((_, path)) => Some((PathBuf::from(path), Asked::ByVariable)),
        None => Some((PathBuf::from(DEFAULT_PATH), Asked::ByNobody)),
    }
}

/// `BOOKEND_STOP__GRACE=45s` sets `stop.grace`. Variables without `__` are not
/// configuration. Returns whether this one was.
fn apply_variable(
    root: &mut Table,
    name: &OsString,
    value: &OsString,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some(name) = name.to_str() else { return false };
    let Some(path) = name.strip_prefix(VARIABLE_PREFIX).filter(|path| path.contains("__")) else {
        return false;
    };
    let text = value.to_string_lossy();
    let line = format!("{name}={}", shown(path, &text));
    let source = diagnostics.add_source(format!("environment variable {name}"), line.clone());
    let place = Place::Written { source, span: name.len() + 1..line.len() };
    if value.to_str().is_none() {
        diagnostics.push(Diagnostic::error("cannot read a value that is not UTF-8", &place, ""));
        return true;
    }
    let mut keys: Vec<String> = path.split("__").map(str::to_owned).collect();
    // Names under an `env` table are the user's own; all of ours are lower case.
    let own = keys.iter().position(|key| key.eq_ignore_ascii_case("env")).map_or(keys.len(), |at| at + 1);
    for key in keys.iter_mut().take(own) {
        key.make_ascii_lowercase();
    }
    if own < keys.len() {
        // The variable's own name may hold `__`.
        let name = keys.split_off(own).join("__");
        keys.push(name);
    }
    set(root, &keys, &text, &place, diagnostics);
    true
}

fn apply_override(root: &mut Table, text: &str, diagnostics: &mut Diagnostics) {
    let Some((path, value)) = text.split_once('=') else {
        let source = diagnostics.add_source(format!("flag --set {text}"), text.to_owned());
        let place = Place::Written { source, span: 0..text.len() };
        diagnostics.push(
            Diagnostic::error("cannot read --set", &place, "there is no `=`")
                .help("write it as --set stop.grace=45s"),
        );
        return;
    };
    let line = format!("{path}={}", shown(path, value));
    let source = diagnostics.add_source(format!("flag --set {path}"), line.clone());
    let place = Place::Written { source, span: path.len() + 1..line.len() };
    let keys: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    set(root, &keys, value, &place, diagnostics);
}

/// Walks down `keys`, making what is missing, and puts the text there. A number
/// picks an element of an array (`hook.0.timeout`), or adds the next one.
fn set(root: &mut Table, keys: &[String], text: &str, place: &Place, diagnostics: &mut Diagnostics) {
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let mut table = root;
    let mut parents = parents.iter().peekable();
    while let Some(key) = parents.next() {
        let index = parents.peek().and_then(|next| next.parse::<usize>().ok());
        let node = table.entry(key, place, || match index {
            Some(_) => Value::Array(Vec::new()),
            None => Value::Table(Table::default()),
        });
        let node = match index.filter(|_| matches!(node.value, Value::Array(_))) {
            None => node,
            Some(index) => {
                parents.next();
                match element(node, index, place) {
                    Ok(item) => item,
                    Err(count) => {
                        let message = format!("cannot set `{}`", keys.join("."));
                        let label = format!("`{key}` has {count} elements; the next one is number {count}");
                        diagnostics.push(Diagnostic::error(message, place, label));
                        return;
                    }
                }
            }
        };
        let kind = node.value.kind();
        let Value::Table(inner) = &mut node.value else {
            let message = format!("cannot set `{}`", keys.join("."));
            diagnostics.push(Diagnostic::error(message, place, format!("`{key}` is {kind}, not a table")));
            return;
        };
        table = inner;
    }
    let node = table.entry(last, place, || Value::Text(String::new()));
    *node = Node { value: Value::Text(text.to_owned()), place: place.clone() };
}

/// Element `index` of an array of tables, added if it is the next one; else how many there are.
fn element<'n>(node: &'n mut Node, index: usize, place: &Place) -> Result<&'n mut Node, usize> {
    let Value::Array(items) = &mut node.value else {
        return Err(0);
    };
    if index == items.len() {
        items.push(Node { value: Value::Table(Table::default()), place: place.clone() });
    }
    let count = items.len();
    items.get_mut(index).ok_or(count)
}
