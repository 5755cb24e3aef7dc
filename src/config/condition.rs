//! The `when` of a hook: one question to the environment.

use super::document::Value;
use super::reader::FromNode;
use std::ffi::OsStr;

/// `env.NAME`, `not env.NAME`, `env.NAME == 'value'` or `env.NAME != 'value'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub variable: String,
    pub test: Test,
}

/// What is asked of the variable. Set means set and not empty, as in `[ -n "$X" ]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Set,
    NotSet,
    Equals(String),
    Differs(String),
}

impl Condition {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let forms = "write env.NAME, not env.NAME, env.NAME == 'value' or env.NAME != 'value'";
        let text = text.trim();
        let (negated, rest) = match text.strip_prefix("not ").or_else(|| text.strip_prefix('!')) {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let rest = rest.strip_prefix("env.").ok_or(forms)?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (variable, rest) = rest.split_at(end);
        if variable.is_empty() {
            return Err(forms.to_owned());
        }
        let rest = rest.trim();
        let test = if rest.is_empty() {
            if negated { Test::NotSet } else { Test::Set }
        } else if let Some(value) = rest.strip_prefix("==").and_then(|value| unquote(value.trim())) {
            if negated { Test::Differs(value) } else { Test::Equals(value) }
        } else if let Some(value) = rest.strip_prefix("!=").and_then(|value| unquote(value.trim())) {
            if negated { Test::Equals(value) } else { Test::Differs(value) }
        } else {
            return Err(forms.to_owned());
        };
        Ok(Self { variable: variable.to_owned(), test })
    }

    /// Asks `environment`, which answers the value of a variable.
    pub fn holds<'e>(&self, environment: impl FnOnce(&str) -> Option<&'e OsStr>) -> bool {
        let value = environment(&self.variable).filter(|value| !value.is_empty());
        match &self.test {
            Test::Set => value.is_some(),
            Test::NotSet => value.is_none(),
            Test::Equals(wanted) => value.unwrap_or_default() == OsStr::new(wanted),
            Test::Differs(unwanted) => value.unwrap_or_default() != OsStr::new(unwanted),
        }
    }
}

fn unquote(text: &str) -> Option<String> {
    ['\'', '"'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inner.contains(*quote)).then(|| inner.to_owned())
    })
}

impl FromNode for Condition {
    const EXPECTED: &'static str = "a condition such as \"env.RUN_MIGRATIONS == 'true'\"";

    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::String(text) | Value::Text(text) => Self::parse(text).map_err(Some),
            _ => Err(None),
        }
    }

    fn show(&self) -> String {
        let Self { variable, test } = self;
        match test {
            Test::Set => format!("env.{variable}"),
            Test::NotSet => format!("not env.{variable}"),
            Test::Equals(value) => format!("env.{variable} == '{value}'"),
            Test::Differs(value) => format!("env.{variable} != '{value}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_the_environment() {
        for (text, value, holds) in [
            ("env.X", Some("1"), true),
            ("env.X", Some(""), false),
            ("env.X", None, false),
            ("not env.X", None, true),
            ("!env.X", Some("1"), false),
            ("env.X == 'true'", Some("true"), true),
            ("env.X == 'true'", None, false),
            ("env.X == \"\"", None, true),
            ("env.X != 'true'", Some("false"), true),
            ("not env.X == 'true'", Some("false"), true),
        ] {
            let condition = Condition::parse(text).expect(text);
            assert_eq!(condition.holds(|_| value.map(OsStr::new)), holds, "{text} with {value:?}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "X", "env.", "env.X = 'a'", "env.X == a", "env.X && env.Y", "env.X == 'it's'"] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }
}
