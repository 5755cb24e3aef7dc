//! `${NAME}` and `${NAME:-default}` in the strings of the file: from bookend's own environment.
//!
//! Commands and templates stay as they are: a shell, or whoever fills a template, has the same
//! signs, and knows more variables. `$${` is a plain `${`.

use super::diagnostics::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use std::ffi::OsString;

/// What others than we replace variables in.
const VERBATIM: [&str; 5] = ["command", "exec", "template", "on", "body"];

pub(super) fn expand(table: &mut Table, environment: &[(OsString, OsString)], diagnostics: &mut Diagnostics) {
    for (key, _, node) in &mut table.entries {
        if !VERBATIM.contains(&key.as_str()) {
            expand_node(node, environment, diagnostics);
        }
    }
}

fn expand_node(node: &mut Node, environment: &[(OsString, OsString)], diagnostics: &mut Diagnostics) {
    match &mut node.value {
        Value::Table(table) => expand(table, environment, diagnostics),
        Value::Array(items) => {
            for item in items {
                expand_node(item, environment, diagnostics);
            }
        }
        Value::String(text) if text.contains("${") => {
            let variable = |name: &str| {
                let found = environment.iter().find(|(key, _)| key == name)?;
                found.1.to_str().filter(|value| !value.is_empty()).map(str::to_owned)
            };
            match expanded(text, variable) {
                Ok(new) => *text = new,
                Err(name) => diagnostics.push(
                    Diagnostic::error(
                        format!("the variable {name} is not set"),
                        &node.place,
                        "it is used here",
                    )
                    .help(format!("set it, or write ${{{name}:-default}}; $${{ is a plain ${{")),
                ),
            }
        }
        _ => {}
    }
}

/// # Errors
/// The name that is not set.
fn expanded(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        let Some((inner, behind)) = after.split_once('}') else { break };
        out.push_str(before);
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        match (variable(name), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(name.to_owned()),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_their_defaults() {
        let variable = |name: &str| (name == "A").then(|| "1".to_owned());
        let done = |text: &str| expanded(text, variable);
        assert_eq!(done("${A}/${B:-2}/$A/$${A}/${B:-}"), Ok("1/2/$A/${A}/".to_owned()));
        assert_eq!(done("${B}"), Err("B".to_owned()));
        assert_eq!(done("${A"), Ok("${A".to_owned()));
    }
}
